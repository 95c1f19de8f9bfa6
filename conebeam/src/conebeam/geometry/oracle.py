"""The slow and obvious way: ask every solid about every point, march along rays.

Nothing here shares code with the compiled walk: solids answer from their local
description, not from quadric coefficients.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conebeam.geometry.cells import Geometry, LatticeCell


def locate(geometry: Geometry, points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cell number of each point, shape (n, 3); −1 outside."""
    found = np.full(len(points), -1, dtype=np.int64)
    best = np.full(len(points), -np.inf)
    for number, cell in enumerate(geometry.cells):
        wins = cell.contains(points) & (cell.priority > best)
        found[wins] = number
        best[wins] = cell.priority
    return found


def march(
    geometry: Geometry,
    origin: NDArray[np.float64],
    direction: NDArray[np.float64],
    length_cm: float,
    step_cm: float,
) -> NDArray[np.float64]:
    """Length of a ray in each cell, by the midpoints of equal steps; shape (C,).

    Each boundary crossed is off by at most half a step.
    """
    count = int(np.ceil(length_cm / step_cm))
    at = (np.arange(count) + 0.5) * (length_cm / count)
    cells = locate(geometry, origin + at[:, None] * direction)
    inside = cells[cells >= 0]
    steps = np.bincount(inside, minlength=len(geometry.cells)).astype(np.float64)
    lengths: NDArray[np.float64] = steps * (length_cm / count)
    return lengths


def voxel_lengths(
    cell: LatticeCell,
    origin: NDArray[np.float64],
    direction: NDArray[np.float64],
    length_cm: float,
) -> NDArray[np.float64]:
    """Length of a ray in each voxel: cut it at every face of every axis; flat."""
    lattice = cell.lattice
    start = lattice.to_local(origin[None, :])[0]
    along = np.asarray(direction) @ np.asarray(lattice.rotation)
    cuts = [np.array([0.0, length_cm])]
    for axis, edges in enumerate(lattice.edges_cm):
        if along[axis] != 0.0:
            with np.errstate(over="ignore"):
                cuts.append((edges - start[axis]) / along[axis])
    at = np.unique(np.clip(np.concatenate(cuts), 0.0, length_cm))
    middle = origin + (0.5 * (at[1:] + at[:-1]))[:, None] * direction
    inside = lattice.contains(middle)
    voxels = lattice.voxels(middle)
    flat = np.ravel_multi_index(tuple(voxels.T), lattice.shape)
    lengths = np.zeros(lattice.material.size)
    np.add.at(lengths, flat[inside], np.diff(at)[inside])
    return lengths
