"""What the running machine says of its clocks, batteries, temperatures and energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrim.device import cpufreq, power_supply, powercap, thermal
from retrim.device.battery import Battery
from retrim.device.cluster import Cluster
from retrim.device.device import Device
from retrim.device.governor import Signals
from retrim.device.point import OperatingPoint
from retrim.errors import DeviceError

SYS = Path("/sys")
_READERS: dict[str, tuple[Callable[[Path], Sequence[Any]], str]] = {
    "cpufreq": (cpufreq.policies, "devices/system/cpu/cpufreq"),
    "power_supply": (power_supply.batteries, "class/power_supply"),
    "thermal": (thermal.zones, "class/thermal"),
    "powercap": (powercap.counters, "class/powercap"),
}


def probe(root: Path = SYS) -> dict[str, Any]:
    """Everything that can be read, ready for JSON.

    Returns
    -------
    dict
        ``cpufreq``, ``power_supply``, ``thermal``, ``powercap``: lists of readings;
        ``missing``: a sentence for each of them that has none, or cannot be read.

    Raises
    ------
    DeviceError
        If `root` is no folder.
    """
    if not root.is_dir():
        raise DeviceError(f"root must be a folder laid out like /sys, not {str(root)!r}")
    found: dict[str, Any] = {"root": str(root)}
    missing: dict[str, str] = {}
    for name, (read, where) in _READERS.items():
        found[name] = []
        try:
            found[name] = [asdict(item) for item in read(root)]
        except DeviceError as error:
            missing[name] = str(error)
            continue
        if not found[name]:
            missing[name] = f"no {name} in {str(root / where)!r}"
    return found | {"missing": missing}


def this(root: Path = SYS) -> Device:
    """The running machine as a device: its clocks and battery.  Voltages and power stay unknown.

    Raises
    ------
    DeviceError
        Without cpufreq, as in most virtual machines, or if a file is absurd.
    """
    policies = cpufreq.policies(root)
    if not policies:
        raise DeviceError(
            f"folder {str(root / 'devices/system/cpu/cpufreq')!r} must have cpufreq policies, but has none (a virtual "
            "machine?): name a built-in device (`retrim device list`), or --root"
        )
    batteries = [reading for reading in power_supply.batteries(root) if reading.full_mwh]
    battery = None
    if batteries:
        total = sum(reading.full_mwh or 0 for reading in batteries)
        battery = Battery(capacity_mwh=total, source="power_supply")
    return Device(
        name="this",
        title="the running machine, from its system's files",
        clusters=tuple(_cluster(policy) for policy in policies),
        battery=battery,
        notes=("Linux tells no voltages: power is unknown, so `retrim simulate` needs another device.",),
    )


def _cluster(policy: cpufreq.Policy) -> Cluster:
    return Cluster(
        name=policy.name,
        cores=max(1, len(policy.cpus)),
        points=tuple(OperatingPoint(mhz=mhz) for mhz in policy.clocks_mhz),
        sources=("cpufreq",),
    )


def signals(
    root: Path = SYS, *, latency_p99_ms: float | None = None, queue: int = 0, cluster: str | None = None
) -> Signals:
    """What a governor needs, read now: the least charged battery, one clock, the hottest zone.

    Parameters
    ----------
    latency_p99_ms, queue
        What the serving process knows and no file does.
    cluster : str, optional
        The cpufreq policy whose clock counts; default the fastest, the last of those that are equally
        fast.

    Raises
    ------
    DeviceError
        Without any battery and clock to read, without that policy, or if a file is absurd.
    """
    policies, batteries = cpufreq.policies(root), power_supply.batteries(root)
    if not policies and not batteries:
        raise DeviceError(
            f"folder {str(root)!r} must have a battery (class/power_supply) or a clock (cpufreq) to govern by, but has "
            "neither: `retrim simulate` shows what the governor would do on a device"
        )
    chosen = [policy for policy in policies if cluster in (None, policy.name)]
    if cluster is not None and not chosen:
        if not policies:
            raise DeviceError(f"cluster must be left out where no clock can be read, not be {cluster!r}")
        names = ", ".join(policy.name for policy in policies)
        raise DeviceError(f"cluster must be one of {names}, not {cluster!r}")
    clock = max(reversed(chosen), key=lambda policy: policy.clocks_mhz[-1], default=None)
    return Signals(
        battery=min((reading.fraction for reading in batteries), default=None),
        freq_mhz=None if clock is None else clock.mhz,
        temp_c=max((zone.temp_c for zone in thermal.zones(root)), default=None),
        latency_p99_ms=latency_p99_ms,
        queue=queue,
    )
