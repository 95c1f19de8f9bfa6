"""An operating point: one pair of voltage and frequency, as in the Linux OPP tables."""

from __future__ import annotations

from dataclasses import dataclass

from retrim.device.checks import number


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A clock, the voltage it needs, and what was measured at it.

    Parameters
    ----------
    mhz : float
    volts : float, optional
        None where the system does not say.
    milliwatts : float, optional
        Measured, with one core busy; None where nobody measured it.

    Raises
    ------
    DeviceError
        If a number is out of range.
    """

    mhz: float
    volts: float | None = None
    milliwatts: float | None = None

    def __post_init__(self) -> None:
        number("mhz", self.mhz, above=True, most=1e5)
        if self.volts is not None:
            number("volts", self.volts, above=True, most=5)
        if self.milliwatts is not None:
            number("milliwatts", self.milliwatts, above=True, most=1e6)
