"""Where photons start: point, parallel or pencil, with an energy from a spectrum.

An isotropic point within a field: points are drawn evenly over the field and accepted
with probability (d/r)³, r being the distance to the source and d the least distance of
any point of the field's plane within it, since dΩ = h dA/r³.

Energies come from bins by Walker's alias method, evenly within a bin.  Where the field has columns
(:mod:`conebeam.sources.columns`) the point comes first, accepted with the column's intensity over
the largest besides, and the energy is drawn from the column's spectrum.

References
----------
A. J. Walker, ACM Trans. Math. Softw. 3 (1977) 253, doi:10.1145/355744.355749.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from conebeam.compilation import inlined, kernel
from conebeam.geometry.borrow import lent
from conebeam.sources.columns import Columns
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
    chance: NDArray[np.float64]  # (m,), of a column to be accepted; m is 0 without columns
    cathode: NDArray[np.float64]  # (3,), columns per cm along the field
    column_keep: NDArray[np.float64]  # (m, n), alias method
    column_other: NDArray[np.int64]  # (m, n)


@kernel
def _borrowed_emission(e: Emission) -> Emission:
    return Emission(
        e.kind, e.shape, lent(e.position), lent(e.direction), lent(e.centre), lent(e.across), lent(e.along),
        e.nearest, lent(e.keep), lent(e.other), lent(e.low), lent(e.width), lent(e.chance), lent(e.cathode),
        lent(e.column_keep), lent(e.column_other),
    )  # fmt: skip


def _emission(e: Emission) -> Emission:
    return e


# Without reference counts, as :mod:`conebeam.geometry.borrow` says; without compilation there are none.
borrowed_emission = _emission if getattr(config, "DISABLE_JIT", 0) else _borrowed_emission


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
    columns: Columns | None = None,
    cathode: NDArray[np.float64] | None = None,
) -> Emission:
    """Source as arrays; ``origin`` (world) becomes the transport's zero.

    With columns the spectrum must be on their bins; ``cathode`` is then the unit vector in the
    field's plane in which they follow each other, shape (3,).
    """
    zero = np.asarray(origin)
    keep, other = _alias(spectrum.weight)
    count = 0 if columns is None else len(columns.intensity)
    chance, step = np.zeros(count), np.zeros(3)
    column_keep, column_other = np.zeros((count, len(keep))), np.zeros((count, len(keep)), dtype=np.int64)
    if columns is not None and cathode is not None:
        chance = columns.chance
        for i, weight in enumerate(columns.intensity):
            column_keep[i], column_other[i] = _alias(weight)
        normal = np.cross(across, along) / np.linalg.norm(np.cross(across, along))
        step = cathode * (0.5 * count / columns.reach / abs(float((centre - position) @ normal)))

    def flat(a: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ascontiguousarray(a, dtype=np.float64)

    return Emission(
        kind, shape, flat(position - zero), flat(direction), flat(centre - zero), flat(across), flat(along),
        _nearest(shape, position - centre, across, along), keep, other,
        spectrum.low.copy(), spectrum.high - spectrum.low, chance, step, column_keep, column_other,
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


@kernel
def emit_column(
    e: Emission, counter: np.uint64, step: np.uint64
) -> tuple[np.uint64, float, float, float, float, float, float, np.float32]:
    """Draw a photon of a point whose field has columns: what :func:`emit` returns.

    Three numbers for each point tried, two for the energy.
    """
    x, y, z = e.position[0], e.position[1], e.position[2]
    count = e.chance.size
    while True:
        counter, a = uniform64(counter, step)
        counter, b = uniform64(counter, step)
        counter, accept = uniform64(counter, step)
        a, b = 2.0 * a - 1.0, 2.0 * b - 1.0
        if e.shape == CIRCLE and a * a + b * b > 1.0:
            continue
        u = e.centre[0] + a * e.across[0] + b * e.along[0] - x
        v = e.centre[1] + a * e.across[1] + b * e.along[1] - y
        w = e.centre[2] + a * e.across[2] + b * e.along[2] - z
        r = math.sqrt(u * u + v * v + w * w)
        ratio = e.nearest / r
        place = 0.5 * count + u * e.cathode[0] + v * e.cathode[1] + w * e.cathode[2]
        column = min(max(np.int64(place), np.int64(0)), np.int64(count - 1))
        if accept <= ratio * ratio * ratio * e.chance[column]:
            break
    counter, value = uniform64(counter, step)
    value *= e.low.size
    i = min(np.int64(value), np.int64(e.low.size - 1))
    if value - i >= e.column_keep[column, i]:
        i = e.column_other[column, i]
    counter, value = uniform64(counter, step)
    return counter, x, y, z, u / r, v / r, w / r, np.float32(e.low[i] + value * e.width[i])


@inlined
def emit(
    e: Emission, counter: np.uint64, step: np.uint64
) -> tuple[np.uint64, float, float, float, float, float, float, np.float32]:
    """Draw a photon: counter, position (cm), direction, energy (keV)."""
    if e.chance.size > 0:
        return emit_column(e, counter, step)
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
