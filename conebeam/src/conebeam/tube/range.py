"""How far electrons of an energy get: the range in continuous slowing down."""

from __future__ import annotations

import numpy as np

from conebeam.data.electrons.grids import MIN_ENERGY_KEV
from conebeam.data.electrons.stopping import stopping_power
from conebeam.data.electrons.targets import Target


def csda_range_cm(target: Target, energy_kev: float) -> float:
    """∫ dE/S from 1 keV on, collisions alone (radiation shortens it by some per cent)."""
    energies = np.geomspace(MIN_ENERGY_KEV, energy_kev, 400)
    return float(np.trapezoid(1.0 / stopping_power(target, energies, np.inf), energies))
