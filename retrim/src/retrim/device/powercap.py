"""Energy counters (Intel and AMD RAPL), as Linux's powercap tells them: docs.kernel.org/power/powercap/powercap.html."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrim.device import files
from retrim.errors import DeviceError

_MOST = 1e15


@dataclass(frozen=True, kw_only=True)
class Counter:
    """Energy since some moment.

    Attributes
    ----------
    name : str
        Folder, as ``intel-rapl:0``.
    domain : str
        What is counted, as ``package-0``.
    microjoules : int
    range_microjoules : int
        Where it begins anew.
    """

    name: str
    domain: str
    microjoules: int
    range_microjoules: int


def counters(root: Path = Path("/sys")) -> list[Counter]:
    """Counters under a root folder that can be read now; none where the machine has none.

    Raises
    ------
    DeviceError
        If a counter's file is missing, no number, absurd, or for root alone (as
        ``energy_uj`` is since CVE-2020-8694).
    """
    parent = root / "class" / "powercap"
    counting = [path for path in files.folders(parent, "*-rapl:*") if (path / "energy_uj").exists()]
    return files.heard(_counter, counting)


def milliwatts(before: Counter, after: Counter, seconds: float) -> float:
    """Mean power between two readings of one counter, which may have begun anew once.

    Raises
    ------
    DeviceError
        If the readings are of two counters, or no time lies between them.
    """
    if before.name != after.name or not seconds > 0:
        raise DeviceError(
            f"two readings must be of one counter with time between them, not of {before.name} and {after.name} "
            f"{seconds:g} s apart"
        )
    spent = after.microjoules - before.microjoules
    if spent < 0:
        spent += before.range_microjoules
    return spent / 1000 / seconds


def _counter(path: Path) -> Counter:
    span = files.number(path / "max_energy_range_uj", least=1, most=_MOST, what="microjoules")
    energy = files.number(path / "energy_uj", least=0, most=span, what="microjoules")
    return Counter(
        name=path.name,
        domain=files.text(path / "name"),
        microjoules=int(energy),
        range_microjoules=int(span),
    )
