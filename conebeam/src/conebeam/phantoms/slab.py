"""Layers one behind the other along z: water, lung, bone, water …"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from conebeam.errors import GeometryError
from conebeam.geometry import Lattice, LatticeCell


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer."""

    material: str
    density_g_cm3: float
    thickness_cm: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.thickness_cm) and self.thickness_cm > 0.0):
            raise GeometryError(f"the thickness of a layer must be positive, not {self.thickness_cm} cm")


@dataclass(frozen=True, kw_only=True)
class SlabPhantom:
    """Layers of one width and height, centred on the z axis.

    Parameters
    ----------
    width_cm, height_cm : float
        Full sizes along x and y.
    layers : tuple of Layer
        From the front face on.
    front_cm : float
        z of the front face.
    """

    width_cm: float
    height_cm: float
    layers: tuple[Layer, ...]
    front_cm: float = 0.0

    def __post_init__(self) -> None:
        if not self.layers:
            raise GeometryError("a slab phantom must have at least one layer, not none")
        for name in ("width_cm", "height_cm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise GeometryError(f"{name} of a slab phantom must be positive, not {value}")

    def lattice(self) -> Lattice:
        """1 × 1 × n voxels."""
        materials = tuple(dict.fromkeys(layer.material for layer in self.layers))
        shape = (1, 1, len(self.layers))
        depths = np.cumsum([0.0, *(layer.thickness_cm for layer in self.layers)])
        return Lattice(
            x_cm=np.array([-0.5, 0.5]) * self.width_cm,
            y_cm=np.array([-0.5, 0.5]) * self.height_cm,
            z_cm=self.front_cm + depths,
            material=np.array([materials.index(v.material) for v in self.layers]).reshape(shape),
            density_g_cm3=np.array([v.density_g_cm3 for v in self.layers]).reshape(shape),
            materials=materials,
        )

    def cells(self) -> tuple[LatticeCell, ...]:
        """The stack as one lattice."""
        return (LatticeCell(name="phantom", lattice=self.lattice()),)
