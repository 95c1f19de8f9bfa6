"""Curves, profiles and regions: sums of slabs of a grid, taken batch by batch.

A column of a dose grid is a sum over voxels whose statistical errors are
correlated (one photon crosses many), so its σ does not follow from the voxels' σ.
Every curve and region is therefore a tally of its own: a linear map of each
batch's grid, applied before the batch is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import ConfigError
from conebeam.result import Axis

Slices = tuple[slice, slice, slice]
Edges = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
_ON_EDGE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Term:
    """One slab of the grid, summed onto an axis (None: to a single number)."""

    slices: Slices
    axis: int | None
    flipped: bool = False

    def take(self, grid: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the slab, shape (n,) or ()."""
        slab = grid[self.slices]
        others = tuple(a for a in range(3) if a != self.axis)
        summed: NDArray[np.float64] = np.asarray(slab.sum(axis=others))
        return summed[::-1] if self.flipped else summed


@dataclass(frozen=True, kw_only=True, eq=False)
class Extract:
    """A named linear map from a grid to a curve or to labelled numbers.

    Parameters
    ----------
    name : str
    axis : Axis
        Of the curve, or the labels of the numbers.
    rows : tuple of tuple of Term
        One row for a curve (its terms are added), one per label otherwise.
    """

    name: str
    axis: Axis
    rows: tuple[tuple[Term, ...], ...]

    def take(self, grid: NDArray[np.float64]) -> NDArray[np.float64]:
        """Apply the map to a grid of shape (nx, ny, nz); shape (len(axis),)."""
        sums = []
        for row in self.rows:
            total = row[0].take(grid).copy()
            for term in row[1:]:
                total += term.take(grid)
            sums.append(total)
        return sums[0] if sums[0].ndim else np.array(sums)


def curve(
    *,
    name: str,
    edges: Edges,
    along: int,
    ranges: tuple[tuple[float, float] | None, tuple[float, float] | None, tuple[float, float] | None],
    fold: int = 0,
) -> Extract:
    """A curve along one axis through a slab of the grid.

    Parameters
    ----------
    edges : tuple of arrays
        The grid's edges along x, y, z.
    along : int
        0, 1 or 2.
    ranges : tuple
        Limits on each axis in cm, on grid edges; None takes all of it.
    fold : int
        0: as it is; 2: the negative half is mirrored onto the positive; 4: the same
        along the other lateral axis too, for a field that is square.  Needs an axis
        symmetric about zero.

    Raises
    ------
    ConfigError
        If limits are off the edges, or the grid is not symmetric enough to fold.
    """
    slices = _slices(name, edges, ranges)
    if fold == 0:
        kept = edges[along][slices[along].start : slices[along].stop + 1]
        axis = Axis(name="xyz"[along], unit="cm", edges=kept)
        return Extract(name=name, axis=axis, rows=((Term(slices=slices, axis=along),),))
    if fold == 4 and along == 2:
        raise ConfigError(f"curve '{name}' must run along x or y to be folded four times, not z")
    half = _half(name, edges[along], along)
    axis = Axis(name="xyz"[along], unit="cm", edges=edges[along][half:])
    terms = list(_folded(slices, along, half, len(edges[along]) - 1))
    if fold == 4:
        other = 1 - along
        if not np.array_equal(edges[along], edges[other]):
            raise ConfigError(f"curve '{name}' must have equal x and y edges to be folded four times")
        swapped = list(slices)
        swapped[along], swapped[other] = slices[other], slices[along]
        terms.extend(_folded((swapped[0], swapped[1], swapped[2]), other, half, len(edges[other]) - 1))
    return Extract(name=name, axis=axis, rows=(tuple(terms),))


def regions(*, name: str, edges: Edges, boxes: Mapping[str, tuple[tuple[float, float], ...]]) -> Extract:
    """Sums over named boxes whose faces lie on grid edges.

    Raises
    ------
    ConfigError
        If a face is not on an edge of the grid.
    """
    rows = []
    for label, (x, y, z) in boxes.items():
        rows.append((Term(slices=_slices(f"{name}.{label}", edges, (x, y, z)), axis=None),))
    return Extract(name=name, axis=Axis(name="region", labels=tuple(boxes)), rows=tuple(rows))


def box_edges(boxes: Mapping[str, tuple[tuple[float, float], ...]]) -> Edges:
    """The coarsest grid on whose edges the faces of all boxes lie."""
    found = []
    for axis in range(3):
        faces = sorted({float(face) for box in boxes.values() for face in box[axis]})
        merged = [faces[0]]
        for face in faces[1:]:
            if face - merged[-1] > _ON_EDGE:
                merged.append(face)
        found.append(np.array(merged))
    return found[0], found[1], found[2]


def _folded(slices: Slices, along: int, half: int, count: int) -> list[Term]:
    terms = []
    for flipped in (False, True):
        part = list(slices)
        part[along] = slice(0, half) if flipped else slice(half, count)
        terms.append(Term(slices=(part[0], part[1], part[2]), axis=along, flipped=flipped))
    return terms


def _half(name: str, edges: NDArray[np.float64], along: int) -> int:
    half = len(edges) // 2
    if len(edges) % 2 == 0 or np.abs(edges + edges[::-1]).max() > _ON_EDGE:
        raise ConfigError(
            f"curve '{name}' must have {'xyz'[along]} edges symmetric about 0, with one at 0, to be folded"
        )
    return half


def _slices(name: str, edges: Edges, ranges: tuple[tuple[float, float] | None, ...]) -> Slices:
    found = []
    for axis, limits in zip(range(3), ranges, strict=True):
        if limits is None:
            found.append(slice(0, len(edges[axis]) - 1))
            continue
        ends = []
        for limit in limits:
            nearest = int(np.argmin(np.abs(edges[axis] - limit)))
            if abs(edges[axis][nearest] - limit) > _ON_EDGE:
                raise ConfigError(
                    f"the {'xyz'[axis]} limits of '{name}' must lie on grid edges, not at "
                    f"{limit:g} cm; the nearest edge is {edges[axis][nearest]:g} cm"
                )
            ends.append(nearest)
        if ends[0] >= ends[1]:
            raise ConfigError(
                f"the {'xyz'[axis]} limits of '{name}' must enclose a bin, "
                f"not be {limits[0]:g} to {limits[1]:g} cm"
            )
        found.append(slice(ends[0], ends[1]))
    return found[0], found[1], found[2]
