"""Solids: constructors of half-space intersections.

Each solid is described in a local frame centred on ``centre_cm`` and turned by
``rotation`` (local to world).  ``half_spaces`` is what the compiled walk sees;
``contains`` asks the local description directly and is the oracle for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import GeometryError
from conebeam.geometry.rotation import IDENTITY, Matrix, Vector, check_rotation, check_vector
from conebeam.geometry.surfaces import HalfSpace, placed_quadric, plane

Points = NDArray[np.float64]


@runtime_checkable
class Solid(Protocol):
    """What a cell's region has to offer."""

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """Half-spaces whose intersection the solid is."""
        ...

    def bounds(self) -> NDArray[np.float64]:
        """World box around the solid, shape (2, 3), cm; infinite where it has no end."""
        ...

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which of the points, shape (n, 3), lie in the solid."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """What all solids share: a centre and a rotation, checked when built."""

    centre_cm: Vector = (0.0, 0.0, 0.0)
    rotation: Matrix = IDENTITY

    def __post_init__(self) -> None:
        check_vector(self.centre_cm, f"the centre of a {type(self).__name__.lower()}")
        check_rotation(self.rotation, f"a {type(self).__name__.lower()}")
        for field in fields(self):
            if field.name.endswith("_cm") and field.name != "centre_cm":
                self._check_size(field.name, getattr(self, field.name))

    def _check_size(self, name: str, value: float | Vector) -> None:
        sizes = value if isinstance(value, tuple) else (value,)
        zero = name in _MAY_VANISH
        if not all(math.isfinite(s) and (s > 0.0 or (zero and s == 0.0)) for s in sizes):
            raise GeometryError(
                f"{name} of a {type(self).__name__.lower()} must be finite and "
                f"{'not negative' if zero else 'positive'}, not {value}"
            )

    def _frame(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.asarray(self.rotation, dtype=np.float64), np.asarray(self.centre_cm)

    def _local(self, points: Points) -> Points:
        rotation, centre = self._frame()
        local: Points = (np.asarray(points, dtype=np.float64) - centre) @ rotation
        return local

    def _plane(self, normal: Vector, offset: float) -> HalfSpace:
        rotation, centre = self._frame()
        length = math.sqrt(sum(c * c for c in normal))
        n = rotation @ (np.asarray(normal) / length)
        return plane(n, offset / length + float(n @ centre))

    def _quadric(self, diagonal: Vector, z_linear: float, constant: float) -> HalfSpace:
        rotation, centre = self._frame()
        linear = np.array([0.0, 0.0, z_linear])
        return placed_quadric(np.diag(diagonal), linear, constant, rotation, centre)

    def _box_around(self, half: Vector) -> NDArray[np.float64]:
        rotation, centre = self._frame()
        reach = np.abs(rotation) @ np.asarray(half)
        return np.stack((centre - reach, centre + reach))


_MAY_VANISH = ("top_radius_cm",)


@dataclass(frozen=True, kw_only=True)
class Box(_Placed):
    """Rectangular box with full sizes ``size_cm``."""

    size_cm: Vector

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """Six planes."""
        return tuple(
            self._plane(_unit(axis, sign), 0.5 * self.size_cm[axis])
            for axis in range(3)
            for sign in (-1.0, 1.0)
        )

    def bounds(self) -> NDArray[np.float64]:
        """World box around the solid, shape (2, 3)."""
        return self._box_around(_halved(self.size_cm))

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which points, shape (n, 3), lie inside."""
        inside = np.abs(self._local(points)) <= np.asarray(_halved(self.size_cm))
        return np.asarray(np.all(inside, axis=1))

    def volume_cm3(self) -> float:
        """Product of the sizes."""
        return math.prod(self.size_cm)


