"""A cylinder with rods in it, as image-quality and CTDI phantoms are built."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conebeam.errors import GeometryError
from conebeam.geometry import IDENTITY, Cell, Cylinder
from conebeam.geometry.rotation import Matrix, Vector


@dataclass(frozen=True, kw_only=True)
class Insert:
    """A rod parallel to the cylinder's axis.

    ``x_cm`` and ``y_cm`` are its place across the axis; ``height_cm`` is the full
    length of the phantom unless given.
    """

    name: str
    material: str
    radius_cm: float
    x_cm: float
    y_cm: float
    density_g_cm3: float | None = None
    height_cm: float | None = None


@dataclass(frozen=True, kw_only=True)
class CylinderPhantom:
    """Body and inserts about a local z axis; inserts win over the body.

    Parameters
    ----------
    radius_cm, height_cm : float
    material : str
    inserts : tuple of Insert
        Inside the body and apart from each other.
    centre_cm, rotation
        Where the phantom lies, local to world.
    """

    radius_cm: float
    height_cm: float
    material: str
    density_g_cm3: float | None = None
    inserts: tuple[Insert, ...] = ()
    centre_cm: Vector = (0.0, 0.0, 0.0)
    rotation: Matrix = IDENTITY

    def __post_init__(self) -> None:
        for rod in self.inserts:
            reach = float(np.hypot(rod.x_cm, rod.y_cm)) + rod.radius_cm
            if reach > self.radius_cm or (rod.height_cm or 0.0) > self.height_cm:
                raise GeometryError(
                    f"insert '{rod.name}' must lie inside the cylinder of radius "
                    f"{self.radius_cm} cm and height {self.height_cm} cm, "
                    f"not reach {reach:g} cm from its axis"
                )

    def cells(self) -> tuple[Cell, ...]:
        """The body, then the inserts with priority 1."""
        body = Cell(
            name="body",
            region=Cylinder(
                radius_cm=self.radius_cm, height_cm=self.height_cm,
                centre_cm=self.centre_cm, rotation=self.rotation,
            ),
            material=self.material,
            density_g_cm3=self.density_g_cm3,
        )  # fmt: skip
        return (body, *(self._rod(insert) for insert in self.inserts))

    def _rod(self, insert: Insert) -> Cell:
        offset = np.asarray(self.rotation) @ np.array([insert.x_cm, insert.y_cm, 0.0])
        x, y, z = (np.asarray(self.centre_cm) + offset).tolist()
        return Cell(
            name=insert.name,
            region=Cylinder(
                radius_cm=insert.radius_cm, height_cm=insert.height_cm or self.height_cm,
                centre_cm=(x, y, z), rotation=self.rotation,
            ),
            material=insert.material,
            density_g_cm3=insert.density_g_cm3,
            priority=1,
        )  # fmt: skip
