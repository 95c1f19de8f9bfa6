"""Bremsstrahlung: photon energies by rejection, angles by Kissel, Quarles and Pratt.

See :mod:`conebeam.data.electrons.bremsstrahlung` for the tables.
"""

from __future__ import annotations

import math

import numpy as np

from conebeam.compilation import embedded, kernel
from conebeam.data.electrons.bremsstrahlung import (
    CHI_RATIOS,
    CHI_STEP_KEV,
    SHAPE_COSINES,
    SHAPE_RATIOS,
    SHAPE_STEP_KEV,
)
from conebeam.transport.electron.tables import Electrons
from conebeam.transport.rng import uniform64

_PER_CHI, _PER_SHAPE, _HALF_COSINES = 1.0 / CHI_STEP_KEV, 1.0 / SHAPE_STEP_KEV, 0.5 * SHAPE_COSINES


@embedded
def scaled(e: Electrons, energy: float, ratio: float) -> float:
    """χ(E, k/E) in mb."""
    at = energy * _PER_CHI
    i = min(int(at), e.chi.shape[0] - 2)
    f: float = at - i
    across = ratio * CHI_RATIOS
    j = min(int(across), CHI_RATIOS - 1)
    g = across - j
    low: float = (1.0 - g) * e.chi[i, j] + g * e.chi[i, j + 1]
    high: float = (1.0 - g) * e.chi[i + 1, j] + g * e.chi[i + 1, j + 1]
    return low + f * (high - low)


@embedded
def angular(e: Electrons, energy: float, ratio: float, cosine: float, value: float) -> float:
    """Density over the sphere times 4π; one of two energies of the table, by a random number."""
    i = min(int(energy * _PER_SHAPE + value), e.shape.shape[0] - 1)
    across = ratio * SHAPE_RATIOS
    j = min(int(across), SHAPE_RATIOS - 1)
    g = across - j
    at = (cosine + 1.0) * _HALF_COSINES
    n = min(int(at), SHAPE_COSINES - 1)
    h = at - n
    low = float(e.shape[i, j, n]) + h * (float(e.shape[i, j, n + 1]) - float(e.shape[i, j, n]))
    high = float(e.shape[i, j + 1, n])
    high += h * (float(e.shape[i, j + 1, n + 1]) - high)
    return low + g * (high - low)


@kernel
def sample_energy(
    e: Electrons, energy: float, counter: np.uint64, step: np.uint64
) -> tuple[np.uint64, float]:
    """Photon energy from the cut to the electron's, keV; two numbers a try."""
    span = math.log(energy / e.cut)
    i = min(int(energy * _PER_CHI), e.chi.shape[0] - 2)
    # χ falls with k/E but for a few per cent.
    bound = 1.15 * max(e.chi[i, 0], e.chi[i + 1, 0])
    while True:
        counter, value = uniform64(counter, step)
        counter, accept = uniform64(counter, step)
        k = e.cut * math.exp(span * value)
        if accept * bound < scaled(e, energy, k / energy):
            return counter, k


@kernel
def sample_cosine(
    e: Electrons, energy: float, ratio: float, counter: np.uint64, step: np.uint64
) -> tuple[np.uint64, float]:
    """Cosine of a photon to the electron; three numbers a try."""
    bound = e.shape_bound[min(int(energy * _PER_SHAPE), e.shape_bound.size - 1)]
    while True:
        counter, value = uniform64(counter, step)
        counter, accept = uniform64(counter, step)
        counter, choice = uniform64(counter, step)
        cosine = 2.0 * value - 1.0
        if accept * bound < angular(e, energy, ratio, cosine, choice):
            return counter, cosine