@dataclass(frozen=True, kw_only=True)
class Sphere(_Placed):
    """Ball of a radius."""

    radius_cm: float

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """One quadric."""
        r = self.radius_cm
        s = 0.5 / r
        return (self._quadric((s, s, s), 0.0, -0.5 * r),)

    def bounds(self) -> NDArray[np.float64]:
        """World box around the solid, shape (2, 3)."""
        centre = np.asarray(self.centre_cm)
        return np.stack((centre - self.radius_cm, centre + self.radius_cm))

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which points, shape (n, 3), lie inside."""
        return np.asarray(np.linalg.norm(self._local(points), axis=1) <= self.radius_cm)

    def volume_cm3(self) -> float:
        """4/3 π r³."""
        return 4.0 / 3.0 * math.pi * self.radius_cm**3


@dataclass(frozen=True, kw_only=True)
class Ellipsoid(_Placed):
    """Ellipsoid with semi-axes along local x, y, z."""

    semi_axes_cm: Vector

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """One quadric."""
        s = 0.5 * min(self.semi_axes_cm)
        a, b, c = self.semi_axes_cm
        return (self._quadric((s / a**2, s / b**2, s / c**2), 0.0, -s),)

    def bounds(self) -> NDArray[np.float64]:
        """World box around the solid, shape (2, 3)."""
        rotation, centre = self._frame()
        reach = np.sqrt((rotation**2) @ (np.asarray(self.semi_axes_cm) ** 2))
        return np.stack((centre - reach, centre + reach))

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which points, shape (n, 3), lie inside."""
        scaled = self._local(points) / np.asarray(self.semi_axes_cm)
        return np.asarray(np.linalg.norm(scaled, axis=1) <= 1.0)

    def volume_cm3(self) -> float:
        """4/3 π a b c."""
        return 4.0 / 3.0 * math.pi * math.prod(self.semi_axes_cm)


@dataclass(frozen=True, kw_only=True)
class Cylinder(_Placed):
    """Finite circular cylinder about local z, ``height_cm`` from end to end."""

    radius_cm: float
    height_cm: float

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """One quadric and two planes."""
        r, h = self.radius_cm, 0.5 * self.height_cm
        return (
            self._quadric((0.5 / r, 0.5 / r, 0.0), 0.0, -0.5 * r),
            self._plane((0.0, 0.0, -1.0), h),
            self._plane((0.0, 0.0, 1.0), h),
        )

    def bounds(self) -> NDArray[np.float64]:
        """World box around the solid, shape (2, 3)."""
        return _round_bounds(self._frame(), self.radius_cm, self.radius_cm, self.height_cm)

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which points, shape (n, 3), lie inside."""
        p = self._local(points)
        radial = np.hypot(p[:, 0], p[:, 1]) <= self.radius_cm
        return np.asarray(radial & (np.abs(p[:, 2]) <= 0.5 * self.height_cm))

    def volume_cm3(self) -> float:
        """π r² h."""
        return math.pi * self.radius_cm**2 * self.height_cm


@dataclass(frozen=True, kw_only=True)
class Cone(_Placed):
    """Circular cone or frustum about local z: base at −height/2, top at +height/2."""

    base_radius_cm: float
    top_radius_cm: float = 0.0
    height_cm: float

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """One quadric (a plane pair would do for equal radii: a cylinder) and two planes."""
        h = 0.5 * self.height_cm
        slope = (self.top_radius_cm - self.base_radius_cm) / self.height_cm
        middle = 0.5 * (self.top_radius_cm + self.base_radius_cm)
        largest = max(self.top_radius_cm, self.base_radius_cm)
        s = 0.5 / (largest * math.sqrt(1.0 + slope * slope))
        return (
            self._quadric((s, s, -s * slope**2), -2.0 * s * middle * slope, -s * middle**2),
            self._plane((0.0, 0.0, -1.0), h),
            self._plane((0.0, 0.0, 1.0), h),
        )

    def bounds(self) -> NDArray[np.float64]:
        """World box around the solid, shape (2, 3)."""
        return _round_bounds(self._frame(), self.base_radius_cm, self.top_radius_cm, self.height_cm)

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which points, shape (n, 3), lie inside."""
        p = self._local(points)
        t = p[:, 2] / self.height_cm + 0.5
        radius = self.base_radius_cm + t * (self.top_radius_cm - self.base_radius_cm)
        return np.asarray((np.hypot(p[:, 0], p[:, 1]) <= radius) & (t >= 0.0) & (t <= 1.0))

    def volume_cm3(self) -> float:
        """π h (a² + a b + b²) / 3."""
        a, b = self.base_radius_cm, self.top_radius_cm
        return math.pi * self.height_cm * (a * a + a * b + b * b) / 3.0


