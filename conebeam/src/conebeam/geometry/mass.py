"""Mass in the voxels of a scoring grid, which need not be the phantom's grid.

Exact for a lattice that stands square to the axes and is alone: the overlap of
two boxes is a product of overlaps along the axes.  Otherwise by evenly spread points
(an additive recurrence, which falls into step with no pattern of voxels), exact where
a voxel lies in one medium.

References
----------
M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018),
https://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences/.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import kernel
from conebeam.geometry import walk
from conebeam.geometry.borrow import borrowed
from conebeam.geometry.cells import Geometry, LatticeCell
from conebeam.geometry.lattice import Lattice
from conebeam.geometry.table import Table

Edges = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

_PLASTIC = 1.2207440846057596  # x⁴ = x + 1
_FEW, _MANY = 64, 512
_LARGE_GRID = 200_000


def grid_masses(
    geometry: Geometry, table: Table, edges: Edges, *, samples: int | None = None
) -> NDArray[np.float64]:
    """Mass of each voxel of a grid, g, shape (nx, ny, nz).

    Parameters
    ----------
    geometry : Geometry
    table : Table
        Compiled from it, with densities.
    edges : tuple of arrays
        The grid's edges along x, y, z, cm.
    samples : int, optional
        Points in each voxel where the exact way is not open; by the grid's size.
    """
    cell = geometry.cells[0]
    if len(geometry.cells) == 1 and isinstance(cell, LatticeCell) and cell.lattice.is_aligned:
        return lattice_masses(cell.lattice, edges)
    x, y, z = (np.ascontiguousarray(e, dtype=np.float64) for e in edges)
    if samples is None:
        voxels = (len(x) - 1) * (len(y) - 1) * (len(z) - 1)
        samples = _MANY if voxels < _LARGE_GRID else _FEW
    return _sampled(table, x, y, z, samples)


def lattice_masses(lattice: Lattice, edges: Edges) -> NDArray[np.float64]:
    """Exact masses for a lattice square to the axes, g, shape (nx, ny, nz)."""
    overlaps = [
        _overlap(np.asarray(grid), own + shift)
        for grid, own, shift in zip(edges, lattice.edges_cm, lattice.translation_cm, strict=True)
    ]
    across, along_y, along_z = overlaps
    masses = np.zeros([len(overlap) for overlap in overlaps])
    # Slab by slab: a large CT must not be copied to float64 as a whole.
    for i, weights in enumerate(across):
        rows = np.flatnonzero(weights)
        if len(rows):
            own = slice(rows[0], rows[-1] + 1)
            slab = np.tensordot(weights[own], lattice.density_g_cm3[own], axes=(0, 0))
            masses[i] = along_y @ slab @ along_z.T
    return masses


def _overlap(grid: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    low = np.maximum(grid[:-1, None], own[None, :-1])
    high = np.minimum(grid[1:, None], own[None, 1:])
    overlap: NDArray[np.float64] = np.maximum(high - low, 0.0)
    return overlap


@kernel
def _sampled(
    table: Table,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    samples: int,
) -> NDArray[np.float64]:
    table = borrowed(table)
    masses = np.zeros((x.size - 1, y.size - 1, z.size - 1))
    a, b, c = 1.0 / _PLASTIC, 1.0 / _PLASTIC**2, 1.0 / _PLASTIC**3
    for i in range(x.size - 1):
        dx = x[i + 1] - x[i]
        for j in range(y.size - 1):
            dy = y[j + 1] - y[j]
            for k in range(z.size - 1):
                dz = z[k + 1] - z[k]
                total = 0.0
                for s in range(1, samples + 1):
                    px = x[i] + (0.5 + s * a) % 1.0 * dx
                    py = y[j] + (0.5 + s * b) % 1.0 * dy
                    pz = z[k] + (0.5 + s * c) % 1.0 * dz
                    cell = walk.locate(table, px, py, pz)
                    total += walk.contents(table, cell, px, py, pz)[1]
                masses[i, j, k] = total / samples * dx * dy * dz
    return masses
