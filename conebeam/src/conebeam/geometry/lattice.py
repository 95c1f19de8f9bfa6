"""A voxel lattice: material and density arrays on a grid of its own.

The grid is regular or non-uniform along each axis and sits in the world by a
rotation and a translation of its own (a CT couch is rarely square to a beam).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conebeam.errors import GeometryError
from conebeam.geometry.rotation import IDENTITY, Matrix, Vector, check_rotation, check_vector
from conebeam.geometry.surfaces import HalfSpace, plane

_UNIFORM = 1e-9
MAX_MATERIALS = 256
# Numba sees a read-only array as another type; kernels are compiled for one.
_KERNEL_READY: tuple[Literal["C"], Literal["W"]] = ("C", "W")


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """Voxels in a local frame, placed by ``world = rotation @ local + translation_cm``.

    Parameters
    ----------
    x_cm, y_cm, z_cm : arrays, shapes (nx + 1,), (ny + 1,), (nz + 1,)
        Edges, strictly increasing, local frame.
    material : array of int, shape (nx, ny, nz)
        Index into ``materials``.
    density_g_cm3 : array, shape (nx, ny, nz)
        Mass density; zero is vacuum.
    materials : tuple of str
        Names; one that stands there twice is one material.
    rotation, translation_cm
        Local to world.

    Raises
    ------
    GeometryError
        If edges, shapes, indices or densities are not as above.
    """

    x_cm: NDArray[np.float64]
    y_cm: NDArray[np.float64]
    z_cm: NDArray[np.float64]
    material: NDArray[np.uint8]
    density_g_cm3: NDArray[np.float32]
    materials: tuple[str, ...]
    rotation: Matrix = IDENTITY
    translation_cm: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for axis in "xyz":
            name = f"{axis}_cm"
            object.__setattr__(self, name, _checked_edges(getattr(self, name), name))
        check_rotation(self.rotation, "a voxel lattice")
        check_vector(self.translation_cm, "the translation of a voxel lattice")
        object.__setattr__(self, "materials", tuple(self.materials))
        object.__setattr__(self, "material", self._checked_material())
        object.__setattr__(self, "density_g_cm3", self._checked_density())
        self._name_once()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        return len(self.x_cm) - 1, len(self.y_cm) - 1, len(self.z_cm) - 1

    @property
    def edges_cm(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The three edge arrays."""
        return self.x_cm, self.y_cm, self.z_cm

    @property
    def is_aligned(self) -> bool:
        """Whether local and world axes point the same way."""
        return self.rotation == IDENTITY

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """The six planes around the lattice, in world coordinates."""
        rotation, translation = np.asarray(self.rotation), np.asarray(self.translation_cm)
        faces = []
        for axis, edges in enumerate(self.edges_cm):
            for sign, offset in ((-1.0, -edges[0]), (1.0, edges[-1])):
                normal = sign * rotation[:, axis]
                faces.append(plane(normal, float(offset + normal @ translation)))
        return tuple(faces)

    def bounds(self) -> NDArray[np.float64]:
        """World box around the lattice, shape (2, 3), cm."""
        rotation, translation = np.asarray(self.rotation), np.asarray(self.translation_cm)
        low = np.array([e[0] for e in self.edges_cm])
        high = np.array([e[-1] for e in self.edges_cm])
        centre = rotation @ (0.5 * (low + high)) + translation
        reach = np.abs(rotation) @ (0.5 * (high - low))
        return np.stack((centre - reach, centre + reach))

    def to_local(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """World points, shape (n, 3), in the local frame."""
        shifted = np.asarray(points, dtype=np.float64) - np.asarray(self.translation_cm)
        local: NDArray[np.float64] = shifted @ np.asarray(self.rotation)
        return local

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the world points, shape (n, 3), lie in the lattice."""
        local = self.to_local(points)
        inside = np.ones(len(local), dtype=np.bool_)
        for axis, edges in enumerate(self.edges_cm):
            inside &= (local[:, axis] >= edges[0]) & (local[:, axis] <= edges[-1])
        return inside

    def voxels(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Voxel indices of world points inside the lattice, shape (n, 3)."""
        local = self.to_local(points)
        found = [
            np.clip(np.searchsorted(edges, local[:, axis], side="right") - 1, 0, len(edges) - 2)
            for axis, edges in enumerate(self.edges_cm)
        ]
        return np.stack(found, axis=1).astype(np.int64)

    def inverse_pitch(self) -> NDArray[np.float64]:
        """1/pitch along each axis, shape (3,), or 0 where the axis is not regular."""
        return np.array([_inverse_pitch(edges) for edges in self.edges_cm])

    def _name_once(self) -> None:
        """Several labels of one material, as segmentations have them, get one number: tables hold a material once."""
        names = tuple(dict.fromkeys(self.materials))
        if len(names) < len(self.materials):
            numbers = np.array([names.index(name) for name in self.materials], dtype=np.uint8)
            object.__setattr__(
                self, "material", np.require(numbers[self.material], requirements=_KERNEL_READY)
            )
            object.__setattr__(self, "materials", names)

    def _checked_material(self) -> NDArray[np.uint8]:
        array = np.asarray(self.material)
        if not self.materials or len(self.materials) > MAX_MATERIALS:
            raise GeometryError(
                f"a voxel lattice must name 1 to {MAX_MATERIALS} materials, not {len(self.materials)}"
            )
        if array.shape != self.shape:
            raise GeometryError(
                f"the material array must have the shape {self.shape} that the edges give, not {array.shape}"
            )
        if not np.issubdtype(array.dtype, np.integer):
            raise GeometryError(
                f"the material array must hold whole numbers, not {array.dtype}; give indices into materials"
            )
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= len(self.materials):
            wrong = low if low < 0 else high
            raise GeometryError(
                f"material indices must lie in 0..{len(self.materials) - 1}, not {wrong}; "
                "name every material in materials"
            )
        return np.require(array, np.uint8, _KERNEL_READY)

    def _checked_density(self) -> NDArray[np.float32]:
        array = np.asarray(self.density_g_cm3)
        if array.shape != self.shape:
            raise GeometryError(
                f"the density array must have the shape {self.shape} that the edges give, not {array.shape}"
            )
        if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            raise GeometryError(f"densities must be real numbers in g/cm3, not {array.dtype}")
        good = np.isfinite(array) & (array >= 0.0)
        if not good.all():
            where = tuple(int(i) for i in np.unravel_index(int(np.argmin(good)), array.shape))
            raise GeometryError(
                f"densities must be finite and not negative, not {array[where]} g/cm3 at voxel {where}"
            )
        return np.require(array, np.float32, _KERNEL_READY)


def regular_edges(*, low_cm: float, pitch_cm: float, count: int) -> NDArray[np.float64]:
    """``count + 1`` edges from ``low_cm`` on, ``pitch_cm`` apart."""
    if count < 1 or not np.isfinite([low_cm, pitch_cm]).all() or pitch_cm <= 0.0:
        raise GeometryError(
            "a regular axis must have a finite start, a positive pitch and at least one voxel, "
            f"not low_cm={low_cm}, pitch_cm={pitch_cm}, count={count}"
        )
    edges: NDArray[np.float64] = low_cm + pitch_cm * np.arange(count + 1, dtype=np.float64)
    return edges


def _checked_edges(edges: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.ascontiguousarray(edges, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.all(np.isfinite(array)):
        raise GeometryError(f"{name} must be a list of at least two finite edges in cm")
    steps = np.diff(array)
    if np.any(steps <= 0.0):
        at = int(np.argmax(steps <= 0.0))
        raise GeometryError(f"{name} must rise from edge to edge, not go from {array[at]} to {array[at + 1]}")
    return array


def _inverse_pitch(edges: NDArray[np.float64]) -> float:
    count = len(edges) - 1
    pitch = (edges[-1] - edges[0]) / count
    regular = edges[0] + pitch * np.arange(count + 1)
    if np.abs(regular - edges).max() > _UNIFORM * pitch:
        return 0.0
    return float(1.0 / pitch)
