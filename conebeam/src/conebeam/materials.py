"""Materials: mass fractions and density, a library of common ones, formulas.

Compositions: NIST/ICRU (water, air, PMMA, glass; NISTIR 4999, Hubbell and Seltzer),
ICRU Report 44 and ICRP tissues as tabulated by NIST, and the elements at their usual
densities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from conebeam.data import elements
from conebeam.errors import DataError

_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Material:
    """A mixture of elements.

    Parameters
    ----------
    name : str
    density_g_cm3 : float
    fractions : mapping of symbol to mass fraction
        Must sum to 1 within 0.1 %; scaled to sum to 1.

    Raises
    ------
    DataError
        On an unknown element, a fraction or density that is not positive and finite,
        or a wrong sum.
    """

    name: str
    density_g_cm3: float
    fractions: Mapping[str, float]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.density_g_cm3) and self.density_g_cm3 > 0.0):
            raise DataError(f"the density of '{self.name}' must be positive, not {self.density_g_cm3} g/cm3")
        if not self.fractions:
            raise DataError(f"material '{self.name}' must have at least one element, not none")
        for symbol, fraction in self.fractions.items():
            elements.atomic_number(symbol)
            if not (math.isfinite(fraction) and fraction > 0.0):
                raise DataError(
                    f"the mass fraction of {symbol} in '{self.name}' must be positive, not {fraction}"
                )
        total = math.fsum(self.fractions.values())
        if abs(total - 1.0) > _TOLERANCE:
            raise DataError(
                f"the mass fractions of '{self.name}' must sum to 1, not {total:.6g}; "
                "check the list or scale it"
            )
        scaled = {symbol: fraction / total for symbol, fraction in self.fractions.items()}
        object.__setattr__(self, "fractions", scaled)

    def by_number(self) -> tuple[tuple[int, float], ...]:
        """(atomic number, mass fraction), by rising atomic number."""
        return tuple(sorted((elements.atomic_number(s), f) for s, f in self.fractions.items()))


def from_formula(name: str, formula: str, density_g_cm3: float) -> Material:
    """A compound such as ``CsI`` or ``C5H8O2``.

    Raises
    ------
    DataError
        If the formula cannot be read.
    """
    import xraylib

    try:
        parsed = xraylib.CompoundParser(formula)
    except ValueError:
        raise DataError(f"the formula of '{name}' must read like H2O or CsI, not '{formula}'") from None
    grams = {
        xraylib.AtomicNumberToSymbol(z): count * elements.atomic_weight(z)
        for z, count in zip(parsed["Elements"], parsed["nAtoms"], strict=True)
    }
    total = math.fsum(grams.values())
    fractions = {symbol: mass / total for symbol, mass in grams.items()}
    return Material(name=name, density_g_cm3=density_g_cm3, fractions=fractions)


def _library() -> dict[str, Material]:
    mixtures: dict[str, tuple[float, dict[str, float]]] = {
        "water": (1.0, {"H": 0.111894, "O": 0.888106}),
        "air": (1.20479e-3, {"C": 0.000124, "N": 0.755268, "O": 0.231781, "Ar": 0.012827}),
        "PMMA": (1.19, {"H": 0.080538, "C": 0.599848, "O": 0.319614}),
        "polyethylene": (0.94, {"H": 0.143716, "C": 0.856284}),
        "polystyrene": (1.06, {"H": 0.077421, "C": 0.922579}),
        "PTFE": (2.2, {"C": 0.240183, "F": 0.759817}),
        "soft tissue": (1.06, {
            "H": 0.102, "C": 0.143, "N": 0.034, "O": 0.708, "Na": 0.002, "P": 0.003, "S": 0.003,
            "Cl": 0.002, "K": 0.003,
        }),
        "lung": (0.26, {
            "H": 0.103, "C": 0.105, "N": 0.031, "O": 0.749, "Na": 0.002, "P": 0.002, "S": 0.003,
            "Cl": 0.003, "K": 0.002,
        }),
        "cortical bone": (1.92, {
            "H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103,
            "S": 0.003, "Ca": 0.225,
        }),
        "spongiosa": (1.18, {
            "H": 0.085, "C": 0.404, "N": 0.028, "O": 0.367, "Na": 0.001, "Mg": 0.001, "P": 0.034,
            "S": 0.002, "Cl": 0.002, "K": 0.001, "Ca": 0.074, "Fe": 0.001,
        }),
        "adipose": (0.95, {
            "H": 0.114, "C": 0.598, "N": 0.007, "O": 0.278, "Na": 0.001, "S": 0.001, "Cl": 0.001,
        }),
        "muscle": (1.05, {
            "H": 0.102, "C": 0.143, "N": 0.034, "O": 0.710, "Na": 0.001, "P": 0.002, "S": 0.003,
            "Cl": 0.001, "K": 0.004,
        }),
        "brain": (1.04, {
            "H": 0.107, "C": 0.145, "N": 0.022, "O": 0.712, "Na": 0.002, "P": 0.004, "S": 0.002,
            "Cl": 0.003, "K": 0.003,
        }),
        "blood": (1.06, {
            "H": 0.102, "C": 0.110, "N": 0.033, "O": 0.745, "Na": 0.001, "P": 0.001, "S": 0.002,
            "Cl": 0.003, "K": 0.002, "Fe": 0.001,
        }),
        "glass": (2.23, {
            "B": 0.040066, "O": 0.539559, "Na": 0.028191, "Al": 0.011644, "Si": 0.377220,
            "K": 0.003321,
        }),
        "CsI": (4.51, {"I": 0.488451, "Cs": 0.511549}),
        "Gd2O2S": (7.44, {"O": 0.084527, "S": 0.084704, "Gd": 0.830769}),
    }  # fmt: skip
    pure = {
        "Be": 1.848, "C": 2.0, "Al": 2.699, "Ti": 4.54, "Fe": 7.874, "Cu": 8.96, "Mo": 10.22,
        "Ag": 10.5, "Sn": 7.31, "Ta": 16.654, "W": 19.3, "Au": 19.32, "Pb": 11.35, "Rh": 12.41,
    }  # fmt: skip
    found = {
        name: Material(name=name, density_g_cm3=density, fractions=fractions)
        for name, (density, fractions) in mixtures.items()
    }
    for symbol, density in pure.items():
        found[symbol] = Material(name=symbol, density_g_cm3=density, fractions={symbol: 1.0})
    for alias, name in {"bone": "cortical bone", "fat": "adipose", "lead": "Pb"}.items():
        old = found[name]
        found[alias] = Material(name=alias, density_g_cm3=old.density_g_cm3, fractions=old.fractions)
    return found


LIBRARY: Mapping[str, Material] = _library()


def library_densities() -> dict[str, float]:
    """Density of each library material, g/cm³."""
    return {name: material.density_g_cm3 for name, material in LIBRARY.items()}


def material(name: str) -> Material:
    """A library material.

    Raises
    ------
    DataError
        Lists what there is.
    """
    if name not in LIBRARY:
        raise DataError(
            f"material '{name}' must be one of the library: {', '.join(sorted(LIBRARY))}; "
            "or define it by fractions or a formula"
        )
    return LIBRARY[name]
