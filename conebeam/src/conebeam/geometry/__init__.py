"""Where things are: solids, voxel lattices, cells, and the table the kernels walk."""

from conebeam.geometry.cells import Cell, Geometry, LatticeCell
from conebeam.geometry.lattice import Lattice, regular_edges
from conebeam.geometry.mass import grid_masses, lattice_masses
from conebeam.geometry.overlap import Gap, Overlap, check_geometry, find_gaps, find_overlaps
from conebeam.geometry.rotation import IDENTITY, rotation_matrix
from conebeam.geometry.solids import (
    Box,
    Cone,
    Cylinder,
    Ellipsoid,
    Intersection,
    Solid,
    Sphere,
    Wedge,
)
from conebeam.geometry.surfaces import HalfSpace, plane
from conebeam.geometry.table import Table

__all__ = [
    "IDENTITY",
    "Box",
    "Cell",
    "Cone",
    "Cylinder",
    "Ellipsoid",
    "Gap",
    "Geometry",
    "HalfSpace",
    "Intersection",
    "Lattice",
    "LatticeCell",
    "Overlap",
    "Solid",
    "Sphere",
    "Table",
    "Wedge",
    "check_geometry",
    "find_gaps",
    "find_overlaps",
    "grid_masses",
    "lattice_masses",
    "plane",
    "regular_edges",
    "rotation_matrix",
]
