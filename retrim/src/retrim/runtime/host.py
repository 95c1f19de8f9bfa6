"""What machine this is, as every result names it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from retrim.runtime import isa

_PACKAGES = ("retrim", "numpy", "torch", "onnxruntime", "openvino")


def describe() -> dict[str, Any]:
    """Processor, instruction sets, cores, system and versions, ready for JSON."""
    return {
        "cpu": processor(),
        "isa": isa.available(),
        "isa_selected": isa.selected(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := version_of(name))},
    }


def processor() -> str:
    """Name of the processor, with its family and model where the system knows them."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields: dict[str, str] = {}
        for line in info.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        name = fields.get("model name", platform.machine())
        numbers = [f"{k.split()[-1]} {fields[k]}" for k in ("cpu family", "model") if k in fields]
        return f"{name} ({', '.join(numbers)})" if numbers else name
    return platform.processor() or platform.machine()


def version_of(name: str) -> str | None:
    """Version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
