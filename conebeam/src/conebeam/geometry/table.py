"""The one table that the kernels read: surfaces, cells and lattices as flat arrays.

Lengths in cm, float64; integers are int32.  The kernels dispatch on
``surface_kind`` and ``cell_kind`` and follow offsets; no Python object is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from conebeam.geometry.lattice import Lattice
from conebeam.geometry.surfaces import Coefficients, HalfSpace

if TYPE_CHECKING:
    from conebeam.geometry.cells import Cell, LatticeCell

SOLID = 0
LATTICE = 1

# Boxes only spare work; a margin keeps rounding from cutting off a surface.
_BOX_MARGIN_CM = 1e-6


class Table(NamedTuple):
    """Compiled geometry; S surfaces, C cells, H half-spaces, L lattices.

    ``half_surface[cell_first[c]:cell_first[c + 1]]`` are the surfaces of cell c
    and ``half_sign`` their signs (a point is inside where sign · f ≤ 0).
    ``rivals[rival_first[c]:rival_first[c + 1]]`` are the cells that may win over
    c; row C belongs to the outside.  Voxel (ix, iy, iz) of lattice l is number
    ``voxel_first[l] + (ix * ny + iy) * nz + iz``.
    """

    coefficients: NDArray[np.float64]  # (S, 10): xx yy zz xy yz xz x y z 1
    surface_kind: NDArray[np.int32]  # (S,)
    cell_first: NDArray[np.int32]  # (C + 1,)
    half_surface: NDArray[np.int32]  # (H,)
    half_sign: NDArray[np.float64]  # (H,)
    cell_kind: NDArray[np.int32]  # (C,)
    cell_material: NDArray[np.int32]  # (C,), -1 for a lattice
    cell_density: NDArray[np.float64]  # (C,), g/cm3
    cell_lattice: NDArray[np.int32]  # (C,), -1 for a solid
    cell_box: NDArray[np.float64]  # (C, 6): low x y z, high x y z
    order: NDArray[np.int32]  # (C,), by falling priority
    rival_first: NDArray[np.int32]  # (C + 2,)
    rivals: NDArray[np.int32]
    lattice_rotation: NDArray[np.float64]  # (L, 3, 3), world to local
    lattice_translation: NDArray[np.float64]  # (L, 3)
    lattice_shape: NDArray[np.int32]  # (L, 3)
    edges: NDArray[np.float64]  # flat
    edge_first: NDArray[np.int32]  # (L, 3)
    inverse_pitch: NDArray[np.float64]  # (L, 3), 0 where not regular
    voxel_first: NDArray[np.int64]  # (L,)
    voxel_material: NDArray[np.uint8]  # flat, index into the geometry's materials
    voxel_density: NDArray[np.float32]  # flat, g/cm3


def compile_table(
    cells: Sequence[Cell | LatticeCell],
    materials: tuple[str, ...],
    densities: Sequence[float],
) -> Table:
    """Flatten cells into a :class:`Table`.

    Parameters
    ----------
    cells : sequence of Cell and LatticeCell
    materials : tuple of str
        Numbering of the material names.
    densities : sequence of float
        Density of each cell (ignored for lattices), g/cm3.
    """
    coefficients, kinds, first, surfaces, signs = _half_spaces(cells)
    lattices = [_lattice(cell) for cell in cells]
    present = [lattice for lattice in lattices if lattice is not None]
    numbers = np.cumsum([lattice is not None for lattice in lattices]) - 1
    boxes = np.array([np.concatenate(tuple(cell.bounds())) for cell in cells])
    boxes[:, :3] -= _BOX_MARGIN_CM
    boxes[:, 3:] += _BOX_MARGIN_CM
    priorities = np.array([cell.priority for cell in cells])
    rival_first, rivals = _rivals(boxes, priorities)
    edge_first, edges = _edges(present)
    voxel_first, voxel_material, voxel_density = _voxels(present, materials)
    return Table(
        coefficients=coefficients,
        surface_kind=kinds,
        cell_first=first,
        half_surface=surfaces,
        half_sign=signs,
        cell_kind=np.array([SOLID if v is None else LATTICE for v in lattices], dtype=np.int32),
        cell_material=np.array([_material(cell, materials) for cell in cells], dtype=np.int32),
        cell_density=np.asarray(densities, dtype=np.float64),
        cell_lattice=np.where([v is None for v in lattices], -1, numbers).astype(np.int32),
        cell_box=np.ascontiguousarray(boxes),
        order=np.argsort(-priorities, kind="stable").astype(np.int32),
        rival_first=rival_first,
        rivals=rivals,
        lattice_rotation=np.array([np.transpose(v.rotation) for v in present]).reshape(-1, 3, 3),
        lattice_translation=np.array([v.translation_cm for v in present]).reshape(-1, 3),
        lattice_shape=np.array([v.shape for v in present], dtype=np.int32).reshape(-1, 3),
        edges=edges,
        edge_first=edge_first,
        inverse_pitch=np.array([v.inverse_pitch() for v in present]).reshape(-1, 3),
        voxel_first=voxel_first,
        voxel_material=voxel_material,
        voxel_density=voxel_density,
    )


def _lattice(cell: Cell | LatticeCell) -> Lattice | None:
    return getattr(cell, "lattice", None)


def _material(cell: Cell | LatticeCell, materials: tuple[str, ...]) -> int:
    name: str | None = getattr(cell, "material", None)
    return -1 if name is None else materials.index(name)


def _half_spaces(
    cells: Sequence[Cell | LatticeCell],
) -> tuple[
    NDArray[np.float64],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.float64],
]:
    # A surface that two cells share (a wall) is stored once, so that both see
    # the same rounding and no sliver opens between them.
    number: dict[Coefficients, int] = {}
    found: list[HalfSpace] = []
    first, surfaces, signs = [0], [], []
    for cell in cells:
        for half in cell.half_spaces():
            sign = half.sign
            key, flip = _canonical(half.coefficients)
            if key not in number:
                number[key] = len(found)
                found.append(HalfSpace(coefficients=key))
            surfaces.append(number[key])
            signs.append(float(sign * flip))
        first.append(len(surfaces))
    return (
        np.array([half.coefficients for half in found], dtype=np.float64),
        np.array([half.kind for half in found], dtype=np.int32),
        np.array(first, dtype=np.int32),
        np.array(surfaces, dtype=np.int32),
        np.array(signs, dtype=np.float64),
    )


def _canonical(coefficients: Coefficients) -> tuple[Coefficients, int]:
    leading = next(c for c in coefficients if c != 0.0)
    flip = 1 if leading > 0.0 else -1
    # Adding zero turns -0.0 into 0.0, so that equal surfaces have equal keys.
    return cast(Coefficients, tuple(flip * c + 0.0 for c in coefficients)), flip


def _rivals(
    boxes: NDArray[np.float64], priorities: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    count = len(boxes)
    first, found = [0], []
    for c in range(count):
        touching = np.all((boxes[:, :3] <= boxes[c, 3:]) & (boxes[:, 3:] >= boxes[c, :3]), axis=1)
        found.extend(np.flatnonzero(touching & (priorities > priorities[c])).tolist())
        first.append(len(found))
    found.extend(range(count))
    first.append(len(found))
    return np.array(first, dtype=np.int32), np.array(found, dtype=np.int32)


def _edges(lattices: list[Lattice]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    first: list[list[int]] = []
    parts: list[NDArray[np.float64]] = [np.empty(0)]
    at = 0
    for lattice in lattices:
        row = []
        for edges in lattice.edges_cm:
            row.append(at)
            parts.append(edges)
            at += len(edges)
        first.append(row)
    return np.array(first, dtype=np.int32).reshape(-1, 3), np.concatenate(parts)


def _voxels(
    lattices: list[Lattice], materials: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.float32]]:
    sizes = [lattice.material.size for lattice in lattices]
    first = np.concatenate(([0], np.cumsum(sizes)))[:-1].astype(np.int64)
    if len(lattices) == 1 and lattices[0].materials == materials[: len(lattices[0].materials)]:
        # One lattice whose numbering is the geometry's: no copy of a large CT.
        return first, lattices[0].material.reshape(-1), lattices[0].density_g_cm3.reshape(-1)
    material: list[NDArray[np.uint8]] = [np.empty(0, dtype=np.uint8)]
    density: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)]
    for lattice in lattices:
        renumber = np.array([materials.index(m) for m in lattice.materials], dtype=np.uint8)
        material.append(renumber[lattice.material.reshape(-1)])
        density.append(lattice.density_g_cm3.reshape(-1))
    return first, np.concatenate(material), np.concatenate(density)
