"""Photoelectric absorption: which shell of which element takes the photon.

Shares of elements by their cross sections, of shells by shell cross sections
(L. Kissel, Radiat. Phys. Chem. 59 (2000) 185, doi:10.1016/S0969-806X(00)00290-5).
Only shells that may emit photons above the cut are told apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import inlined
from conebeam.transport.rng import uniform


@inlined
def sample_vacancy(
    channel_first: NDArray[np.int32],
    channel_vacancy: NDArray[np.int32],
    channel_share: NDArray[np.float32],
    material: int,
    index: int,
    fraction: np.float32,
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, int]:
    """Draw the vacancy left behind, or −1 where it cannot emit; at most one number.

    Parameters
    ----------
    index, fraction : int, float32
        Place in the energy grid.
    """
    first, last = channel_first[material], channel_first[material + 1]
    if first == last:
        return counter, -1
    counter, left = uniform(counter, step)
    for c in range(first, last):
        share = channel_share[index, c]
        share += fraction * (channel_share[index + 1, c] - share)
        left -= share
        if left < np.float32(0.0):
            return counter, int(channel_vacancy[c])
    return counter, -1
