"""Batteries, as Linux's power_supply tells them: docs.kernel.org/power/power_supply_class.html.

Units there are µV, µA, µW, µWh and µAh; the sign of a current differs between drivers, so its
magnitude is taken and `status` says which way it flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrim.device import files
from retrim.errors import DeviceError

_CELL_VOLTS = (1.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a battery says of itself; None where it does not.

    Attributes
    ----------
    name : str
    status : str
        ``Charging``, ``Discharging``, ``Full``, ``Not charging`` or ``Unknown``.
    fraction : float
        Charge left, 0 to 1.
    volts, milliwatts : float or None
        `milliwatts` drawn or charged, without a sign.
    full_mwh : float or None
    """

    name: str
    status: str
    fraction: float
    volts: float | None
    milliwatts: float | None
    full_mwh: float | None


def batteries(root: Path = Path("/sys")) -> list[Reading]:
    """The batteries that power the machine under a root folder; none where it has none.

    Batteries of mice and the like (``scope`` is ``Device``) are left out.

    Raises
    ------
    DeviceError
        If a battery's file is missing, no number, or absurd.
    """
    found = []
    for path in files.folders(root / "class" / "power_supply", "*"):
        if files.text(path / "type") != "Battery":
            continue
        scope = path / "scope"
        if scope.exists() and files.text(scope) == "Device":
            continue
        if (path / "present").exists() and files.text(path / "present") == "0":
            continue
        found.append(_reading(path))
    return found


def _reading(path: Path) -> Reading:
    volts = _micro(path / "voltage_now", *_CELL_VOLTS, what="microvolts")
    status = path / "status"
    return Reading(
        name=path.name,
        status=files.text(status) if status.exists() else "Unknown",
        fraction=_fraction(path),
        volts=volts,
        milliwatts=_milliwatts(path, volts),
        full_mwh=_full(path, volts),
    )


def _fraction(path: Path) -> float:
    if (path / "capacity").exists():
        return files.number(path / "capacity", least=0, most=100, what="a percentage") / 100
    for kind in ("energy", "charge"):
        now, full = path / f"{kind}_now", path / f"{kind}_full"
        if now.exists() and full.exists():
            whole = files.number(full, least=1, most=1e10, what=f"{kind} when full")
            # a battery may hold a little more than it said when it was last full
            left = files.number(now, least=0, most=1.1 * whole, what=f"{kind} left")
            return min(1.0, left / whole)
    raise DeviceError(
        f"battery {str(path)!r} must say its charge in `capacity`, or in `energy_now` and `energy_full`, but says "
        "neither: name another root, or give the charge yourself"
    )


def _milliwatts(path: Path, volts: float | None) -> float | None:
    power = _micro(path / "power_now", -1e4, 1e4, what="microwatts")
    if power is not None:
        return abs(1000 * power)
    current = _micro(path / "current_now", -1e3, 1e3, what="microamperes")
    return None if current is None or volts is None else abs(1000 * current * volts)


def _full(path: Path, volts: float | None) -> float | None:
    energy = _micro(path / "energy_full", 0, 1e4, what="microwatt-hours")
    if energy is not None:
        return 1000 * energy
    charge = _micro(path / "charge_full", 0, 1e4, what="microampere-hours")
    design = _micro(path / "voltage_min_design", *_CELL_VOLTS, what="microvolts")
    nominal = design or volts
    return None if charge is None or nominal is None else 1000 * charge * nominal


def _micro(path: Path, least: float, most: float, *, what: str) -> float | None:
    found = files.optional(path, least=1e6 * least, most=1e6 * most, what=what)
    return None if found is None else found / 1e6
