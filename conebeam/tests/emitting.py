"""Photons of a source, drawn one after another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import kernel
from conebeam.sources.emission import Emission, emit
from conebeam.transport.rng import stream


@kernel
def draw(emission: Emission, out: NDArray[np.float64]) -> None:
    """Position, direction and energy of each, into rows of seven."""
    for i in range(out.shape[0]):
        counter, step = stream(9, i)
        counter, x, y, z, u, v, w, energy = emit(emission, counter, step)
        out[i, 0], out[i, 1], out[i, 2] = x, y, z
        out[i, 3], out[i, 4], out[i, 5], out[i, 6] = u, v, w, energy
