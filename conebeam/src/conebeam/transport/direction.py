"""Directions: turning by a polar angle and a random azimuth, and isotropic ones."""

from __future__ import annotations

import math

import numpy as np

from conebeam.compilation import kernel
from conebeam.transport.rng import pair, uniform

_ZERO, _ONE, _TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_HALF, _NEARLY = np.float32(0.5), np.float32(1.5)
_POLE = np.float32(1e-6)


@kernel
def azimuth(counter: np.uint64, step: np.uint64) -> tuple[np.uint64, np.float32, np.float32]:
    """Cosine and sine of a random azimuth: a point in the unit disc, by rejection."""
    while True:
        counter, a, b = pair(counter, step)
        a = _TWO * a - _ONE
        b = _TWO * b - _ONE
        r2 = a * a + b * b
        if r2 <= _ONE and r2 > _POLE:
            scale = _ONE / math.sqrt(r2)
            return counter, a * scale, b * scale


@kernel
def turn(
    u: np.float32,
    v: np.float32,
    w: np.float32,
    cosine: np.float32,
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, np.float32, np.float32, np.float32]:
    """Turn a unit vector by an angle about a random azimuth."""
    counter, c, s = azimuth(counter, step)
    sine = math.sqrt(max(_ZERO, (_ONE - cosine) * (_ONE + cosine)))
    c *= sine
    s *= sine
    across2 = _ONE - w * w
    if across2 > _POLE:
        across = math.sqrt(across2)
        per = _ONE / across
        nu = u * cosine + per * (u * w * c - v * s)
        nv = v * cosine + per * (v * w * c + u * s)
        nw = w * cosine - across * c
    else:
        nu, nv = c, s
        nw = cosine if w > _ZERO else -cosine
    # One Newton step back onto the unit sphere: float32 drifts.
    scale = _NEARLY - _HALF * (nu * nu + nv * nv + nw * nw)
    return counter, nu * scale, nv * scale, nw * scale


@kernel
def isotropic(counter: np.uint64, step: np.uint64) -> tuple[np.uint64, np.float32, np.float32, np.float32]:
    """A direction spread evenly over the sphere."""
    counter, value = uniform(counter, step)
    w = _TWO * value - _ONE
    counter, c, s = azimuth(counter, step)
    sine = math.sqrt(max(_ZERO, _ONE - w * w))
    return counter, sine * c, sine * s, w
