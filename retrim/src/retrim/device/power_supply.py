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

    Batteries of mice and the like (``scope`` is ``Device``) are left out, and those that cannot tell
    their charge now.

    Raises
    ------
    DeviceError
        If a battery's file is missing, no number, or absurd.
    """
    found = files.heard(_battery, files.folders(root / "class" / "power_supply", "*"))
    return [reading for reading in found if reading is not None]


def _battery(path: Path) -> Reading | None:
    """A battery that powers the machine; None of anything else."""
    if files.text(path / "type") != "Battery":
        return None
    if _word(path / "scope") == "Device" or _word(path / "present") == "0":
        return None
    return _reading(path)


def _reading(path: Path) -> Reading:
    volts = _micro(path / "voltage_now", *_CELL_VOLTS, what="microvolts")
    return Reading(
        name=path.name,
        status=_word(path / "status") or "Unknown",
        fraction=_fraction(path),
        volts=volts,
        milliwatts=_milliwatts(path, volts),
        full_mwh=_full(path, volts),
    )


def _fraction(path: Path) -> float:
    capacity = path / "capacity"
    percent = files.optional(capacity, least=0, most=100, what="a percentage")
    if percent is not None:
        return percent / 100
    for kind in ("energy", "charge"):
        whole = files.optional(path / f"{kind}_full", least=1, most=1e10, what=f"{kind} when full")
        if whole is None:
            continue
        # a battery may hold a little more than it said when it was last full
        left = files.optional(path / f"{kind}_now", least=0, most=1.1 * whole, what=f"{kind} left")
        if left is not None:
            return min(1.0, left / whole)
    if capacity.exists():
        raise files.SilentError(
            f"battery {str(path)!r} must say its charge, but does not just now: try again"
        )
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


def _word(path: Path) -> str | None:
    """A word; None where there is no such file, or its driver has nothing to say."""
    if not path.exists():
        return None
    try:
        return files.text(path)
    except files.SilentError:
        return None


def _micro(path: Path, least: float, most: float, *, what: str) -> float | None:
    found = files.optional(path, least=1e6 * least, most=1e6 * most, what=what)
    return None if found is None else found / 1e6
