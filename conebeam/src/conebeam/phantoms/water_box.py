"""A homogeneous box, its front face at z = ``front_cm``: the reference phantom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from conebeam.errors import GeometryError
from conebeam.geometry import Lattice, LatticeCell
from conebeam.geometry.rotation import Vector


@dataclass(frozen=True, kw_only=True)
class BoxPhantom:
    """Box of one material, centred on the z axis, as a lattice of one voxel.

    Parameters
    ----------
    size_cm : tuple of float
        Full sizes along x, y, z.
    material : str
    density_g_cm3 : float
    front_cm : float
        z of the front face; the beam comes along +z.
    """

    size_cm: Vector
    material: str
    density_g_cm3: float
    front_cm: float = 0.0

    def __post_init__(self) -> None:
        if not all(math.isfinite(s) and s > 0.0 for s in self.size_cm):
            raise GeometryError(f"the size of a box phantom must be positive, not {self.size_cm}")

    def lattice(self) -> Lattice:
        """One voxel."""
        x, y, z = self.size_cm
        return Lattice(
            x_cm=np.array([-0.5 * x, 0.5 * x]),
            y_cm=np.array([-0.5 * y, 0.5 * y]),
            z_cm=np.array([self.front_cm, self.front_cm + z]),
            material=np.zeros((1, 1, 1), dtype=np.uint8),
            density_g_cm3=np.full((1, 1, 1), self.density_g_cm3, dtype=np.float32),
            materials=(self.material,),
        )

    def cells(self) -> tuple[LatticeCell, ...]:
        """The box alone."""
        return (LatticeCell(name="phantom", lattice=self.lattice()),)


def water_box(*, size_cm: Vector = (30.0, 30.0, 30.0)) -> BoxPhantom:
    """Liquid water, 1.0 g/cm³, front face at z = 0."""
    return BoxPhantom(size_cm=size_cm, material="water", density_g_cm3=1.0)
