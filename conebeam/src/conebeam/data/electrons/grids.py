"""Grids that the tables of electrons share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_ENERGY_KEV = 150.0
# Rates: evenly spaced, found without a search.
RATE_STEP_KEV = 0.25
RATE_ENERGIES: NDArray[np.float64] = RATE_STEP_KEV * np.arange(
    round(MAX_ENERGY_KEV / RATE_STEP_KEV) + 1, dtype=np.float64
)
# Below this energy no electron is followed and tables are held constant.
MIN_ENERGY_KEV = 1.0
# Angles: evenly spaced in the logarithm.
ANGLE_LOW_KEV = 3.0
ANGLE_ENERGIES: NDArray[np.float64] = np.geomspace(ANGLE_LOW_KEV, MAX_ENERGY_KEV, 28)
