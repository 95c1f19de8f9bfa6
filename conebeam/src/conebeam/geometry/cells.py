"""Cells: a named region filled with a material, and the geometry they make up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import GeometryError
from conebeam.geometry import trace
from conebeam.geometry.lattice import MAX_MATERIALS, Lattice
from conebeam.geometry.solids import Solid
from conebeam.geometry.surfaces import HalfSpace
from conebeam.geometry.table import Table, compile_table


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A solid filled with one material.

    Parameters
    ----------
    name : str
        Unique in its geometry.
    region : Solid
        Box, Sphere, Ellipsoid, Cylinder, Cone, Wedge or Intersection.
    material : str
        Name of a material.
    density_g_cm3 : float, optional
        Overrides the material's own density.
    priority : int
        Where two cells overlap, the higher priority wins; cells of the same
        priority must not overlap.
    """

    name: str
    region: Solid
    material: str
    density_g_cm3: float | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        density = self.density_g_cm3
        if density is not None and not (math.isfinite(density) and density >= 0.0):
            raise GeometryError(
                f"the density of cell '{self.name}' must be finite and not negative, not {density} g/cm3"
            )

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """The region's half-spaces."""
        return self.region.half_spaces()

    def bounds(self) -> NDArray[np.float64]:
        """The region's world box, shape (2, 3)."""
        return self.region.bounds()

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points, shape (n, 3), lie in the region."""
        return self.region.contains(points)


@dataclass(frozen=True, kw_only=True, eq=False)
class LatticeCell:
    """A voxel lattice as a cell."""

    name: str
    lattice: Lattice
    priority: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """The six planes around the lattice."""
        return self.lattice.half_spaces()

    def bounds(self) -> NDArray[np.float64]:
        """The lattice's world box, shape (2, 3)."""
        return self.lattice.bounds()

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points, shape (n, 3), lie in the lattice."""
        return self.lattice.contains(points)


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """Cells in a vacuum that reaches to infinity.

    ``materials`` lists the names in order of first use; the compiled table's
    material numbers index it.
    """

    cells: tuple[Cell | LatticeCell, ...]
    materials: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self.cells))
        if not self.cells:
            raise GeometryError("a geometry must have at least one cell, not none")
        twice = [name for name, count in Counter(c.name for c in self.cells).items() if count > 1]
        if twice:
            raise GeometryError(f"cell names must be unique, not twice '{twice[0]}'")
        names: dict[str, None] = {}
        for cell in self.cells:
            own = (cell.material,) if isinstance(cell, Cell) else cell.lattice.materials
            names.update(dict.fromkeys(own))
        if len(names) > MAX_MATERIALS:
            raise GeometryError(f"a geometry must name at most {MAX_MATERIALS} materials, not {len(names)}")
        object.__setattr__(self, "materials", tuple(names))

    def table(self, densities_g_cm3: Mapping[str, float] | None = None) -> Table:
        """Compile to the arrays the kernels read.

        Parameters
        ----------
        densities_g_cm3 : mapping, optional
            Density of each material, for cells that give none of their own.

        Raises
        ------
        GeometryError
            If a cell's density is in neither place.
        """
        densities = [self._density(cell, densities_g_cm3 or {}) for cell in self.cells]
        return compile_table(self.cells, self.materials, densities)

    def locate(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Cell numbers of points, shape (n, 3); −1 outside all cells."""
        table = self.table(dict.fromkeys(self.materials, 0.0))
        return trace.locate_points(table, np.ascontiguousarray(points, dtype=np.float64))

    def index(self, name: str) -> int:
        """Number of the cell of that name."""
        names = [cell.name for cell in self.cells]
        if name not in names:
            raise GeometryError(f"cell '{name}' must be one of {', '.join(names)}")
        return names.index(name)

    def bounds(self) -> NDArray[np.float64]:
        """World box around all cells, shape (2, 3)."""
        boxes = np.array([cell.bounds() for cell in self.cells])
        return np.stack((boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)))

    @staticmethod
    def _density(cell: Cell | LatticeCell, densities: Mapping[str, float]) -> float:
        if isinstance(cell, LatticeCell):
            return 0.0
        if cell.density_g_cm3 is not None:
            return cell.density_g_cm3
        if cell.material not in densities:
            raise GeometryError(
                f"cell '{cell.name}' must have a density, and {cell.material} brings none; give density_g_cm3"
            )
        return float(densities[cell.material])


def _check_name(name: str) -> None:
    if not name or not name.strip() or name != name.strip():
        raise GeometryError(f"a cell name must be a word without spaces around it, not '{name}'")
