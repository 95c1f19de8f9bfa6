"""What electrons of a tube emit: analog at events, or by its expectation at points of the path.

Analog: a bremsstrahlung event or a vacancy splits into a number of photons of equal
weight, and each is followed.  Expected: at points of the path, everything that could be emitted there
is sent to a random point of the field, and sometimes followed inside.
"""

# float32 and float64 meet on purpose in kernels; Numba checks their types, not mypy.
# mypy: disable-error-code="arg-type, assignment"

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import embedded, kernel
from conebeam.histories.tube_photons import expect, expect_isotropic, follow_photon
from conebeam.histories.tube_scores import RADIATED, Aim, Anode, add, place_photon
from conebeam.transport.electron import tables as columns
from conebeam.transport.electron.bremsstrahlung import angular, sample_cosine, sample_energy, scaled
from conebeam.transport.electron.deflection import rate, sample_azimuth, turned
from conebeam.transport.electron.tables import Electrons
from conebeam.transport.physics import Physics
from conebeam.transport.rng import uniform64
from conebeam.transport.sampling.relaxation import sample_transition


class Way(NamedTuple):
    """How histories are run."""

    expected: bool
    single: bool
    split: int
    surface: float  # a step is at most this times the depth
    top: int  # largest level, 0 to 5
    interior: float  # probability to follow a photon of a point inside, expected emission
    cut: float  # of electrons, keV


@kernel
def draw_shell(e: Electrons, i: int, f: float, counter: np.uint64, step: np.uint64) -> tuple[np.uint64, int]:
    """Which shell an electron ionises, 0 to 3 and on for further elements; one number."""
    counter, value = uniform64(counter, step)
    value *= rate(e, i, f, columns.IONISE)
    last = 0
    for shell in range(e.vacancy.size):
        here = rate(e, i, f, columns.SHELL + shell)
        if here > 0.0:
            last = shell
            value -= here
            if value < 0.0:
                return counter, shell
    return counter, last


@kernel
def isotropic64(e: Electrons, counter: np.uint64, step: np.uint64) -> tuple[np.uint64, float, float, float]:
    """A direction spread evenly over the sphere; two numbers."""
    counter, value = uniform64(counter, step)
    counter, ca, sa = sample_azimuth(e, counter, step)
    d = 2.0 * value - 1.0
    sine = math.sqrt(1.0 - d * d)
    return counter, sine * ca, sine * sa, d


@kernel
def relax(
    anode: Anode,
    aim: Aim,
    e: Electrons,
    physics: Physics,
    filters: NDArray[np.float64],
    way: Way,
    history: int,
    shell: int,
    weight: float,
    split: int,
    shows: bool,
    follows: float,
    x: float,
    y: float,
    w: float,
    bank: NDArray[np.float64],
    marks: NDArray[np.int64],
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, float, float, float]:
    """Photons that follow a vacancy made by an electron.

    ``shows``: score their expectation; ``follows``: probability to follow one inside.

    Returns
    -------
    counter
    emitted, shone, lost : float
        Energy given to photons, and what left through face and back, keV.
    """
    emitted, shone, lost = 0.0, 0.0, 0.0
    share = weight / split
    for _ in range(split):
        vacancy = int(e.vacancy[shell])
        while vacancy >= 0:
            counter, line, vacancy = sample_transition(
                physics.line_first, physics.line_cumulative, physics.line_energy, physics.line_next,
                vacancy, counter, step,
            )  # fmt: skip
            k = float(line)
            if k <= e.cut:
                continue
            emitted += k * share
            if shows:
                counter = expect_isotropic(anode, aim, physics, filters, k, share, x, y, w, now, touched, count,
                                           counter, step)  # fmt: skip
            if follows < 1.0:
                counter, value = uniform64(counter, step)
                if value >= follows:
                    continue
            counter, a, b, c = isotropic64(e, counter, step)
            counter, out, gone = follow_photon(
                anode, aim, physics, filters, e.cut, way.expected, history, k, share / follows, x, y, w, a, b, c,
                bank, marks, now, touched, count, counter, step,
            )  # fmt: skip
            shone += out
            lost += gone
    return counter, emitted, shone, lost


