"""Overlaps and gaps: cells of one priority that share space, and space that none fills.

Deterministic quasi-random points (Roberts' additive recurrence on the generalised
golden ratio) in the box that two cells share, and points pulled onto every
surface by Newton's method and set off to both sides of it, where thin overlaps
and cracks are.  A check by points: an overlap thinner than ``_THIN_CM`` or smaller
than the spacing of the points may go unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import GeometryError
from conebeam.geometry.cells import Cell, Geometry, LatticeCell
from conebeam.geometry.rotation import Vector
from conebeam.geometry.surfaces import evaluate, gradient

_GOLDEN = 1.2207440846057596
_THIN_CM = 1e-6
_OFFSETS_CM = (1e-5, 1e-3)
_NEWTON_STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Two cells of one priority and a point in both."""

    first: str
    second: str
    priority: int
    point_cm: Vector


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A point that belongs to no cell, and the cell nearest to it."""

    nearest: str
    point_cm: Vector


def find_overlaps(geometry: Geometry, *, points: int = 4096) -> tuple[Overlap, ...]:
    """Pairs of cells of one priority that share space, each with a point.

    Parameters
    ----------
    geometry : Geometry
    points : int
        Quasi-random points tried per pair of cells whose boxes touch.
    """
    found = []
    for a, b in combinations(geometry.cells, 2):
        if a.priority != b.priority:
            continue
        box = _common(a.bounds(), b.bounds())
        if np.any(box[0] >= box[1]):
            continue
        tried = _probes(box, (a, b), points)
        both = _well_inside(a, tried) & _well_inside(b, tried)
        if both.any():
            found.append(
                Overlap(first=a.name, second=b.name, priority=a.priority,
                        point_cm=_vector(tried[int(np.argmax(both))]))
            )  # fmt: skip
    return tuple(found)


def find_gaps(
    geometry: Geometry, *, within: NDArray[np.float64] | None = None, points: int = 16384
) -> tuple[Gap, ...]:
    """Points of a box that no cell fills, at most one per nearest cell.

    Parameters
    ----------
    within : array, shape (2, 3), optional
        Box that should be full; the geometry's own bounds if left out.
    """
    box = geometry.bounds() if within is None else np.asarray(within, dtype=np.float64)
    tried = _probes(box, geometry.cells, points)
    empty = tried[geometry.locate(tried) < 0]
    found: dict[str, Gap] = {}
    for point in empty[:256]:
        nearest = min(geometry.cells, key=lambda cell: _violation(cell, point))
        found.setdefault(nearest.name, Gap(nearest=nearest.name, point_cm=_vector(point)))
    return tuple(found.values())


def check_geometry(geometry: Geometry, *, points: int = 4096) -> None:
    """Refuse a geometry whose cells overlap by mistake.

    Raises
    ------
    GeometryError
        Names the two cells, a point, and the remedy.
    """
    for overlap in find_overlaps(geometry, points=points):
        x, y, z = overlap.point_cm
        raise GeometryError(
            f"cells of one priority must not overlap, not '{overlap.first}' and "
            f"'{overlap.second}' (both priority {overlap.priority}) at "
            f"({x:.6g}, {y:.6g}, {z:.6g}) cm; give the one that should win a higher priority"
        )


def quasi_random(box: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Evenly spread points in a box, shape (count, 3); the same at every call.

    References
    ----------
    M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018):
    p_n = frac(1/2 + n·(g⁻¹, g⁻², g⁻³)) with g⁴ = g + 1.
    """
    steps = _GOLDEN ** -np.arange(1.0, 4.0)
    unit = np.mod(0.5 + np.arange(1, count + 1)[:, None] * steps, 1.0)
    spread: NDArray[np.float64] = box[0] + unit * (box[1] - box[0])
    return spread


def _probes(
    box: NDArray[np.float64], cells: tuple[Cell | LatticeCell, ...], count: int
) -> NDArray[np.float64]:
    limited = np.stack((np.maximum(box[0], -1e4), np.minimum(box[1], 1e4)))
    spread = quasi_random(limited, count)
    surfaces = {half.coefficients for cell in cells for half in cell.half_spaces()}
    near = [spread]
    for coefficients in sorted(surfaces):
        near.extend(_beside(np.asarray(coefficients), spread[: max(256, count // 16)]))
    everywhere = np.concatenate(near)
    strictly = np.all((everywhere > limited[0]) & (everywhere < limited[1]), axis=1)
    return everywhere[strictly]


def _beside(coefficients: NDArray[np.float64], points: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    pulled = points.copy()
    for _ in range(_NEWTON_STEPS):
        slope = gradient(coefficients, pulled)
        square = np.maximum((slope**2).sum(axis=1), 1e-12)
        pulled -= (evaluate(coefficients, pulled) / square)[:, None] * slope
    slope = gradient(coefficients, pulled)
    normal = slope / np.maximum(np.linalg.norm(slope, axis=1), 1e-12)[:, None]
    return [pulled + side * offset * normal for offset in _OFFSETS_CM for side in (-1.0, 1.0)]


def _well_inside(cell: Cell | LatticeCell, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    inside = np.ones(len(points), dtype=np.bool_)
    for half in cell.half_spaces():
        inside &= half.value(points) < -_THIN_CM
    return inside


def _violation(cell: Cell | LatticeCell, point: NDArray[np.float64]) -> float:
    return max(float(half.value(point[None, :])[0]) for half in cell.half_spaces())


def _common(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack((np.maximum(a[0], b[0]), np.minimum(a[1], b[1])))


def _vector(point: NDArray[np.float64]) -> Vector:
    return float(point[0]), float(point[1]), float(point[2])
