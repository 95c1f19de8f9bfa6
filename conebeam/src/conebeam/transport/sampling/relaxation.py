"""Atomic relaxation: fluorescence that follows a vacancy in K, L1, L2 or L3.

Fluorescence yields, line rates and Coster–Kronig probabilities as xraylib tabulates
them; a K line leaves a vacancy in L which is followed in turn.

Not modelled: the L vacancies that a K Auger electron leaves (below 5 % of K vacancies
in W and Pb), M and outer lines (below 4 keV).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import inlined
from conebeam.transport.rng import uniform


@inlined
def sample_transition(
    line_first: NDArray[np.int32],
    line_cumulative: NDArray[np.float32],
    line_energy: NDArray[np.float32],
    line_next: NDArray[np.int32],
    vacancy: int,
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, np.float32, int]:
    """Draw what fills a vacancy; one number.

    Returns
    -------
    counter
    energy : float32
        Of the photon emitted, keV; zero if there is none.
    vacancy : int
        The one left behind, −1 if it is not followed.
    """
    counter, value = uniform(counter, step)
    for i in range(line_first[vacancy], line_first[vacancy + 1]):
        if value < line_cumulative[i]:
            return counter, line_energy[i], int(line_next[i])
    return counter, np.float32(0.0), -1
