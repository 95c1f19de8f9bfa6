"""Planar scorers: fluence spectra and air kerma on a rectangle or disc.

A photon that crosses the plane adds w/|cos θ| per area, in the bin of its energy or
times its kerma response.  Near grazing incidence 1/|cos θ| has no finite variance:
below |cos θ| = 0.01 its mean over that range for a uniform angular flux, 2/0.01, is
taken instead.

References
----------
J. F. Briesmeister (ed.), MCNP manual LA-13709-M (2000), section 2.V.B (surface flux).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import kernel

GRAZING = 0.01
_CLOSED = 1e-6  # bins


class Planes(NamedTuple):
    """P windows in transport coordinates, float64.

    A hit at centre + a·(half axis across) + b·(half axis along) counts where |a|, |b| ≤ 1
    or a² + b² ≤ 1; ``across`` and ``along`` are the half axes over their squares.
    """

    centre: NDArray[np.float64]  # (P, 3)
    normal: NDArray[np.float64]  # (P, 3), unit
    across: NDArray[np.float64]  # (P, 3)
    along: NDArray[np.float64]  # (P, 3)
    circle: NDArray[np.uint8]  # (P,)
    area: NDArray[np.float64]  # (P,), cm2
    low: NDArray[np.float64]  # (P,), keV: start of the spectrum
    scale: NDArray[np.float64]  # (P,), bins per keV; 0 scores the response in one bin
    bins: NDArray[np.int64]  # (P,)
    sum_first: NDArray[np.int64]  # (P + 1,)
    response: NDArray[np.float64]  # (P, n), on the energy grid: keV cm2/g


@kernel
def score_planes(
    planes: Planes,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
    length: float,
    energy: float,
    weight: float,
    index: int,
    fraction: float,
    sums: NDArray[np.float64],
) -> None:
    """Score a straight flight that starts at a point and ends after ``length`` cm."""
    for p in range(planes.area.size):
        n, c = planes.normal[p], planes.centre[p]
        slope = n[0] * u + n[1] * v + n[2] * w
        if slope == 0.0:
            continue
        t = (n[0] * (c[0] - x) + n[1] * (c[1] - y) + n[2] * (c[2] - z)) / slope
        # Half-open: a plane at the end of one flight is the start of the next.
        if not 0.0 < t <= length:
            continue
        dx, dy, dz = x + t * u - c[0], y + t * v - c[1], z + t * w - c[2]
        a = dx * planes.across[p, 0] + dy * planes.across[p, 1] + dz * planes.across[p, 2]
        b = dx * planes.along[p, 0] + dy * planes.along[p, 1] + dz * planes.along[p, 2]
        if planes.circle[p] == 1:
            if a * a + b * b > 1.0:
                continue
        elif abs(a) > 1.0 or abs(b) > 1.0:
            continue
        cosine = abs(slope)
        score = weight / planes.area[p] / (cosine if cosine > GRAZING else 0.5 * GRAZING)
        if planes.scale[p] == 0.0:
            below = planes.response[p, index]
            score *= below + fraction * (planes.response[p, index + 1] - below)
            sums[planes.sum_first[p]] += score
        elif energy >= planes.low[p]:
            at = (energy - planes.low[p]) * planes.scale[p]
            if at <= planes.bins[p] + _CLOSED:  # the last bin holds its upper edge, up to rounding
                sums[planes.sum_first[p] + min(np.int64(at), planes.bins[p] - 1)] += score
