"""Temperatures, as Linux's thermal zones tell them: docs.kernel.org/driver-api/thermal/sysfs-api.html."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrim.device import files


@dataclass(frozen=True, kw_only=True)
class Zone:
    """One sensor: its name, what it sits on, degrees Celsius."""

    name: str
    kind: str
    temp_c: float


def zones(root: Path = Path("/sys")) -> list[Zone]:
    """All thermal zones under a root folder; none where the machine has none.

    Raises
    ------
    DeviceError
        If a zone's file is missing, no number, or absurd (below -50 or above 200 degrees).
    """
    return [
        Zone(
            name=path.name,
            kind=files.text(path / "type"),
            temp_c=files.number(path / "temp", least=-50_000, most=200_000, what="millidegrees Celsius")
            / 1000,
        )
        for path in files.folders(root / "class" / "thermal", "thermal_zone*")
    ]
