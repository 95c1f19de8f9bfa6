"""Where photons start: point, parallel or pencil, with an energy from a spectrum.

An isotropic point within a field: points are drawn evenly over the field and accepted
with probability (d/r)³, r being the distance to the source and d the least distance of
any point of the field's plane within it, since dΩ = h dA/r³.

Energies come from bins by Walker's alias method, evenly within a bin.

References
----------
A. J. Walker, ACM Trans. Math. Softw. 3 (1977) 253, doi:10.1145/355744.355749.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import inlined
from conebeam.sources.spectrum import Spectrum
from conebeam.transport.rng import uniform64

POINT, PARALLEL, PENCIL = 0, 1, 2
CIRCLE = 1


class Emission(NamedTuple):
    """A source in transport coordinates."""

    kind: int
    shape: int
    position: NDArray[np.float64]  # (3,)
    direction: NDArray[np.float64]  # (3,)
    centre: NDArray[np.float64]  # (3,)
    across: NDArray[np.float64]  # (3,), half axis
    along: NDArray[np.float64]  # (3,), half axis
    nearest: float  # least distance from the source to the field, cm
    keep: NDArray[np.float64]  # (n,), alias method
    other: NDArray[np.int64]  # (n,)
    low: NDArray[np.float64]  # (n,), keV
    width: NDArray[np.float64]  # (n,), keV


def build_emission(
    *,
    kind: int,
    shape: int,
    position: NDArray[np.float64],
    direction: NDArray[np.float64],
    centre: NDArray[np.float64],
    across: NDArray[np.float64],
    along: NDArray[np.float64],
    spectrum: Spectrum,
    origin: tuple[float, float, float],
) -> Emission:
    """Source as arrays; ``origin`` (world) becomes the transport's zero."""
    zero = np.asarray(origin)
    keep, other = _alias(spectrum.weight)

    def flat(a: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ascontiguousarray(a, dtype=np.float64)

    return Emission(
        kind, shape, flat(position - zero), flat(direction), flat(centre - zero), flat(across), flat(along),
        _nearest(shape, position - centre, across, along), keep, other,
        spectrum.low.copy(), spectrum.high - spectrum.low,
    )  # fmt: skip


def _nearest(shape: int, to: NDArray[np.float64], u: NDArray[np.float64], v: NDArray[np.float64]) -> float:
    u2, v2 = float(u @ u), float(v @ v)
    if u2 == 0.0 or v2 == 0.0:
        return 1.0
    a, b = float(to @ u) / u2, float(to @ v) / v2
    if shape == CIRCLE:
        # Half axes of a circle are equal: the nearest point lies on the same radius.
        reach = max(1.0, math.hypot(a, b))
        a, b = a / reach, b / reach
    else:
        a, b = min(1.0, max(-1.0, a)), min(1.0, max(-1.0, b))
    return float(np.linalg.norm(to - a * u - b * v))


def _alias(weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    n = len(weight)
    keep = weight / weight.sum() * n
    other = np.arange(n, dtype=np.int64)
    small = [i for i in range(n) if keep[i] < 1.0]
    large = [i for i in range(n) if keep[i] >= 1.0]
    while small and large:
        low, high = small.pop(), large[-1]
        other[low] = high
        keep[high] -= 1.0 - keep[low]
        if keep[high] < 1.0:
            small.append(large.pop())
    for i in (*small, *large):
        keep[i] = 1.0
    return keep, other


def fluence_ratio(distance_cm: float, half_width_cm: float, half_height_cm: float) -> float:
    """Mean fluence of a point source over a rectangle opposite it, over that at its centre.

    The solid angle Ω of a rectangle of half sides a, b at distance d is
    4 atan(ab / (d √(a² + b² + d²))), and the mean of (d/r)³ over it is Ω d²/(4ab).
    """
    a, b, d = half_width_cm, half_height_cm, distance_cm
    angle = 4.0 * math.atan(a * b / (d * math.sqrt(a * a + b * b + d * d)))
    return angle * d * d / (4.0 * a * b)


@inlined
def emit(
    e: Emission, counter: np.uint64, step: np.uint64
) -> tuple[np.uint64, float, float, float, float, float, float, np.float32]:
    """Draw a photon: counter, position (cm), direction, energy (keV)."""
    energy = e.low[0]
    if e.keep.size > 1 or e.width[0] > 0.0:
        counter, value = uniform64(counter, step)
        value *= e.keep.size
        i = min(np.int64(value), np.int64(e.keep.size - 1))
        if value - i >= e.keep[i]:
            i = e.other[i]
        counter, value = uniform64(counter, step)
        energy = e.low[i] + value * e.width[i]
    energy32 = np.float32(energy)
    x, y, z = e.position[0], e.position[1], e.position[2]
    u, v, w = e.direction[0], e.direction[1], e.direction[2]
    if e.kind == PENCIL:
        return counter, x, y, z, u, v, w, energy32
    while True:
        counter, a = uniform64(counter, step)
        counter, b = uniform64(counter, step)
        a, b = 2.0 * a - 1.0, 2.0 * b - 1.0
        if e.shape == CIRCLE and a * a + b * b > 1.0:
            continue
        px = e.centre[0] + a * e.across[0] + b * e.along[0]
        py = e.centre[1] + a * e.across[1] + b * e.along[1]
        pz = e.centre[2] + a * e.across[2] + b * e.along[2]
        if e.kind == PARALLEL:
            return counter, px, py, pz, u, v, w, energy32
        u, v, w = px - x, py - y, pz - z
        r = math.sqrt(u * u + v * v + w * w)
        ratio = e.nearest / r
        counter, accept = uniform64(counter, step)
        if accept <= ratio * ratio * ratio:
            return counter, x, y, z, u / r, v / r, w / r, energy32
