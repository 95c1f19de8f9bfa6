"""Convex bodies that rays from the scanner hit: bounded by planes, or ellipsoids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a surface does to light.

    Parameters
    ----------
    reflectance : float
        0 to 1.
    passes : float
        Part of the rays that go through as if nothing were there (leaves, spokes).
    swallows : float
        Part of the rays that end there and do not come back (glass).
    roughness : float
        Standard deviation of the surface's depth in metres.
    """

    reflectance: float
    passes: float = 0.0
    swallows: float = 0.0
    roughness: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape(ABC):
    """A body that stands at a place and is turned about the vertical.

    Parameters
    ----------
    centre : ndarray, shape (3,)
    yaw : float
    material : Material
    """

    centre: np.ndarray
    yaw: float
    material: Material

    @property
    @abstractmethod
    def reach(self) -> float:
        """Radius of a ball about the centre that holds the body."""

    @abstractmethod
    def _local(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances and cosines in the body's own axes; see `hit`."""

    def hit(self, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where rays from the scanner, which is at 0, meet the body.

        Parameters
        ----------
        rays : ndarray, shape (…, 3)
            Of length 1.

        Returns
        -------
        distance : ndarray, shape (…,)
            Infinity where the body is missed.
        cosine : ndarray, shape (…,)
            Of the angle to the surface's normal; means nothing where missed.
        """
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])  # on the right: undoes the yaw
        return self._local(-self.centre @ turn, rays @ turn)


@dataclass(frozen=True, kw_only=True, eq=False)
class Polytope(Shape):
    """All points x with normals · x <= offsets, about the centre.

    Parameters
    ----------
    normals : ndarray, shape (k, 3)
        Of length 1.
    offsets : ndarray, shape (k,)
        > 0: the centre is inside.
    radius : float
        See `reach`.
    """

    normals: np.ndarray
    offsets: np.ndarray
    radius: float

    @property
    def reach(self) -> float:
        return self.radius

    def _local(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        excess = self.normals @ origin - self.offsets
        slope = rays @ self.normals.T
        slope = np.where(np.abs(slope) < 1e-12, 1e-12, slope)  # alongside a plane: met far away
        meets = -excess / slope
        enters = np.where(slope < 0, meets, -np.inf)
        plane = enters.argmax(axis=-1)
        entry = np.take_along_axis(enters, plane[..., None], axis=-1)[..., 0]
        leave = np.where(slope > 0, meets, np.inf).min(axis=-1)
        cosine = -np.take_along_axis(slope, plane[..., None], axis=-1)[..., 0]
        return np.where((entry <= leave) & (entry > 0), entry, np.inf), cosine


@dataclass(frozen=True, kw_only=True, eq=False)
class Ellipsoid(Shape):
    """An ellipsoid with its axes along the body's.

    Parameters
    ----------
    radii : ndarray, shape (3,)
    """

    radii: np.ndarray

    @property
    def reach(self) -> float:
        return float(self.radii.max())

    def _local(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        start, way = origin / self.radii, rays / self.radii
        square = (way * way).sum(axis=-1)
        middle = way @ start
        root = middle * middle - square * (start @ start - 1)
        distance = (-middle - np.sqrt(np.maximum(root, 0))) / square
        hit = (root > 0) & (distance > 0)
        normal = (start + np.where(hit, distance, 0)[..., None] * way) / self.radii
        length = np.sqrt((normal * normal).sum(axis=-1))
        cosine = -(normal * rays).sum(axis=-1) / np.maximum(length, 1e-12)
        return np.where(hit, distance, np.inf), cosine


def box(centre: np.ndarray, size: tuple[float, float, float], yaw: float, material: Material) -> Polytope:
    """A box of length, width and height."""
    half = np.array(size) / 2
    return Polytope(
        centre=centre,
        yaw=yaw,
        material=material,
        normals=np.concatenate((np.eye(3), -np.eye(3))),
        offsets=np.concatenate((half, half)),
        radius=float(np.linalg.norm(half)),
    )


def cut(body: Polytope, planes: list[tuple[tuple[float, float, float], float]]) -> Polytope:
    """A body without what lies beyond planes, each a normal of any length and an offset in its units."""
    normals = np.array([normal for normal, _ in planes])
    lengths = np.linalg.norm(normals, axis=1)
    return Polytope(
        centre=body.centre,
        yaw=body.yaw,
        material=body.material,
        normals=np.concatenate((body.normals, normals / lengths[:, None])),
        offsets=np.concatenate((body.offsets, np.array([offset for _, offset in planes]) / lengths)),
        radius=body.radius,
    )


def post(centre: np.ndarray, radius: float, height: float, material: Material) -> Polytope:
    """An upright prism of eight sides."""
    sides = [((float(np.cos(a)), float(np.sin(a)), 0.0), radius) for a in np.pi / 4 * np.arange(8)]
    return cut(box(centre, (2.2 * radius, 2.2 * radius, height), 0.0, material), sides)
