"""Phantoms and cells as they stand in a scene file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from conebeam import phantoms
from conebeam.geometry import (
    Box,
    Cell,
    Cone,
    Cylinder,
    Ellipsoid,
    Lattice,
    LatticeCell,
    Solid,
    Sphere,
    Wedge,
    rotation_matrix,
)
from conebeam.geometry.rotation import Matrix
from conebeam.scene.model import Length, Model, Name, Point

Density = Annotated[float, Field(ge=0.0)]
Resolve = Callable[[str], Path]
Densities = Mapping[str, float]


class _Placed(Model):
    centre_cm: Point = (0.0, 0.0, 0.0)
    rotation_deg: Point = (0.0, 0.0, 0.0)

    def rotation(self) -> Matrix:
        """Turns about the fixed x, then y, then z axis."""
        x, y, z = self.rotation_deg
        return rotation_matrix(x_deg=x, y_deg=y, z_deg=z)


class WaterBox(Model):
    """Homogeneous box, front face at z = ``front_cm``; water unless said otherwise."""

    kind: Literal["water_box"] = "water_box"
    size_cm: tuple[Length, Length, Length] = (30.0, 30.0, 30.0)
    front_cm: float = 0.0
    material: str = "water"
    density_g_cm3: Density | None = None

    def cells(self, resolve: Resolve, densities: Densities) -> tuple[Cell | LatticeCell, ...]:
        """One lattice cell of one voxel."""
        return phantoms.BoxPhantom(
            size_cm=self.size_cm,
            material=self.material,
            density_g_cm3=_density(self.density_g_cm3, self.material, densities),
            front_cm=self.front_cm,
        ).cells()


class SlabLayer(Model):
    """One layer of a slab phantom."""

    material: str
    thickness_cm: Length
    density_g_cm3: Density | None = None


class Slabs(Model):
    """Layers one behind the other along z."""

    kind: Literal["slabs"] = "slabs"
    width_cm: Length = 30.0
    height_cm: Length = 30.0
    front_cm: float = 0.0
    layers: Annotated[tuple[SlabLayer, ...], Field(min_length=1)]

    def cells(self, resolve: Resolve, densities: Densities) -> tuple[Cell | LatticeCell, ...]:
        """One lattice cell."""
        layers = tuple(
            phantoms.Layer(
                material=v.material,
                thickness_cm=v.thickness_cm,
                density_g_cm3=_density(v.density_g_cm3, v.material, densities),
            )
            for v in self.layers
        )
        return phantoms.SlabPhantom(
            width_cm=self.width_cm, height_cm=self.height_cm, front_cm=self.front_cm, layers=layers
        ).cells()


class Rod(Model):
    """An insert of a cylinder phantom."""

    name: Name
    material: str
    density_g_cm3: Density | None = None
    radius_cm: Length
    x_cm: float
    y_cm: float
    height_cm: Length | None = None


class CylinderBody(_Placed):
    """A cylinder about its local z axis, with rods in it."""

    kind: Literal["cylinder"] = "cylinder"
    radius_cm: Length
    height_cm: Length
    material: str
    density_g_cm3: Density | None = None
    inserts: tuple[Rod, ...] = ()

    def cells(self, resolve: Resolve, densities: Densities) -> tuple[Cell | LatticeCell, ...]:
        """Body and inserts."""
        inserts = tuple(phantoms.Insert(**dict(rod)) for rod in self.inserts)
        return phantoms.CylinderPhantom(
            radius_cm=self.radius_cm, height_cm=self.height_cm, material=self.material,
            density_g_cm3=self.density_g_cm3, inserts=inserts,
            centre_cm=self.centre_cm, rotation=self.rotation(),
        ).cells()  # fmt: skip


class Voxels(Model):
    """A voxel phantom from an ``.npz`` file, turned and shifted."""

    kind: Literal["voxels"] = "voxels"
    file: str
    rotation_deg: Point = (0.0, 0.0, 0.0)
    translation_cm: Point = (0.0, 0.0, 0.0)

    def cells(self, resolve: Resolve, densities: Densities) -> tuple[Cell | LatticeCell, ...]:
        """One lattice cell."""
        x, y, z = self.rotation_deg
        lattice = replace(
            phantoms.read_voxels(resolve(self.file)),
            rotation=rotation_matrix(x_deg=x, y_deg=y, z_deg=z),
            translation_cm=self.translation_cm,
        )
        return phantoms.VoxelPhantom(voxels=lattice).cells()


Phantom = Annotated[WaterBox | Slabs | CylinderBody | Voxels, Field(discriminator="kind")]


class _Shape(_Placed, ABC):
    name: Name
    material: str
    density_g_cm3: Density | None = None
    priority: int = 0

    @abstractmethod
    def region(self) -> Solid:
        """The solid."""

    def cell(self) -> Cell:
        """The cell."""
        return Cell(
            name=self.name,
            region=self.region(),
            material=self.material,
            density_g_cm3=self.density_g_cm3,
            priority=self.priority,
        )


class BoxCell(_Shape):
    """A box."""

    kind: Literal["box"] = "box"
    size_cm: tuple[Length, Length, Length]

    def region(self) -> Solid:
        """The box."""
        return Box(centre_cm=self.centre_cm, rotation=self.rotation(), size_cm=self.size_cm)


class SphereCell(_Shape):
    """A ball."""

    kind: Literal["sphere"] = "sphere"
    radius_cm: Length

    def region(self) -> Solid:
        """The ball."""
        return Sphere(centre_cm=self.centre_cm, radius_cm=self.radius_cm)


class EllipsoidCell(_Shape):
    """An ellipsoid."""

    kind: Literal["ellipsoid"] = "ellipsoid"
    semi_axes_cm: tuple[Length, Length, Length]

    def region(self) -> Solid:
        """The ellipsoid."""
        return Ellipsoid(centre_cm=self.centre_cm, rotation=self.rotation(), semi_axes_cm=self.semi_axes_cm)


class CylinderCell(_Shape):
    """A finite cylinder about its local z axis."""

    kind: Literal["cylinder"] = "cylinder"
    radius_cm: Length
    height_cm: Length

    def region(self) -> Solid:
        """The cylinder."""
        return Cylinder(
            centre_cm=self.centre_cm, rotation=self.rotation(),
            radius_cm=self.radius_cm, height_cm=self.height_cm,
        )  # fmt: skip


class ConeCell(_Shape):
    """A cone or frustum about its local z axis."""

    kind: Literal["cone"] = "cone"
    base_radius_cm: Length
    top_radius_cm: Annotated[float, Field(ge=0.0)] = 0.0
    height_cm: Length

    def region(self) -> Solid:
        """The cone."""
        return Cone(
            centre_cm=self.centre_cm, rotation=self.rotation(), height_cm=self.height_cm,
            base_radius_cm=self.base_radius_cm, top_radius_cm=self.top_radius_cm,
        )  # fmt: skip


class WedgeCell(_Shape):
    """A right-angled prism."""

    kind: Literal["wedge"] = "wedge"
    size_cm: tuple[Length, Length, Length]

    def region(self) -> Solid:
        """The wedge."""
        return Wedge(centre_cm=self.centre_cm, rotation=self.rotation(), size_cm=self.size_cm)


Shape = Annotated[
    BoxCell | SphereCell | EllipsoidCell | CylinderCell | ConeCell | WedgeCell,
    Field(discriminator="kind"),
]


def lone_lattice(cells: tuple[Cell | LatticeCell, ...]) -> Lattice | None:
    """The lattice of a phantom that is one and stands square to the axes, else None."""
    if len(cells) == 1 and isinstance(cells[0], LatticeCell) and cells[0].lattice.is_aligned:
        return cells[0].lattice
    return None


def _density(given: float | None, material: str, densities: Densities) -> float:
    if given is not None:
        return given
    if material not in densities:
        raise ValueError(
            f"material '{material}' must be known or have a density_g_cm3 here; "
            f"known are {', '.join(sorted(densities)) or 'none'}"
        )
    return densities[material]