@dataclass(frozen=True, kw_only=True)
class Wedge(_Placed):
    """Right-angled prism: half of a box, cut from its −x+z edge to its +x−z edge.

    The thickness along local z falls from ``size_cm[2]`` at the −x face to
    nothing at the +x face.
    """

    size_cm: Vector

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """Five planes."""
        a, b, c = _halved(self.size_cm)
        return (
            self._plane((-1.0, 0.0, 0.0), a),
            self._plane((0.0, -1.0, 0.0), b),
            self._plane((0.0, 1.0, 0.0), b),
            self._plane((0.0, 0.0, -1.0), c),
            self._plane((c, 0.0, a), 0.0),
        )

    def bounds(self) -> NDArray[np.float64]:
        """World box around the solid, shape (2, 3)."""
        return self._box_around(_halved(self.size_cm))

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which points, shape (n, 3), lie inside."""
        p = self._local(points)
        a, b, c = _halved(self.size_cm)
        height = -c * p[:, 0] / a
        return np.asarray((p[:, 0] >= -a) & (np.abs(p[:, 1]) <= b) & (p[:, 2] >= -c) & (p[:, 2] <= height))

    def volume_cm3(self) -> float:
        """Half the box."""
        return 0.5 * math.prod(self.size_cm)


@dataclass(frozen=True, kw_only=True)
class Intersection:
    """What several solids and half-spaces have in common.

    ``Intersection(parts=(sphere, ~plane))`` cuts a sphere; a shell is a solid
    with a cell of higher priority inside it.
    """

    parts: tuple[Solid | HalfSpace, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise GeometryError("an intersection must have at least one part, not none")

    def half_spaces(self) -> tuple[HalfSpace, ...]:
        """All half-spaces of all parts."""
        found: list[HalfSpace] = []
        for part in self.parts:
            found.extend((part,) if isinstance(part, HalfSpace) else part.half_spaces())
        return tuple(found)

    def bounds(self) -> NDArray[np.float64]:
        """Intersection of the parts' boxes; a bare half-space has none."""
        box = np.array([[-np.inf] * 3, [np.inf] * 3])
        for part in self.parts:
            if not isinstance(part, HalfSpace):
                other = part.bounds()
                box = np.stack((np.maximum(box[0], other[0]), np.minimum(box[1], other[1])))
        return box

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """Which points, shape (n, 3), lie in every part."""
        inside = np.ones(len(points), dtype=np.bool_)
        for part in self.parts:
            if isinstance(part, HalfSpace):
                inside &= part.value(points) <= 0.0
            else:
                inside &= part.contains(points)
        return inside


def _unit(axis: int, sign: float) -> Vector:
    return (
        sign if axis == 0 else 0.0,
        sign if axis == 1 else 0.0,
        sign if axis == 2 else 0.0,
    )


def _halved(size: Vector) -> Vector:
    return 0.5 * size[0], 0.5 * size[1], 0.5 * size[2]


def _round_bounds(
    frame: tuple[NDArray[np.float64], NDArray[np.float64]], low: float, high: float, height: float
) -> NDArray[np.float64]:
    # A disc of radius r with unit normal n reaches r·√(1 − nᵢ²) along axis i.
    rotation, centre = frame
    axis = rotation[:, 2]
    across = np.sqrt(np.maximum(0.0, 1.0 - axis**2))
    ends = [(centre - 0.5 * height * axis, low), (centre + 0.5 * height * axis, high)]
    lower = np.min([end - radius * across for end, radius in ends], axis=0)
    upper = np.max([end + radius * across for end, radius in ends], axis=0)
    return np.stack((lower, upper))
