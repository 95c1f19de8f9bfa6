"""Who computed this: versions, processor.  Nothing that changes from run to run."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from conebeam.result import Provenance

_PACKAGES = ("conebeam", "numba", "numpy", "xraylib", "spekpy")


def provenance(*, scene: str, seed: int, versions: Mapping[str, str]) -> Provenance:
    """Provenance of a result made here.

    Parameters
    ----------
    scene : str
        TOML text.
    seed : int
    versions : mapping
        More that decides the numbers: data tables, digests of the scene's files.
    """
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Provenance(scene=scene, seed=seed, versions={**found, **versions}, processors=(processor(),))


def processor() -> str:
    """Name of the processor and its widest vector instructions, e.g. ``AMD EPYC 7R13 (AVX2)``."""
    name, flags = platform.processor() or platform.machine(), ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() == "flags":
            flags = value
            break
    words = set(flags.split())
    for flag, label in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX")):
        if flag in words:
            return f"{name} ({label})"
    return name
