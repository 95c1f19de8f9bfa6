"""Whole rays through a geometry: lengths in cells and voxels, cells of many points.

The smallest possible tracker, as :mod:`conebeam.geometry.walk` wants it written.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import kernel
from conebeam.geometry.borrow import borrowed
from conebeam.geometry.table import Table
from conebeam.geometry.walk import (
    FAR,
    NUDGE,
    OUTSIDE,
    distance,
    locate,
    to_local,
    voxel,
    voxel_distance,
    voxel_number,
)


@kernel
def lattice_chords(
    table: Table,
    cell: int,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
    length: float,
    lengths: NDArray[np.float64],
) -> None:
    """Add the chords of ``length`` cm of ray in a lattice to ``lengths``, flat per voxel."""
    table = borrowed(table)
    shape = table.lattice_shape[table.cell_lattice[cell]]
    base = table.voxel_first[table.cell_lattice[cell]]
    ix, iy, iz = voxel(table, cell, x, y, z)
    _, _, _, du, dv, dw = to_local(table, cell, x, y, z, u, v, w)
    done = 0.0
    while True:
        t, axis = voxel_distance(table, cell, ix, iy, iz, x, y, z, u, v, w)
        number = voxel_number(table, cell, ix, iy, iz) - base
        lengths[number] += max(0.0, min(t, length) - done)
        done = max(done, t)
        if done >= length:
            return
        if axis == 0:
            ix += 1 if du > 0.0 else -1
        elif axis == 1:
            iy += 1 if dv > 0.0 else -1
        else:
            iz += 1 if dw > 0.0 else -1
        if not (0 <= ix < shape[0] and 0 <= iy < shape[1] and 0 <= iz < shape[2]):
            return


@kernel
def chords(
    table: Table,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
    lengths: NDArray[np.float64],
    crossings: int,
) -> int:
    """Add the length of a ray in each cell to ``lengths``, shape (C,).

    Returns
    -------
    int
        Crossings made; ``crossings`` if the ray was cut off there.
    """
    table = borrowed(table)
    for count in range(crossings):
        cell = locate(table, x, y, z)
        d, _ = distance(table, cell, x, y, z, u, v, w)
        if d == FAR:
            return count
        step = d + NUDGE
        if cell != OUTSIDE:
            lengths[cell] += step
        x += step * u
        y += step * v
        z += step * w
    return crossings


@kernel
def locate_points(table: Table, points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cells of points, shape (n, 3)."""
    table = borrowed(table)
    found = np.empty(points.shape[0], dtype=np.int64)
    for i in range(points.shape[0]):
        found[i] = locate(table, points[i, 0], points[i, 1], points[i, 2])
    return found
