"""Scorers: what is to be known, where, on which bins, per what."""

from __future__ import annotations

import math
from typing import Annotated, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from conebeam import extracts
from conebeam.errors import ConfigError
from conebeam.extracts import Edges, Extract
from conebeam.scene.model import Length, Model, Name, Point, Range
from conebeam.scene.source import MAX_ENERGY_KEV, Beam, Circle, Rectangle

Per = Literal["photon", "fluence"]
MAX_VOXELS = 2**31 - 1
DEFAULT_PITCH_CM = 0.25


class Bins(Model):
    """Edges along one axis: a list, or equal bins from ``low_cm`` to ``high_cm``."""

    low_cm: float | None = None
    high_cm: float | None = None
    count: Annotated[int, Field(ge=1, le=100_000)] | None = None
    edges_cm: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Bins:
        regular = (self.low_cm, self.high_cm, self.count)
        if self.edges_cm is not None:
            if any(v is not None for v in regular):
                raise ValueError("must have edges_cm or low_cm, high_cm and count, not both")
            if len(self.edges_cm) < 2 or np.any(np.diff(self.edges_cm) <= 0.0):
                raise ValueError("must have at least two edges_cm that rise from bin to bin")
        elif self.low_cm is None or self.high_cm is None or self.count is None:
            raise ValueError("must have low_cm, high_cm and count, or edges_cm")
        elif self.low_cm >= self.high_cm:
            raise ValueError(f"must have low_cm below high_cm, not {self.low_cm:g} and {self.high_cm:g}")
        return self

    def edges(self) -> NDArray[np.float64]:
        """Edges in cm, shape (n + 1,)."""
        if self.edges_cm is not None:
            return np.asarray(self.edges_cm)
        # The validator saw to it that all three are there.
        return np.linspace(cast(float, self.low_cm), cast(float, self.high_cm), cast(int, self.count) + 1)


class CurveSpec(Model):
    """A depth curve or profile: the mean over the other two axes' ranges.

    ``fold = 2`` mirrors the negative half onto the positive one; ``fold = 4`` adds
    the other lateral axis, for square fields.
    """

    name: Name
    along: Literal["x", "y", "z"]
    x_cm: Range | None = None
    y_cm: Range | None = None
    z_cm: Range | None = None
    fold: Literal[0, 2, 4] = 0


class RegionSpec(Model):
    """A named box; its faces lie on grid edges."""

    name: Name
    x_cm: Range
    y_cm: Range
    z_cm: Range

    @model_validator(mode="after")
    def _has_size(self) -> RegionSpec:
        for axis in "xyz":
            low, high = getattr(self, f"{axis}_cm")
            if low >= high:
                raise ValueError(
                    f"must have {axis}_cm rise from low to high, not go from {low:g} to {high:g}"
                )
        return self

    def box(self) -> tuple[tuple[float, float], ...]:
        """Limits along x, y, z."""
        return self.x_cm, self.y_cm, self.z_cm


def _once(regions: tuple[RegionSpec, ...]) -> tuple[RegionSpec, ...]:
    names = [region.name for region in regions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"must have names that are unique, not twice '{twice}'; name one anew")
    return regions


class DoseScorer(Model):
    """Dose on a grid of its own, with curves and regions taken from it.

    Results: the grid under ``name``, each curve under its own name, and the
    regions, if any, under ``name regions``.  An axis without bins gets bins of
    ``DEFAULT_PITCH_CM`` over the phantom when the scene is completed.
    """

    kind: Literal["dose"] = "dose"
    name: Name = "dose"
    x_cm: Bins | None = None
    y_cm: Bins | None = None
    z_cm: Bins | None = None
    curves: tuple[CurveSpec, ...] = ()
    regions: tuple[RegionSpec, ...] = ()
    per: Per = "fluence"
    estimator: Literal["track_length", "deposit"] = "track_length"
    keep_grid: bool = True

    @field_validator("regions")
    @classmethod
    def _called_once(cls, regions: tuple[RegionSpec, ...]) -> tuple[RegionSpec, ...]:
        return _once(regions)

    @model_validator(mode="after")
    def _fits(self) -> DoseScorer:
        if self.is_complete:
            voxels = int(np.prod([len(e) - 1 for e in self.edges()], dtype=np.int64))
            if voxels > MAX_VOXELS:
                raise ValueError(f"must have at most {MAX_VOXELS} voxels, not {voxels}")
            self.extracts()
        return self

    @property
    def is_complete(self) -> bool:
        """Whether all three axes have bins."""
        return None not in (self.x_cm, self.y_cm, self.z_cm)

    def completed(self, bounds: NDArray[np.float64]) -> DoseScorer:
        """A copy whose missing axes are covered with bins, from low to high bound.

        Parameters
        ----------
        bounds : array, shape (2, 3)
            Box around the phantom, cm.
        """
        if self.is_complete:
            return self
        bins = {}
        for axis, low, high in zip("xyz", *bounds.tolist(), strict=True):
            given = getattr(self, f"{axis}_cm")
            # Rounding must not add a sliver of a bin to 30 cm / 0.25 cm.
            count = max(1, math.ceil((high - low) / DEFAULT_PITCH_CM - 1e-9))
            whole = Bins(low_cm=low, high_cm=low + count * DEFAULT_PITCH_CM, count=count)
            bins[f"{axis}_cm"] = given or whole
        return DoseScorer(**{**dict(self), **bins})

    def edges(self) -> Edges:
        """Grid edges along x, y, z in cm.

        Raises
        ------
        ConfigError
            If an axis has no bins yet.
        """
        if self.x_cm is None or self.y_cm is None or self.z_cm is None:
            raise ConfigError(
                f"scorer '{self.name}' must have bins along x, y and z; complete the scene first"
            )
        return self.x_cm.edges(), self.y_cm.edges(), self.z_cm.edges()

    def extracts(self) -> tuple[Extract, ...]:
        """Curves and regions as linear maps of the grid."""
        edges = self.edges()
        found = [
            extracts.curve(
                name=c.name,
                edges=edges,
                along="xyz".index(c.along),
                ranges=(c.x_cm, c.y_cm, c.z_cm),
                fold=c.fold,
            )
            for c in self.curves
        ]
        if self.regions:
            boxes = {r.name: r.box() for r in self.regions}
            found.append(extracts.regions(name=f"{self.name} regions", edges=edges, boxes=boxes))
        return tuple(found)

    def names(self) -> tuple[str, ...]:
        """Names of the results."""
        grid = (self.name,) if self.keep_grid else ()
        regions = (f"{self.name} regions",) if self.regions else ()
        return (*grid, *(curve.name for curve in self.curves), *regions)


