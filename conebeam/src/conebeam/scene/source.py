"""Sources: where photons start, which way they go, what energies they have."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from conebeam.errors import ConfigError
from conebeam.scene.model import Length, Model, Point

MAX_HALF_ANGLE_DEG = 85.0
MIN_ENERGY_KEV, MAX_ENERGY_KEV = 1.0, 150.0

RECTANGLE, CIRCLE = 0, 1
POINT, PARALLEL, PENCIL = 0, 1, 2

Energy = Annotated[float, Field(ge=MIN_ENERGY_KEV, le=MAX_ENERGY_KEV)]


class Beam(NamedTuple):
    """A source as numbers, world coordinates, rotation applied.

    ``kind``: 0 point, 1 parallel, 2 pencil; ``shape``: 0 rectangle, 1 circle.  The
    field is ``centre + a·u + b·v`` with |a|, |b| ≤ 1 (rectangle) or a² + b² ≤ 1
    (circle); u and v are half-axes in cm.  ``area`` is that of the field, cm².
    """

    kind: int
    shape: int
    position: NDArray[np.float64]
    direction: NDArray[np.float64]
    centre: NDArray[np.float64]
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    area: float


class Monoenergetic(Model):
    """One energy."""

    kind: Literal["mono"] = "mono"
    energy_kev: Energy


class SpectrumFile(Model):
    """Two columns of a CSV file: energy in keV and a weight per bin."""

    kind: Literal["csv"] = "csv"
    file: str
    bins: Literal["centres", "edges"]


class Filter(Model):
    """A sheet of material in the beam."""

    material: str
    thickness_mm: Length


class Tube(Model):
    """A tungsten tube's spectrum, as SpekPy computes it."""

    kind: Literal["tube"] = "tube"
    kvp: Annotated[float, Field(ge=20.0, le=MAX_ENERGY_KEV)]
    anode_angle_deg: Annotated[float, Field(gt=0.0, lt=90.0)] = 12.0
    filters: tuple[Filter, ...] = ()

    @field_validator("filters", mode="before")
    @classmethod
    def _parse(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            return [parse_filter(v) if isinstance(v, str) else v for v in value]
        return value


class TubeResultFile(Model):
    """A tube by Monte Carlo: the finished result of ``conebeam tube --out``.

    Parameters
    ----------
    file : str
        HDF5.
    heel : bool
        Intensity and spectrum of each column of the field, which a point source alone can have;
        otherwise the spectrum that is the mean over the tube's field.
    cathode : tuple of 3 floats, optional
        Direction from anode to cathode, whose part in the field's plane counts; the direction
        across the field if left out.
    """

    kind: Literal["tube_result"] = "tube_result"
    file: str
    heel: bool = True
    cathode: Point | None = None

    @model_validator(mode="after")
    def _cathode_needs_heel(self) -> TubeResultFile:
        if self.cathode is not None and not self.heel:
            raise ValueError("must have no cathode where heel is false; leave one out")
        return self


Spectrum = Annotated[Monoenergetic | SpectrumFile | Tube | TubeResultFile, Field(discriminator="kind")]


class _Field(Model):
    centre_cm: Point = (0.0, 0.0, 0.0)
    normal: Point = (0.0, 0.0, 1.0)
    up: Point = (0.0, 1.0, 0.0)

    @model_validator(mode="after")
    def _frame_exists(self) -> _Field:
        if np.linalg.norm(np.cross(self.normal, self.up)) < 1e-9:
            raise ValueError(
                f"must have a normal and an up that are not parallel, not {self.normal} and {self.up}"
            )
        return self

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Unit vectors across and along ``up`` in the field's plane."""
        n = np.asarray(self.normal) / np.linalg.norm(self.normal)
        v = np.asarray(self.up) - n * (n @ np.asarray(self.up))
        v = v / np.linalg.norm(v)
        return np.cross(v, n), v


class Rectangle(_Field):
    """A rectangle: width across, height along ``up``."""

    kind: Literal["rectangle"] = "rectangle"
    width_cm: Length
    height_cm: Length

    def half_axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """U and v of the beam."""
        across, along = self.axes()
        return 0.5 * self.width_cm * across, 0.5 * self.height_cm * along

    def area(self) -> float:
        """cm²."""
        return self.width_cm * self.height_cm


class Circle(_Field):
    """A disc."""

    kind: Literal["circle"] = "circle"
    diameter_cm: Length

    def half_axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """U and v of the beam."""
        across, along = self.axes()
        return 0.5 * self.diameter_cm * across, 0.5 * self.diameter_cm * along

    def area(self) -> float:
        """cm²."""
        return 0.25 * math.pi * self.diameter_cm**2


FieldShape = Annotated[Rectangle | Circle, Field(discriminator="kind")]


class Turn(Model):
    """Rotation of the whole source about an isocentre (right-handed)."""

    angle_deg: float
    axis: Point = (0.0, 1.0, 0.0)
    isocentre_cm: Point = (0.0, 0.0, 0.0)

    @field_validator("axis")
    @classmethod
    def _not_null(cls, axis: Point) -> Point:
        if np.linalg.norm(axis) < 1e-12:
            raise ValueError(f"must not vanish, not {axis}")
        return axis

    def matrix(self) -> NDArray[np.float64]:
        """Rodrigues' formula, shape (3, 3)."""
        k = np.asarray(self.axis) / np.linalg.norm(self.axis)
        cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
        angle = math.radians(self.angle_deg)
        turned: NDArray[np.float64] = (
            np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross
        )
        return turned


class _Source(Model):
    spectrum: Spectrum
    turn: Turn | None = None

    @model_validator(mode="after")
    def _heel_has_a_direction(self) -> _Source:
        wanted, kind = self.spectrum, getattr(self, "kind", "point")
        if isinstance(wanted, TubeResultFile) and wanted.heel and kind != "point":
            raise ValueError(
                f"must be a point to have a tube's heel, not of kind '{kind}'; "
                "say heel = false for the mean spectrum of the tube's field"
            )
        return self

    def _turned(self, beam: Beam) -> Beam:
        if self.turn is None:
            return beam
        matrix, iso = self.turn.matrix(), np.asarray(self.turn.isocentre_cm)
        return beam._replace(
            position=matrix @ (beam.position - iso) + iso,
            centre=matrix @ (beam.centre - iso) + iso,
            direction=matrix @ beam.direction,
            u=matrix @ beam.u,
            v=matrix @ beam.v,
        )


class PointSource(_Source):
    """An isotropic point, collimated to a field in any plane."""

    kind: Literal["point"] = "point"
    position_cm: Point
    field: FieldShape

    @model_validator(mode="after")
    def _field_is_possible(self) -> PointSource:
        beam = self.beam()
        across = np.cross(beam.u, beam.v)
        normal = across / np.linalg.norm(across)
        apart = abs(float((beam.centre - beam.position) @ normal))
        if apart < 1e-6:
            raise ValueError("must not lie in the plane of its own field; move one of them")
        corners = field_points(beam, 3)
        to = corners - beam.position
        cosine = (to @ beam.direction) / np.linalg.norm(to, axis=1)
        half = math.degrees(math.acos(float(np.clip(cosine.min(), -1.0, 1.0))))
        if half > MAX_HALF_ANGLE_DEG:
            raise ValueError(
                f"must have a field within {MAX_HALF_ANGLE_DEG:g} degrees of its axis, "
                f"not {half:.1f}; make the field smaller or move it away from the source"
            )
        return self

    def cathode(self) -> NDArray[np.float64]:
        """Unit vector from anode to cathode in the field's plane, rotation applied, shape (3,).

        Raises
        ------
        ConfigError
            If the one given is at right angles to the field.
        """
        across, up = self.field.axes()
        given = self.spectrum.cathode if isinstance(self.spectrum, TubeResultFile) else None
        found = across
        if given is not None:
            found = across * (across @ np.asarray(given)) + up * (up @ np.asarray(given))
            if np.linalg.norm(found) < 1e-9:
                raise ConfigError(
                    f"source.spectrum.cathode must not be at right angles to the field, as {given} is; give a "
                    "direction along it"
                )
        unit: NDArray[np.float64] = found / np.linalg.norm(found)
        return unit if self.turn is None else self.turn.matrix() @ unit

    def beam(self) -> Beam:
        """The source as numbers."""
        position, centre = np.asarray(self.position_cm), np.asarray(self.field.centre_cm)
        u, v = self.field.half_axes()
        distance = float(np.linalg.norm(centre - position))
        direction = (centre - position) / distance if distance > 0.0 else np.zeros(3)
        shape = CIRCLE if isinstance(self.field, Circle) else RECTANGLE
        return self._turned(Beam(POINT, shape, position, direction, centre, u, v, self.field.area()))


class ParallelSource(_Source):
    """Parallel photons through a field, along its normal."""

    kind: Literal["parallel"] = "parallel"
    field: FieldShape

    def beam(self) -> Beam:
        """The source as numbers; photons start in the field's plane."""
        centre = np.asarray(self.field.centre_cm)
        normal = np.asarray(self.field.normal) / np.linalg.norm(self.field.normal)
        u, v = self.field.half_axes()
        shape = CIRCLE if isinstance(self.field, Circle) else RECTANGLE
        return self._turned(Beam(PARALLEL, shape, centre, normal, centre, u, v, self.field.area()))


class PencilSource(_Source):
    """All photons on one line."""

    kind: Literal["pencil"] = "pencil"
    position_cm: Point
    direction: Point = (0.0, 0.0, 1.0)

    @field_validator("direction")
    @classmethod
    def _not_null(cls, direction: Point) -> Point:
        if np.linalg.norm(direction) < 1e-12:
            raise ValueError(f"must not vanish, not {direction}")
        return direction

    def beam(self) -> Beam:
        """The source as numbers; its field has no size."""
        position = np.asarray(self.position_cm)
        along = np.asarray(self.direction) / np.linalg.norm(self.direction)
        none = np.zeros(3)
        return self._turned(Beam(PENCIL, RECTANGLE, position, along, position, none, none, 0.0))


Source = Annotated[PointSource | ParallelSource | PencilSource, Field(discriminator="kind")]


def field_points(beam: Beam, count: int) -> NDArray[np.float64]:
    """``count``² points spread over the field, its corners or rim included, shape (n, 3)."""
    if beam.shape == CIRCLE:
        radius = np.linspace(0.0, 1.0, count)
        angle = np.arange(4 * count) * (0.5 * math.pi / count)
        a = np.outer(radius, np.cos(angle)).ravel()
        b = np.outer(radius, np.sin(angle)).ravel()
    else:
        side = np.linspace(-1.0, 1.0, count)
        a, b = (m.ravel() for m in np.meshgrid(side, side))
    points: NDArray[np.float64] = beam.centre + a[:, None] * beam.u + b[:, None] * beam.v
    return points


def parse_filter(text: str) -> Filter:
    """``"Al:2.5mm"`` as a Filter (unit mm, cm or um).

    Raises
    ------
    ValueError
        If the text has another form.
    """
    match = re.fullmatch(r"\s*([A-Za-z][\w ]*?)\s*:\s*([0-9.eE+-]+)\s*(mm|cm|um)\s*", text)
    try:
        if match is None:
            raise ValueError
        value = float(match[2]) * {"mm": 1.0, "cm": 10.0, "um": 1e-3}[match[3]]
        if not 0.0 < value < 1e4:
            raise ValueError
    except ValueError:
        raise ValueError(f"must read MATERIAL:THICKNESSmm such as 'Al:2.5mm', not '{text}'") from None
    return Filter(material=match[1], thickness_mm=value)
