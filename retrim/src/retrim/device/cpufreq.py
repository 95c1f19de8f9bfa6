"""Clocks, as Linux's cpufreq tells them: docs.kernel.org/admin-guide/pm/cpufreq.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrim.device import files
from retrim.errors import DeviceError

_MOST_KHZ = 1e7
_STEADY = 0.01  # a clock that moved by less has not changed


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Processors that share a clock.

    Attributes
    ----------
    name : str
    cpus : tuple of int
    mhz : float
        Now: ``scaling_cur_freq``, what the kernel last asked for on most machines.
    least_mhz, most_mhz : float
        Limits of the hardware.
    available_mhz : tuple of float
        Rising; empty where the driver gives no list.
    governor : str
    """

    name: str
    cpus: tuple[int, ...]
    mhz: float
    least_mhz: float
    most_mhz: float
    available_mhz: tuple[float, ...]
    governor: str

    @property
    def clocks_mhz(self) -> tuple[float, ...]:
        """Rising; the limits where the driver gives no list."""
        return self.available_mhz or tuple(sorted({self.least_mhz, self.most_mhz}))


def policies(root: Path = Path("/sys")) -> list[Policy]:
    """Policies under a root folder; none where the machine has no cpufreq.

    Those whose processors are all switched off are left out.

    Raises
    ------
    DeviceError
        If a file is missing, no number, or absurd.
    """
    parent = root / "devices" / "system" / "cpu" / "cpufreq"
    return files.heard(_policy, files.folders(parent, "policy*"))


def changed(before: Sequence[Policy], after: Sequence[Policy]) -> str | None:
    """What to say where a clock moved between two readings; None where none did."""
    late = {policy.name: policy for policy in after}
    for old in before:
        new = late.get(old.name)
        if new is not None and abs(new.mhz - old.mhz) > _STEADY * old.mhz:
            return (
                f"the clock of {old.name} changed in mid-run, from {old.mhz:g} to {new.mhz:g} MHz: these times mix "
                "clocks; set its governor to `performance` or `userspace` and measure again"
            )
    return None


def _policy(path: Path) -> Policy:
    least, most = (_mhz(path / f"cpuinfo_{end}_freq") for end in ("min", "max"))
    if least > most:
        raise DeviceError(
            f"frequencies of {str(path)!r} must rise from cpuinfo_min_freq to cpuinfo_max_freq, not from {least:g} "
            f"to {most:g} MHz"
        )
    return Policy(
        name=path.name,
        cpus=_cpus(path / "related_cpus"),
        mhz=_mhz(path / "scaling_cur_freq"),
        least_mhz=least,
        most_mhz=most,
        available_mhz=_list(path / "scaling_available_frequencies"),
        governor=files.text(path / "scaling_governor"),
    )


def _mhz(path: Path) -> float:
    return files.number(path, least=1, most=_MOST_KHZ, what="kilohertz") / 1000


def _cpus(path: Path) -> tuple[int, ...]:
    found = files.text(path).split()
    if not all(item.isdecimal() for item in found):
        raise DeviceError(f"file {str(path)!r} must list processors by number, not {' '.join(found)[:40]!r}")
    return tuple(map(int, found))


def _list(path: Path) -> tuple[float, ...]:
    if not path.exists():
        return ()
    found = files.text(path).split()
    if not all(item.isdecimal() and 1 <= int(item) <= _MOST_KHZ for item in found):
        raise DeviceError(f"file {str(path)!r} must list kilohertz, not {' '.join(found)[:40]!r}")
    return tuple(sorted({int(item) / 1000 for item in found}))