class EnergyScorer(Model):
    """Energy deposited in named boxes, keV (scored on the grid their faces span)."""

    kind: Literal["energy"] = "energy"
    name: Name = "energy"
    regions: Annotated[tuple[RegionSpec, ...], Field(min_length=1)]
    per: Per = "photon"
    estimator: Literal["track_length", "deposit"] = "track_length"

    @field_validator("regions")
    @classmethod
    def _called_once(cls, regions: tuple[RegionSpec, ...]) -> tuple[RegionSpec, ...]:
        return _once(regions)

    def edges(self) -> Edges:
        """Edges of the coarsest grid that holds all boxes."""
        return extracts.box_edges({r.name: r.box() for r in self.regions})

    def extracts(self) -> tuple[Extract, ...]:
        """The boxes as sums over that grid."""
        boxes = {r.name: r.box() for r in self.regions}
        return (extracts.regions(name=self.name, edges=self.edges(), boxes=boxes),)

    def names(self) -> tuple[str, ...]:
        """Names of the results."""
        return (self.name,)


class _Plane(Model):
    name: Name
    plane: Annotated[Rectangle | Circle, Field(discriminator="kind")]
    per: Per = "photon"

    def window(self) -> Beam:
        """The plane's frame, half-axes and area (kind and position have no meaning)."""
        u, v = self.plane.half_axes()
        centre, normal = np.asarray(self.plane.centre_cm), np.asarray(self.plane.normal)
        shape = 1 if isinstance(self.plane, Circle) else 0
        return Beam(0, shape, centre, normal / np.linalg.norm(normal), centre, u, v,
                    self.plane.area())  # fmt: skip

    def names(self) -> tuple[str, ...]:
        """Names of the results."""
        return (self.name,)


class FluenceScorer(_Plane):
    """Planar fluence spectrum: Σ 1/|cos θ| per area and energy bin."""

    kind: Literal["fluence"] = "fluence"
    name: Name = "fluence"
    low_kev: Annotated[float, Field(ge=0.0)] = 0.0
    high_kev: Annotated[float, Field(le=MAX_ENERGY_KEV)] = MAX_ENERGY_KEV
    count: Annotated[int, Field(ge=1, le=10_000)] = 300

    @model_validator(mode="after")
    def _rises(self) -> FluenceScorer:
        if self.low_kev >= self.high_kev:
            raise ValueError(f"must have low_kev below high_kev, not {self.low_kev:g} and {self.high_kev:g}")
        return self

    def edges_kev(self) -> NDArray[np.float64]:
        """Energy edges, shape (count + 1,)."""
        return np.linspace(self.low_kev, self.high_kev, self.count + 1)


class KermaScorer(_Plane):
    """Air kerma on a plane: Σ E·(μen/ρ)/|cos θ| per area.

    ``muen_csv`` has the columns energy (keV) and μen/ρ of air (cm²/g); without it the
    package's own energy transfer coefficient of air is taken.
    """

    kind: Literal["air_kerma"] = "air_kerma"
    name: Name = "air kerma"
    muen_csv: str | None = None


Scorer = Annotated[DoseScorer | EnergyScorer | FluenceScorer | KermaScorer, Field(discriminator="kind")]

__all__ = [
    "Bins",
    "CurveSpec",
    "DoseScorer",
    "EnergyScorer",
    "FluenceScorer",
    "KermaScorer",
    "Length",
    "Point",
    "RegionSpec",
    "Scorer",
]
