"""Profiles of devices as TOML files: those in the package, and those of users.

format = "retrim-device"
version = 1
name = "board"
title = "A board with four small cores"
battery = { capacity_mwh = 10000, source = "its label" }
[[cluster]]
name = "little"
cores = 4
sources = ["where the numbers are from"]
macs_per_cycle = { fp32 = 1.0 }
power = { core_uw_per_mhz_v2 = 90.0 }
points = [{ mhz = 400, volts = 1.0 }, { mhz = 1400, volts = 1.275 }]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from retrim.device.battery import Battery
from retrim.device.checks import table, words
from retrim.device.cluster import Cluster
from retrim.device.device import Device
from retrim.device.point import OperatingPoint
from retrim.device.power import PowerModel
from retrim.errors import DeviceError

FORMAT, VERSION = "retrim-device", 1
_MOST_BYTES = 1 << 20


def names() -> list[str]:
    """Names of the built-in devices."""
    folder = resources.files("retrim.device") / "profiles"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def find(name: str) -> Device:
    """A built-in device by its name, or one from a file by its path.

    Raises
    ------
    DeviceError
        If there is neither, or the file is no profile of a device.
    """
    if name in names():
        text = (resources.files("retrim.device") / "profiles" / f"{name}.toml").read_text("utf-8")
        return parse(text, name)
    if name.endswith(".toml") or _is_file(name):
        return read(Path(name))
    raise DeviceError(
        f"device must be one of {', '.join(names())}, `this`, or a TOML file's path, not {name!r}"
    )


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # no file can have such a name
        return False


def read(path: Path) -> Device:
    """Read a profile from a file.

    Raises
    ------
    DeviceError
        If it cannot be read or is no profile of a device.
    """
    name = repr(str(path))
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DeviceError(f"device profile {name} must be a TOML file below 1 MiB: name another file")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        words_ = getattr(error, "strerror", None) or "it is no text"
        raise DeviceError(f"device profile {name} must be a file that can be read: {words_}") from None
    return parse(text, str(path))


def parse(text: str, origin: str) -> Device:
    """Read a profile from text; `origin` names it in messages.

    Raises
    ------
    DeviceError
    """
    try:
        found = tomllib.loads(text)
        if found.get("format") != FORMAT:
            raise DeviceError(f"format must be {FORMAT!r}, not {found.get('format')!r}")
        if found.get("version") != VERSION:
            raise DeviceError(f"version must be {VERSION}, not {found.get('version')!r}: upgrade retrim")
        return _device(found)
    except (ValueError, DeviceError, RecursionError) as error:
        raise DeviceError(f"device profile {origin!r}: {error}") from None


def _device(found: Mapping[str, Any]) -> Device:
    table(
        "the file",
        found,
        needs=("format", "version", "name", "title", "cluster"),
        may=("battery", "notes"),
    )
    if not isinstance(found["cluster"], list):
        raise DeviceError("cluster must be a list of tables ([[cluster]])")
    battery = None
    if "battery" in found:
        battery = Battery(
            **table("battery", found["battery"], needs=("capacity_mwh",), may=("efficiency", "source"))
        )
    return Device(
        name=words("name", found["name"]),
        title=words("title", found["title"]),
        clusters=tuple(_cluster(item) for item in found["cluster"]),
        battery=battery,
        notes=_texts("notes", found.get("notes", [])),
    )


def _cluster(found: Any) -> Cluster:
    table("a cluster", found, needs=("name", "cores", "points"), may=("power", "macs_per_cycle", "sources"))
    name = words("a cluster's name", found["name"])
    if not isinstance(found["points"], list):
        raise DeviceError(f"points of cluster {name!r} must be a list of tables")
    points = tuple(
        OperatingPoint(
            **table(f"a point of cluster {name!r}", point, needs=("mhz",), may=("volts", "milliwatts"))
        )
        for point in found["points"]
    )
    power = None
    if "power" in found:
        keys = ("shared_uw_per_mhz_v2", "static_ma")
        power = PowerModel(
            **table(f"power of cluster {name!r}", found["power"], needs=("core_uw_per_mhz_v2",), may=keys)
        )
        if any(point.volts is None for point in points):
            raise DeviceError(f"points of cluster {name!r} must say volts, for its power is modelled")
    return Cluster(
        name=name,
        cores=found["cores"],
        points=points,
        power=power,
        macs_per_cycle=dict(
            table("macs_per_cycle", found.get("macs_per_cycle", {}), may=("fp32", "bf16", "fp16", "int8"))
        ),
        sources=_texts(f"sources of cluster {name!r}", found.get("sources", [])),
    )


def _texts(name: str, found: Any) -> tuple[str, ...]:
    if not isinstance(found, list):
        raise DeviceError(f"{name} must be a list of texts, not {found!r}")
    return tuple(words(name, item) for item in found)
