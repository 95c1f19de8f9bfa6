"""Møller scattering: an electron that sets another one free.

C. Møller, Ann. Phys. 406 (1932) 531, doi:10.1002/andp.19324060506; sampled from 1/ε² with
rejection (Nelson, Hirayama, Rogers, SLAC-265 (1985), section 2.11).
"""

from __future__ import annotations

import math

import numpy as np

from conebeam import constants
from conebeam.compilation import kernel
from conebeam.transport.rng import uniform64

_REST = constants.ELECTRON_REST_KEV


@kernel
def sample_moller(energy: float, cut: float, counter: np.uint64, step: np.uint64) -> tuple[np.uint64, float]:
    """Energy transferred, keV, from the cut to half the energy; two numbers a try."""
    low = cut / energy
    t1 = (energy / (energy + _REST)) ** 2
    t2 = (2.0 * energy + _REST) * _REST / (energy + _REST) ** 2
    while True:
        counter, value = uniform64(counter, step)
        counter, accept = uniform64(counter, step)
        e = low / (1.0 - value * (1.0 - 2.0 * low))
        r = e / (1.0 - e)
        if accept * (2.0 + 0.25 * t1) < 1.0 + r * r + t1 * e * e - t2 * r:
            return counter, e * energy


@kernel
def scattered_cosine(energy: float, after: float) -> float:
    """Cosine to the incoming direction of an electron that has ``after`` keV of ``energy``."""
    return math.sqrt(after * (energy + 2.0 * _REST) / (energy * (after + 2.0 * _REST)))
