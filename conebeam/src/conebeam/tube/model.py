"""An x-ray tube written down: voltage, target, electron beam, filters.

What it does not model: the target's edges (its face is a plane without end), what lies
behind the target and its base, scatter in window and filters, and off-focal radiation
(electrons that come back).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from conebeam.data.electrons.elastic import Model as ElasticModel
from conebeam.data.electrons.targets import ALLOY, NAMES, RHENIUM_SHARE, Target
from conebeam.data.electrons.targets import target as target_of
from conebeam.errors import ConfigError
from conebeam.histories.tube_scores import THRESHOLD_KEV
from conebeam.materials import material
from conebeam.scene.model import Length, Model, Point
from conebeam.scene.source import Filter, parse_filter
from conebeam.scene.toml import dumps
from conebeam.tube.range import csda_range_cm

MIN_KVP, MAX_KVP = 20.0, 150.0
MAX_COLUMNS, MAX_PIXELS, MAX_ANGLES = 200, 256, 360
BASE_MM = 10.0
NotNegative = Annotated[float, Field(ge=0.0)]


class ParallelRectangularBeam(Model):
    """Electrons along one direction, spread evenly over half widths y and z (ISOURC = 13 of BEAMnrc).

    They start on the target's face, centred at the focus, or so far below it as `depth_um` says.  For comparisons: those of
    BEAMnrc's XTUBE start below it by the tolerance of its boundaries, 0.0978 µm at 12°.
    """

    kind: Literal["rectangular"] = "rectangular"
    direction: Point = (-1.0, 0.0, 0.0)
    half_y_mm: NotNegative = 0.5
    half_z_mm: NotNegative = 0.5
    depth_um: NotNegative = 0.0

    @field_validator("direction")
    @classmethod
    def _hits(cls, direction: Point) -> Point:
        if not direction[0] < 0.0 or direction[2] != 0.0:
            raise ValueError(
                "must be (u, v, 0) with u below 0, from the cathode towards the anode, for the electrons "
                f"to meet the target, not {direction}"
            )
        return direction


class GaussianSpot(Model):
    """Electrons along −x with a Gaussian section of standard deviations y and z."""

    kind: Literal["gaussian"] = "gaussian"
    sigma_y_mm: NotNegative = 0.3
    sigma_z_mm: NotNegative = 0.3


ElectronBeam = Annotated[ParallelRectangularBeam | GaussianSpot, Field(discriminator="kind")]


class XrayTube(Model):
    """A tube with a stationary view of its target.

    Parameters
    ----------
    kvp : float
        20 to 150.
    anode_angle_deg : float
        Between the target's face and the beam's axis.
    target : str
        W, W-Re, Mo, Rh or Cu.
    rhenium_share : float, optional
        By mass, of W-Re; 0.1 if nothing is said.
    thickness_mm : float
        Of the target, or of its layer on a base.
    base : str, optional
        What the layer lies on, of the same list; without one photons that go deeper are lost.
    base_thickness_mm : float, optional
        10 if nothing is said; photons that go deeper are lost.
    beam : ParallelRectangularBeam or GaussianSpot
    filters : tuple of Filter
        Window and filters, square to the beam's axis; ``"Al:2.5mm"``.
    elastic : str
        ``pw`` (Dirac partial waves) or ``sr`` (screened Rutherford, as EGSnrc without spin).
    cut_kev : float
        Photons, electrons and losses below it are not followed; at most 15, above which totals are taken.
    ripple : float
        The voltage falls by this share between peaks, as 1 − ripple·(1 − cos φ), φ even in 0 to π/2.

    Raises
    ------
    ConfigError
        One sentence on the first thing that is wrong.
    """

    version: Literal[1] = 1
    kvp: Annotated[float, Field(ge=MIN_KVP, le=MAX_KVP)]
    anode_angle_deg: Annotated[float, Field(gt=0.0, lt=90.0)] = 12.0
    target: str = "W"
    rhenium_share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    thickness_mm: Length = 0.5
    base: str | None = None
    base_thickness_mm: Length | None = None
    beam: ElectronBeam = ParallelRectangularBeam()
    filters: tuple[Filter, ...] = ()
    elastic: ElasticModel = "pw"
    cut_kev: Annotated[float, Field(ge=1.0, le=THRESHOLD_KEV)] = 5.0
    ripple: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @field_validator("target", "base")
    @classmethod
    def _known(cls, target: str | None) -> str | None:
        if target is not None and target not in NAMES:
            raise ValueError(
                f"must be one of {', '.join(NAMES)} (those with tables for electrons), not '{target}'"
            )
        return target

    @field_validator("filters", mode="before")
    @classmethod
    def _parse(cls, value: object, _info: ValidationInfo) -> object:
        if isinstance(value, list | tuple):
            return [parse_filter(v) if isinstance(v, str) else v for v in value]
        return value

    @model_validator(mode="after")
    def _possible(self) -> XrayTube:
        if self.cut_kev > 0.5 * self.kvp:
            raise ValueError(
                f"cut_kev must be at most half of kvp, not {self.cut_kev:g} keV of {self.kvp:g} kV"
            )
        if self.rhenium_share is not None and ALLOY not in (self.target, self.base):
            raise ValueError(
                f"rhenium_share must go with target '{ALLOY}', not '{self.target}'; leave it out"
            )
        if self.base_thickness_mm is not None and self.base is None:
            raise ValueError("base_thickness_mm must go with a base, not stand alone; leave it out")
        depth = self.beam.depth_um if isinstance(self.beam, ParallelRectangularBeam) else 0.0
        if depth >= 1000.0 * self.thickness_mm:
            raise ValueError(
                f"beam.depth_um must be less than the target's thickness, {1000.0 * self.thickness_mm:g} µm, not {depth:g}"
            )
        last, name = self.layers[-1], self.base or self.target
        reach = 10.0 * csda_range_cm(last, self.kvp)
        field, thickness, advice = (
            ("base_thickness_mm", self.base_mm, "")
            if self.base
            else ("thickness_mm", self.thickness_mm, "; give a thinner one a base")
        )
        if thickness < reach:
            raise ValueError(
                f"{field} must be at least the range of the electrons, {reach:.4f} mm in {name} at "
                f"{self.kvp:g} keV (what lies behind the target is not modelled{advice}), not {thickness:g}"
            )
        return self

    @property
    def layers(self) -> tuple[Target, ...]:
        """What the face is made of, and its base where it has one."""
        share = RHENIUM_SHARE if self.rhenium_share is None else self.rhenium_share
        return tuple(target_of(name, share) for name in (self.target, self.base) if name is not None)

    @property
    def made_of(self) -> str:
        """Target and base in words."""
        return self.target if self.base is None else f"{self.target} {self.thickness_mm:g} mm on {self.base}"

    @property
    def base_mm(self) -> float:
        """Thickness of the base, zero without one."""
        return 0.0 if self.base is None else self.base_thickness_mm or BASE_MM

    def check(self) -> None:
        """Refuse filters of unknown materials.

        Raises
        ------
        DataError
            Lists what there is.
        """
        for sheet in self.filters:
            material(sheet.material)

    def to_toml(self) -> str:
        """The tube as TOML text."""
        return dumps(self.model_dump(exclude_none=True))

    @classmethod
    def of(cls, **values: object) -> XrayTube:
        """A tube of values yet to be checked, from a file or a command line."""
        return cls(**values)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> XrayTube:
        """Read a tube from a TOML file.

        Raises
        ------
        ConfigError
            If it is missing, no TOML, or no valid tube.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"tube file '{path}' must be readable, and is not: {reason}") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"tube file '{path}' must be valid TOML, and is not: {error}") from error
        return cls.of(**values)


class View(Model):
    """The field that is looked at: a square at a distance from the focus, square to the axis.

    Parameters
    ----------
    field_cm : float
        Side.
    distance_cm : float
        Focus to field.
    with_heel : bool
        Score the heel over 40 × 20 cm too, which takes photons from the field.
    columns : int
        Strips of the field along x, each with a spectrum of its own; 0 for none.
    spot_pixels : int
        Of an image of the focal spot along each side; 0 for none.
    spot_half_mm : float
        Half the image's side.
    angles : int
        Bins of the polar angle, 0 to 180 degrees to the beam's axis, in which photons that leave
        the target are counted by energy; 0 for none.
    """

    field_cm: Annotated[float, Field(gt=0.0, le=200.0)] = 20.0
    distance_cm: Annotated[float, Field(ge=0.5, le=1e4)] = 100.0
    with_heel: bool = True
    columns: Annotated[int, Field(ge=0, le=MAX_COLUMNS)] = 0
    spot_pixels: Annotated[int, Field(ge=0, le=MAX_PIXELS)] = 0
    spot_half_mm: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    angles: Annotated[int, Field(ge=0, le=MAX_ANGLES)] = 0
