"""Elements a target may be made of, with what their stopping powers need.

References
----------
Mean excitation energies: ICRU Report 37 (1984), table 4.3.  Density effect: R. M.
Sternheimer, M. J. Berger, S. M. Seltzer, At. Data Nucl. Data Tables 30 (1984) 261,
doi:10.1016/0092-640X(84)90002-0, table I.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conebeam import constants
from conebeam.data import elements
from conebeam.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Target:
    """An element as a target.

    Parameters
    ----------
    z : int
    density_g_cm3 : float
    excitation_ev : float
        Mean excitation energy.
    density_effect : tuple
        C, x₀, x₁, a, m, δ₀ of Sternheimer.
    """

    z: int
    density_g_cm3: float
    excitation_ev: float
    density_effect: tuple[float, float, float, float, float, float]

    @property
    def atoms_per_cm3(self) -> float:
        """Number density."""
        return self.density_g_cm3 * constants.AVOGADRO / elements.atomic_weight(self.z)


TARGETS: Mapping[str, Target] = {
    "W": Target(z=74, density_g_cm3=19.3, excitation_ev=727.0,
                density_effect=(5.4059, 0.2167, 3.4960, 0.15509, 2.8447, 0.14)),
    "Mo": Target(z=42, density_g_cm3=10.22, excitation_ev=424.0,
                 density_effect=(4.8793, 0.2267, 3.2784, 0.10525, 3.2549, 0.14)),
    "Rh": Target(z=45, density_g_cm3=12.41, excitation_ev=449.0,
                 density_effect=(4.8008, 0.0576, 3.1069, 0.19205, 2.8633, 0.14)),
    "Cu": Target(z=29, density_g_cm3=8.96, excitation_ev=322.0,
                 density_effect=(4.4190, -0.0254, 3.2792, 0.14339, 2.9044, 0.08)),
}  # fmt: skip


def target(symbol: str) -> Target:
    """An element of the list.

    Raises
    ------
    DataError
        Says which there are.
    """
    if symbol not in TARGETS:
        raise DataError(
            f"the target must be one of {', '.join(TARGETS)} (elements with tables for electrons), not '{symbol}'"
        )
    return TARGETS[symbol]