@embedded
def expect_path(
    anode: Anode,
    aim: Aim,
    e: Electrons,
    physics: Physics,
    filters: NDArray[np.float64],
    way: Way,
    history: int,
    energy: float,
    s: float,
    i: int,
    f: float,
    x: float,
    y: float,
    w: float,
    a: float,
    b: float,
    c: float,
    bank: NDArray[np.float64],
    marks: NDArray[np.int64],
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
    counter: np.uint64,
    step: np.uint64,
) -> np.uint64:
    """Score all that a path of length s may emit, from one point of it and one photon energy."""
    # dσ/dk dk with k even in its square root: low energies are many, and come out seldom.
    least = math.sqrt(e.cut)
    span = math.sqrt(energy) - least
    counter, value = uniform64(counter, step)
    root = least + span * value
    k = root * root
    ratio = k / energy
    weight = rate(e, i, f, columns.SCALE) * scaled(e, energy, ratio) * 2.0 * span / root * s
    counter, px, py, da, db, dc, up, share = place_photon(anode, aim, x, y, w, counter, step)
    counter, value = uniform64(counter, step)
    density = angular(e, energy, ratio, a * da + b * db + c * dc, value)
    expect(anode, aim, physics, filters, k, weight * density * share, x, y, w, dc, up, px, py,
           now, touched, count)  # fmt: skip
    counter, value = uniform64(counter, step)
    if value < way.interior:
        counter, value = uniform64(counter, step)
        cosine = 2.0 * value - 1.0
        counter, value = uniform64(counter, step)
        density = angular(e, energy, ratio, cosine, value)
        counter, ca, sa = sample_azimuth(e, counter, step)
        da, db, dc = turned(a, b, c, cosine, ca, sa)
        counter, _, _ = follow_photon(
            anode, aim, physics, filters, e.cut, True, history, k, weight * density / way.interior,
            x, y, w, da, db, dc, bank, marks, now, touched, count, counter, step,
        )  # fmt: skip
    ionised = rate(e, i, f, columns.IONISE) * s
    if ionised > 0.0:
        counter, shell = draw_shell(e, i, f, counter, step)
        counter, _, _, _ = relax(
            anode, aim, e, physics, filters, way, history, shell, ionised, 1, True, way.interior, x, y, w,
            bank, marks, now, touched, count, counter, step,
        )  # fmt: skip
    return counter


@kernel
def radiate(
    anode: Anode,
    aim: Aim,
    e: Electrons,
    physics: Physics,
    filters: NDArray[np.float64],
    way: Way,
    history: int,
    energy: float,
    x: float,
    y: float,
    w: float,
    a: float,
    b: float,
    c: float,
    bank: NDArray[np.float64],
    marks: NDArray[np.int64],
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, float, float, float]:
    """A bremsstrahlung event: counter, energy lost, and out of the face and the back, keV."""
    counter, lost_energy = sample_energy(e, energy, counter, step)
    add(RADIATED, lost_energy, now, touched, count)
    shone, lost = 0.0, 0.0
    if way.expected:
        return counter, lost_energy, shone, lost
    k = lost_energy
    for n in range(way.split):
        if n > 0:
            counter, k = sample_energy(e, energy, counter, step)
        counter, cosine = sample_cosine(e, energy, k / energy, counter, step)
        counter, ca, sa = sample_azimuth(e, counter, step)
        da, db, dc = turned(a, b, c, cosine, ca, sa)
        counter, out, gone = follow_photon(
            anode, aim, physics, filters, e.cut, False, history, k, 1.0 / way.split, x, y, w, da, db, dc,
            bank, marks, now, touched, count, counter, step,
        )  # fmt: skip
        shone += out
        lost += gone
    return counter, lost_energy, shone, lost
