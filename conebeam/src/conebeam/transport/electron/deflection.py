"""Deflection of an electron by many collisions, or by one, from quantile tables.

See :mod:`conebeam.data.electrons.goudsmit_saunderson` for the tables.  Between two energies of
the table one is chosen at random in proportion to the logarithm.
"""

from __future__ import annotations

import math

import numpy as np

from conebeam.compilation import inlined, kernel
from conebeam.data.electrons.goudsmit_saunderson import BODY, TAIL, TAIL_FROM
from conebeam.data.electrons.grids import ANGLE_ENERGIES, RATE_STEP_KEV
from conebeam.transport.electron.tables import ANGLES, AZIMUTHS, Electrons
from conebeam.transport.rng import uniform, uniform64

_PER_STEP = 1.0 / RATE_STEP_KEV
_LAST = ANGLE_ENERGIES.size - 1
_BODY, _TAIL = BODY / TAIL_FROM, TAIL / (1.0 - TAIL_FROM)
_HALF, _NEARLY = 0.5, 1.5


@inlined
def place(energy: float) -> tuple[int, float]:
    """Row of the rates at or below an energy, and the way to the next, 0 to 1."""
    at = energy * _PER_STEP
    i = int(at)
    return i, at - i


@inlined
def rate(e: Electrons, i: int, f: float, column: int) -> float:
    """One of the rates at a place."""
    low: float = e.rates[i, column]
    high: float = e.rates[i + 1, column]
    return low + f * (high - low)


@kernel
def sample_deflection(
    e: Electrons, level: int, i: int, f: float, counter: np.uint64, step: np.uint64
) -> tuple[np.uint64, float]:
    """Cosine of the deflection on a step of a level's length; two numbers.

    Parameters
    ----------
    level : int
        0 to 5: κ = 2⁻⁵ … 1; 6: a single collision.
    i, f : int, float
        Place of the energy.
    """
    counter, a = uniform(counter, step)
    row = min(int(rate(e, i, f, ANGLES) + a), _LAST)
    counter, xi = uniform64(counter, step)
    at = xi * _BODY if xi < TAIL_FROM else BODY + (xi - TAIL_FROM) * _TAIL
    q = int(at)
    low = float(e.quantiles[level, row, q])
    u = low + (at - q) * (float(e.quantiles[level, row, q + 1]) - low)
    half = float(e.half[level, row])
    return counter, 1.0 - 2.0 * half * u / (1.0 + half - u)


@kernel
def turned(x: float, y: float, z: float, cosine: float, c: float, s: float) -> tuple[float, float, float]:
    """A unit vector turned by an angle, towards an azimuth given by its cosine and sine."""
    sine = math.sqrt(max(0.0, 1.0 - cosine * cosine))
    across2 = x * x + y * y
    if across2 < 1e-18:
        return sine * c, sine * s, cosine if z > 0.0 else -cosine
    across = math.sqrt(across2)
    per = sine / across
    a = per * (x * z * c - y * s) + x * cosine
    b = per * (y * z * c + x * s) + y * cosine
    d = z * cosine - across * sine * c
    # One Newton step back onto the unit sphere.
    scale = _NEARLY - _HALF * (a * a + b * b + d * d)
    return a * scale, b * scale, d * scale


@kernel
def sample_azimuth(e: Electrons, counter: np.uint64, step: np.uint64) -> tuple[np.uint64, float, float]:
    """Cosine and sine of one of 4096 azimuths; one number."""
    counter, value = uniform64(counter, step)
    i = int(value * AZIMUTHS)
    return counter, e.turns[i, 0], e.turns[i, 1]
