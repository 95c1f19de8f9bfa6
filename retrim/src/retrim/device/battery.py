"""A battery: an amount of energy.  Its inner resistance, voltage curve and age are not modelled."""

from __future__ import annotations

from dataclasses import dataclass

from retrim.device.checks import number


@dataclass(frozen=True, kw_only=True)
class Battery:
    """Energy between full and empty.

    Parameters
    ----------
    capacity_mwh : float
        Milliwatt-hours; what a label says in mAh times the nominal voltage.
    efficiency : float
        Of the regulators between the battery and the processor, 0 < efficiency ≤ 1.
    source : str
        Where the number is from.

    Raises
    ------
    DeviceError
        If a number is out of range.
    """

    capacity_mwh: float
    efficiency: float = 1.0
    source: str = ""

    def __post_init__(self) -> None:
        number("capacity_mwh", self.capacity_mwh, above=True, most=1e9)
        number("efficiency", self.efficiency, above=True, most=1.0)

    @property
    def millijoules(self) -> float:
        """What reaches the processor of a full battery."""
        return 3600 * self.capacity_mwh * self.efficiency
