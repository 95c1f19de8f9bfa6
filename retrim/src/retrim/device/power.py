"""Power of a cluster of cores: charging capacitances at each beat of the clock, and leakage.

    P [mW] = (n · C_core + C_shared) · f · V² / 1000 + I · V

with n busy cores, f in MHz, V in volts, C in µW/(MHz·V²) and the leakage
current I in mA.  Leakage depends on temperature too; here it does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from retrim.device.checks import number


@dataclass(frozen=True, kw_only=True)
class PowerModel:
    """Coefficients of the power of one cluster.

    Parameters
    ----------
    core_uw_per_mhz_v2 : float
        Of each busy core; Linux calls it ``dynamic-power-coefficient``.
    shared_uw_per_mhz_v2 : float
        Of what runs whenever a core does: second-level cache, bus.
    static_ma : float
        Leakage current.

    Raises
    ------
    DeviceError
        If a coefficient is negative or no number.
    """

    core_uw_per_mhz_v2: float
    shared_uw_per_mhz_v2: float = 0.0
    static_ma: float = 0.0

    def __post_init__(self) -> None:
        number("core_uw_per_mhz_v2", self.core_uw_per_mhz_v2, above=True, most=1e6)
        number("shared_uw_per_mhz_v2", self.shared_uw_per_mhz_v2, most=1e6)
        number("static_ma", self.static_ma, most=1e6)

    def busy(self, mhz: float, volts: float, cores: float) -> float:
        """Milliwatts with so many busy cores."""
        switched = cores * self.core_uw_per_mhz_v2 + self.shared_uw_per_mhz_v2
        return switched * mhz * volts**2 / 1000 + self.idle(volts)

    def idle(self, volts: float) -> float:
        """Milliwatts with the clocks stopped and the voltage left on."""
        return self.static_ma * volts

    def with_static(self, milliwatts: float, volts: float) -> PowerModel:
        """The same with so much static power at this voltage."""
        return replace(self, static_ma=number("static power [mW]", milliwatts, most=1e6) / volts)
