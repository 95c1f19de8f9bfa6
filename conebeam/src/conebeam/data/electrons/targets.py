"""Elements and the alloy a target may be made of, with what their stopping powers need.

References
----------
Mean excitation energies: ICRU Report 37 (1984), table 4.3.  Density effect: R. M.
Sternheimer, M. J. Berger, S. M. Seltzer, At. Data Nucl. Data Tables 30 (1984) 261,
doi:10.1016/0092-640X(84)90002-0, table I.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from conebeam import constants
from conebeam.data import elements
from conebeam.errors import DataError

ALLOY, RHENIUM_SHARE = "W-Re", 0.10


@dataclass(frozen=True, kw_only=True)
class Element:
    """An element that electrons are followed in.

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


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a layer of a target is made of.

    Parameters
    ----------
    density_g_cm3 : float
    shares : mapping of symbol to share by mass
        By rising atomic number; sum to 1.
    """

    density_g_cm3: float
    shares: Mapping[str, float]

    @property
    def elements(self) -> tuple[Element, ...]:
        """By rising atomic number."""
        return tuple(ELEMENTS[symbol] for symbol in self.shares)

    @property
    def atoms_per_cm3(self) -> tuple[float, ...]:
        """Number density of each element."""
        return tuple(
            self.density_g_cm3 * share * constants.AVOGADRO / elements.atomic_weight(element.z)
            for element, share in zip(self.elements, self.shares.values(), strict=True)
        )

    @property
    def electrons_per_cm3(self) -> float:
        """All elements' electrons."""
        return sum(n * element.z for n, element in zip(self.atoms_per_cm3, self.elements, strict=True))

    @property
    def electron_shares(self) -> tuple[float, ...]:
        """Share of each element in the electrons; sum to 1."""
        each = [n * element.z for n, element in zip(self.atoms_per_cm3, self.elements, strict=True)]
        return tuple(n / sum(each) for n in each)

    @property
    def excitation_ev(self) -> float:
        """Mean excitation energy: Bragg's rule, ln I averaged over the electrons."""
        if len(self.elements) == 1:
            return self.elements[0].excitation_ev
        pairs = zip(self.electron_shares, self.elements, strict=True)
        return math.exp(sum(share * math.log(element.excitation_ev) for share, element in pairs))


ELEMENTS: Mapping[str, Element] = {
    "Cu": Element(z=29, density_g_cm3=8.96, excitation_ev=322.0,
                  density_effect=(4.4190, -0.0254, 3.2792, 0.14339, 2.9044, 0.08)),
    "Mo": Element(z=42, density_g_cm3=10.22, excitation_ev=424.0,
                  density_effect=(4.8793, 0.2267, 3.2784, 0.10525, 3.2549, 0.14)),
    "Rh": Element(z=45, density_g_cm3=12.41, excitation_ev=449.0,
                  density_effect=(4.8008, 0.0576, 3.1069, 0.19205, 2.8633, 0.14)),
    "W": Element(z=74, density_g_cm3=19.3, excitation_ev=727.0,
                 density_effect=(5.4059, 0.2167, 3.4960, 0.15509, 2.8447, 0.14)),
    "Re": Element(z=75, density_g_cm3=21.02, excitation_ev=736.0,
                  density_effect=(5.3445, 0.0559, 3.4845, 0.15184, 2.8627, 0.08)),
}  # fmt: skip
NAMES = ("W", ALLOY, "Mo", "Rh", "Cu")


def target(name: str, rhenium_share: float = RHENIUM_SHARE) -> Target:
    """A target of the list.

    Parameters
    ----------
    name : str
        W, W-Re, Mo, Rh or Cu.
    rhenium_share : float
        By mass, of W-Re, whose density follows from volumes that add up.

    Raises
    ------
    DataError
        Says which there are, or that the share must lie between 0 and 1.
    """
    if name not in NAMES:
        raise DataError(
            f"the target must be one of {', '.join(NAMES)} (those with tables for electrons), not '{name}'"
        )
    if name != ALLOY:
        return Target(density_g_cm3=ELEMENTS[name].density_g_cm3, shares={name: 1.0})
    if not 0.0 < rhenium_share < 1.0:
        raise DataError(f"the share of rhenium must lie between 0 and 1, not {rhenium_share:g}")
    shares = {"W": 1.0 - rhenium_share, "Re": rhenium_share}
    volume = sum(share / ELEMENTS[symbol].density_g_cm3 for symbol, share in shares.items())
    return Target(density_g_cm3=1.0 / volume, shares=shares)
