"""A collision: which process, and what comes out of it.

Electrons deposit their energy where they are set free.  Below 150 keV their CSDA
range in water is under 0.3 mm and scales with 1/density (1.1 mm in lung), small
against dose voxels of 2.5 mm; what is lost is the build-up within the first tenths
of a millimetre and the like at interfaces.

The particle record, as far as a bank of secondaries holds it: columns of ``bank`` are
x, y, z, u, v, w, energy, weight; columns of ``marks`` are kind (0 photon), primary
history and latch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import inlined
from conebeam.transport import physics as tables
from conebeam.transport.direction import isotropic, turn
from conebeam.transport.physics import Physics
from conebeam.transport.rng import uniform
from conebeam.transport.sampling.compton import sample_compton
from conebeam.transport.sampling.photoelectric import sample_vacancy
from conebeam.transport.sampling.rayleigh import sample_rayleigh
from conebeam.transport.sampling.relaxation import sample_transition

BANK_SIZE = 32
PHOTON = 0
LATCH_COMPTON, LATCH_RAYLEIGH, LATCH_FLUORESCENCE = 1, 2, 4

_ZERO = np.float32(0.0)
_BITS, _SHIFT = tables.ONE_BITS, tables.ENERGY_SHIFT


@inlined
def energy_place(
    energies: NDArray[np.float32], first: NDArray[np.int32], energy: np.float32
) -> tuple[int, np.float32]:
    """Index of the grid point at or below an energy, and the way to the next, 0 to 1."""
    i = int(first[(np.int64(np.float32(energy).view(np.int32)) - _BITS) >> _SHIFT])
    while energy >= energies[i + 1]:
        i += 1
    return i, (energy - energies[i]) / (energies[i + 1] - energies[i])


@inlined
def collide(
    physics: Physics,
    cut: np.float32,
    material: int,
    index: int,
    fraction: np.float32,
    total: np.float32,
    photo: np.float32,
    photo_compton: np.float32,
    x: float,
    y: float,
    z: float,
    u: np.float32,
    v: np.float32,
    w: np.float32,
    energy: np.float32,
    weight: np.float32,
    history: int,
    latch: int,
    bank: NDArray[np.float64],
    marks: NDArray[np.int64],
    banked: int,
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, np.float32, np.float32, np.float32, np.float32, float, int, int]:
    """Draw a process and carry it out.

    Returns
    -------
    counter
    energy : float32
        Of the photon that goes on, zero if none does.
    u, v, w : float32
    emitted : float
        Energy put into the bank as fluorescence, keV (one photon's worth of weight).
    latch, banked : int
    """
    emitted = 0.0
    counter, value = uniform(counter, step)
    value *= total
    if value < photo:
        counter, vacancy = sample_vacancy(
            physics.channel_first, physics.channel_vacancy, physics.channel_share,
            material, index, fraction, counter, step,
        )  # fmt: skip
        while vacancy >= 0:
            counter, line, vacancy = sample_transition(
                physics.line_first, physics.line_cumulative, physics.line_energy,
                physics.line_next, vacancy, counter, step,
            )  # fmt: skip
            if line > cut and banked < BANK_SIZE:
                counter, bu, bv, bw = isotropic(counter, step)
                bank[banked, 0], bank[banked, 1], bank[banked, 2] = x, y, z
                bank[banked, 3], bank[banked, 4], bank[banked, 5] = bu, bv, bw
                bank[banked, 6], bank[banked, 7] = line, weight
                marks[banked, 0], marks[banked, 1] = PHOTON, history
                marks[banked, 2] = latch | LATCH_FLUORESCENCE
                emitted += float(line)
                banked += 1
        return counter, _ZERO, u, v, w, emitted, latch, banked
    if value < photo_compton:
        latch |= LATCH_COMPTON
        counter, energy, cosine = sample_compton(physics.incoherent, material, energy, counter, step)
        if energy <= cut:
            return counter, _ZERO, u, v, w, emitted, latch, banked
    else:
        latch |= LATCH_RAYLEIGH
        counter, cosine = sample_rayleigh(physics.coherent, physics.momenta, material, energy, counter, step)
    counter, u, v, w = turn(u, v, w, cosine, counter, step)
    return counter, energy, u, v, w, emitted, latch, banked
