"""Compton scattering: Klein–Nishina times the incoherent scattering function S(x).

The ratio ε = E'/E is drawn from the Klein–Nishina formula by composition and
rejection (Nelson, Hirayama, Rogers, SLAC-265, section 2.9); the rejection includes
S(x)/Z of the material, a sum over free atoms.

Not modelled: Doppler broadening.  The scattered energy is that of an electron at
rest; the broadening of some hundred eV has no first-order effect on dose.

References
----------
J. H. Hubbell et al., J. Phys. Chem. Ref. Data 4 (1975) 471, doi:10.1063/1.555523 (S).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from conebeam import constants
from conebeam.compilation import inlined
from conebeam.transport.rng import pair, uniform
from conebeam.transport.sampling.momentum import place

_ONE, _TWO, _HALF = np.float32(1.0), np.float32(2.0), np.float32(0.5)
_PER_REST = np.float32(1.0 / constants.ELECTRON_REST_KEV)
_PER_HC = np.float32(1.0 / constants.PLANCK_C_KEV_ANGSTROM)


@inlined
def sample_compton(
    incoherent: NDArray[np.float32],
    material: int,
    energy: np.float32,
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, np.float32, np.float32]:
    """Draw a scattered photon; two 64-bit numbers a try.

    Parameters
    ----------
    incoherent : array, shape (M, T)
        S per electron on the momentum grid.
    energy : float32
        keV.

    Returns
    -------
    counter, energy (keV), cosine
    """
    k = energy * _PER_REST
    least = _ONE / (_ONE + _TWO * k)
    least2 = least * least
    low = -math.log(least)
    both = low + _HALF * (_ONE - least2)
    half_k2 = _HALF * (energy * _PER_HC) ** 2
    while True:
        counter, choice, value = pair(counter, step)
        counter, accept = uniform(counter, step)
        ratio = math.exp(-low * value) if choice * both < low else math.sqrt(least2 + (_ONE - least2) * value)
        lost = min(_TWO, (_ONE - ratio) / (k * ratio))
        lost = max(lost, np.float32(0.0))
        sine2 = lost * (_TWO - lost)
        i, f = place(half_k2 * lost)
        s = incoherent[material, i] + f * (incoherent[material, i + 1] - incoherent[material, i])
        if accept <= (_ONE - ratio * sine2 / (_ONE + ratio * ratio)) * s:
            return counter, energy * ratio, _ONE - lost
