"""Rayleigh scattering: Thomson times the squared form factor F²(x) of free atoms.

t = x² is drawn from F² by inverting its integral, (1 + cos²θ)/2 by rejection; after
J. Baró et al., Nucl. Instrum. Methods B 100 (1995) 31,
doi:10.1016/0168-583X(95)00349-5, section 3.1.

Not modelled: interference between atoms and molecules, which moves scatter within a
few degrees only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conebeam import constants
from conebeam.compilation import inlined
from conebeam.transport.rng import pair
from conebeam.transport.sampling.momentum import place

_ONE, _TWO = np.float32(1.0), np.float32(2.0)
_PER_HC = np.float32(1.0 / constants.PLANCK_C_KEV_ANGSTROM)


@inlined
def sample_rayleigh(
    coherent: NDArray[np.float32],
    momenta: NDArray[np.float32],
    material: int,
    energy: np.float32,
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, np.float32]:
    """Draw the cosine of the scattering angle; one 64-bit number a try.

    Parameters
    ----------
    coherent : array, shape (M, T)
        Integral of F² over t up to each point of ``momenta``.
    momenta : array, shape (T,)
        t in 1/Å².
    """
    largest = (energy * _PER_HC) ** 2
    last, f = place(largest)
    total = coherent[material, last]
    total += f * (coherent[material, last + 1] - total)
    while True:
        counter, value, accept = pair(counter, step)
        wanted = value * total
        low, high = 0, last + 1
        while high - low > 1:
            middle = (low + high) >> 1
            if coherent[material, middle] <= wanted:
                low = middle
            else:
                high = middle
        below = coherent[material, low]
        part = (wanted - below) / (coherent[material, low + 1] - below)
        t = momenta[low] + part * (momenta[low + 1] - momenta[low])
        cosine = max(-_ONE, _ONE - _TWO * t / largest)
        if accept * _TWO <= _ONE + cosine * cosine:
            return counter, cosine
