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
    """Thermal zones under a root folder; none where the machine has none.

    Those whose sensors are switched off are left out.

    Raises
    ------
    DeviceError
        If a zone's file is missing, no number, or absurd (below -50 or above 200 degrees).
    """
    return files.heard(_zone, files.folders(root / "class" / "thermal", "thermal_zone*"))


def _zone(path: Path) -> Zone:
    millidegrees = files.number(path / "temp", least=-50_000, most=200_000, what="millidegrees Celsius")
    return Zone(name=path.name, kind=files.text(path / "type"), temp_c=millidegrees / 1000)
