"""A scene: everything a result depends on, in one frozen object and one TOML file.

Source, phantom or CT, beam-line cells, scorers, histories or target uncertainty,
seed.  Units are suffixes of the keys; unknown keys are refused; files named in a
scene are looked for beside it and enter the provenance by their SHA-256.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, field_validator, model_validator

from conebeam.batches import DEFAULT_BATCHES, BatchPlan
from conebeam.errors import ConfigError
from conebeam.geometry import Cell, Geometry, Lattice, LatticeCell, check_geometry, trace
from conebeam.job import MIN_BATCHES
from conebeam.scene.model import Fraction, Model
from conebeam.scene.phantom import Phantom, Shape, Voxels, lone_lattice
from conebeam.scene.scorer import DoseScorer, EnergyScorer, KermaScorer, Scorer
from conebeam.scene.source import PENCIL, POINT, Source, SpectrumFile, TubeResultFile, field_points
from conebeam.scene.toml import dumps

VERSION = 1
_TARGET_BATCH = 100_000
_LARGE_BATCH = 1_000_000
_RAYS = 41
_CROSSINGS = 10_000
_CHORD_CM = 1e-5


class MaterialSpec(Model):
    """A material of the user's: mass fractions or a formula, and a density."""

    density_g_cm3: Annotated[float, Field(gt=0.0)]
    fractions: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]] | None = None
    formula: str | None = None

    @model_validator(mode="after")
    def _one_composition(self) -> MaterialSpec:
        if (self.fractions is None) == (self.formula is None):
            raise ValueError("must have either fractions or a formula")
        total = math.fsum((self.fractions or {"": 1.0}).values())
        if abs(total - 1.0) > 1e-3:
            raise ValueError(f"must have mass fractions that sum to 1, not {total:g}")
        return self


class TargetSpec(Model):
    """Stop when a region is known this well."""

    uncertainty: Fraction
    region: str


class Scene(Model):
    """One simulation, written down.

    Raises
    ------
    ConfigError
        One sentence on the first thing that is wrong.
    """

    version: Literal[1] = 1
    name: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    histories: Annotated[int, Field(gt=0, le=10**15)]
    batches: Annotated[int, Field(gt=0, le=2**20)] | None = None
    target: TargetSpec | None = None
    materials: dict[str, MaterialSpec] = Field(default_factory=dict)
    source: Source
    phantom: Phantom | None = None
    cells: tuple[Shape, ...] = ()
    scorers: Annotated[tuple[Scorer, ...], Field(min_length=1)]

    _folder: Path = PrivateAttr(default_factory=Path)
    # A CT is read once, not by everything that asks for the phantom.
    _built: tuple[Cell | LatticeCell, ...] | None = PrivateAttr(default=None)

    @field_validator("version", mode="before")
    @classmethod
    def _known_version(cls, value: object) -> object:
        if isinstance(value, int) and value > VERSION:
            raise ValueError(f"must be {VERSION} or older, not {value}; upgrade conebeam")
        return value

    @field_validator("histories", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        # 1e7 is a float in TOML, and the natural way to write ten million.
        return int(value) if isinstance(value, float) and value.is_integer() else value

    @model_validator(mode="after")
    def _consistent(self) -> Scene:
        if self.phantom is None and not self.cells:
            raise ValueError("a scene must have a phantom or cells, not neither")
        names = [name for scorer in self.scorers for name in scorer.names()]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"scorer names must be unique, not twice '{twice[0]}'; name one anew")
        if self.target is not None:
            self._check_target(self.target, names)
        self.plan()
        return self

    def _check_target(self, target: TargetSpec, names: list[str]) -> None:
        known = set(names)
        for scorer in self.scorers:
            if isinstance(scorer, DoseScorer | EnergyScorer):
                owner = scorer.name if isinstance(scorer, EnergyScorer) else f"{scorer.name} regions"
                known.update(f"{owner}.{region.name}" for region in scorer.regions)
        if target.region not in known:
            raise ValueError(
                f"target.region must be one of {', '.join(sorted(known))}, not '{target.region}'"
            )

    def plan(self) -> BatchPlan:
        """Histories and batches.

        With a target, batches are small enough to judge by; without, there are 64,
        or more where histories are many.
        """
        if self.batches is not None:
            batches = self.batches
        elif self.target is not None:
            batches = min(2**20, max(2 * MIN_BATCHES, self.histories // _TARGET_BATCH))
        else:
            batches = min(4096, max(DEFAULT_BATCHES, self.histories // _LARGE_BATCH))
        if self.batches is None:
            batches = min(batches, self.histories)
        return BatchPlan(histories=self.histories, batches=batches)

    @classmethod
    def load(cls, path: str | Path) -> Scene:
        """Read a scene file.

        Raises
        ------
        ConfigError
            If it is missing, no TOML, or no valid scene.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"scene file '{path}' must be readable, and is not: {reason}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"scene file '{path}' must be UTF-8 text") from error
        return cls.loads(text, folder=path.parent)

    @classmethod
    def loads(cls, text: str, *, folder: Path | None = None) -> Scene:
        """Read a scene from TOML text; files are looked for in ``folder``."""
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"a scene must be valid TOML, and is not: {error}") from error
        scene = cls(**values)
        scene._folder = folder or Path()
        return scene

    def to_toml(self) -> str:
        """The scene as TOML text; ``loads`` gives it back."""
        return dumps(_plain(self.model_dump(exclude_none=True, exclude_defaults=False)))

    def changed(self, **values: Any) -> Scene:
        """A copy with some keys replaced, validated again."""
        merged = {**self.model_dump(exclude_none=True), **values}
        scene = Scene(**{key: value for key, value in merged.items() if value is not None})
        scene._folder = self._folder
        if not {"phantom", "materials"} & set(values):
            scene._built = self._built
        return scene

    def resolve(self, file: str) -> Path:
        """Where a file named in the scene lies."""
        return self._folder / file

    def files(self) -> dict[str, str]:
        """SHA-256 of every file the scene names.

        Raises
        ------
        ConfigError
            If one is missing.
        """
        named: list[str] = []
        if isinstance(self.source.spectrum, SpectrumFile | TubeResultFile):
            named.append(self.source.spectrum.file)
        if isinstance(self.phantom, Voxels):
            named.append(self.phantom.file)
        named.extend(
            s.muen_csv for s in self.scorers if isinstance(s, KermaScorer) and s.muen_csv is not None
        )
        return {name: self._digest(name) for name in named}

    def digests(self) -> dict[str, str]:
        """:meth:`files` as entries of a provenance."""
        return {f"file {name}": digest for name, digest in self.files().items()}

    def geometry(self, densities: Mapping[str, float]) -> Geometry:
        """Phantom and cells.

        Parameters
        ----------
        densities : mapping
            Density of each known material, g/cm³; the scene's own are added.
        """
        return Geometry(cells=(*self._phantom_cells(densities), *(c.cell() for c in self.cells)))

    def lone_lattice(self, densities: Mapping[str, float]) -> Lattice | None:
        """The phantom's lattice if the phantom is all there is and stands square."""
        if self.phantom is None or self.cells:
            return None
        return lone_lattice(self._phantom_cells(densities))

    def known_densities(self, densities: Mapping[str, float]) -> dict[str, float]:
        """Densities of library materials and the scene's own, which win."""
        own = {name: material.density_g_cm3 for name, material in self.materials.items()}
        return {**densities, **own}

    def completed(self, densities: Mapping[str, float]) -> Scene:
        """A copy in which every dose scorer has its grid: 2.5 mm bins by default.

        They cover the phantom, or all cells where there is no phantom.
        """
        if all(s.is_complete for s in self.scorers if isinstance(s, DoseScorer)):
            return self
        cells = self._phantom_cells(densities) or tuple(c.cell() for c in self.cells)
        bounds = Geometry(cells=cells).bounds()
        scorers = tuple(s.completed(bounds) if isinstance(s, DoseScorer) else s for s in self.scorers)
        return self.changed(scorers=[s.model_dump(exclude_none=True) for s in scorers])

    def check(self, densities: Mapping[str, float]) -> Geometry:
        """Refuse what cannot be simulated, beyond what single keys tell.

        Returns
        -------
        Geometry
            What was checked, for use.

        Raises
        ------
        ConebeamError
            On overlapping cells, unknown materials, a source whose field never meets
            the phantom, a scorer outside everything, a missing file.
        """
        self.files()
        geometry = self.geometry(densities)
        known = self.known_densities(densities)
        for name in geometry.materials:
            if name not in known:
                raise ConfigError(
                    f"material '{name}' must be in the library or under [materials], "
                    f"and is not; known are {', '.join(sorted(known))}"
                )
        check_geometry(geometry)
        self._check_meeting(geometry)
        bounds = geometry.bounds()
        for number, scorer in enumerate(self.completed(densities).scorers):
            if isinstance(scorer, DoseScorer | EnergyScorer):
                low = np.array([e[0] for e in scorer.edges()])
                high = np.array([e[-1] for e in scorer.edges()])
                if np.any(high <= bounds[0]) or np.any(low >= bounds[1]):
                    raise ConfigError(
                        f"scorers[{number}] '{scorer.name}' must lie where cells are, "
                        f"between {_shown(bounds[0])} and {_shown(bounds[1])} cm, "
                        f"not between {_shown(low)} and {_shown(high)} cm"
                    )
        return geometry

    def _phantom_cells(self, densities: Mapping[str, float]) -> tuple[Cell | LatticeCell, ...]:
        if self.phantom is None:
            return ()
        if self._built is None:
            try:
                self._built = self.phantom.cells(self.resolve, self.known_densities(densities))
            except ValueError as error:
                raise ConfigError(str(error)) from None
        return self._built

    def _check_meeting(self, geometry: Geometry) -> None:
        beam = self.source.beam()
        targets = np.zeros((1, 3)) if beam.kind == PENCIL else field_points(beam, _RAYS)
        if beam.kind == POINT:
            starts = np.broadcast_to(beam.position, targets.shape)
            along = targets - beam.position
            along = along / np.linalg.norm(along, axis=1)[:, None]
        else:
            starts = np.broadcast_to(beam.position, targets.shape) if beam.kind == PENCIL else targets
            along = np.broadcast_to(beam.direction, targets.shape)
        cell = geometry.cells[0]
        if len(geometry.cells) == 1 and isinstance(cell, LatticeCell) and cell.lattice.is_aligned:
            # A box needs no compiled walk, and the quickest start is that of a water box.
            meets = _meets_box(starts, along, cell.bounds())
        else:
            meets = self._meets(geometry, starts, along)
        if not meets:
            raise ConfigError(
                "the source's field must meet the phantom, and no ray from "
                f"{_shown(beam.position)} cm through the field at {_shown(beam.centre)} cm does; "
                "move the source, the field or the phantom"
            )

    def _meets(self, geometry: Geometry, starts: NDArray[np.float64], along: NDArray[np.float64]) -> bool:
        table = geometry.table(dict.fromkeys(geometry.materials, 0.0))
        wanted = len(geometry.cells) - len(self.cells) or len(geometry.cells)
        lengths = np.zeros(len(geometry.cells))
        for (x, y, z), (u, v, w) in zip(starts.tolist(), along.tolist(), strict=True):
            trace.chords(table, x, y, z, u, v, w, lengths, _CROSSINGS)
            if lengths[:wanted].sum() > _CHORD_CM:
                return True
        return False

    def _digest(self, name: str) -> str:
        try:
            with self.resolve(name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(
                f"file '{name}' named in the scene must be readable, and is not: {error.strerror or error}"
            ) from error


def _meets_box(starts: NDArray[np.float64], along: NDArray[np.float64], bounds: NDArray[np.float64]) -> bool:
    """Whether any of the rays, shape (n, 3), has a chord in a box."""
    with np.errstate(divide="ignore", invalid="ignore"):
        first, last = (bounds[0] - starts) / along, (bounds[1] - starts) / along
    # A ray along a face of a slab it lies in gives 0/0: that slab does not limit it.
    near = np.nan_to_num(np.minimum(first, last), nan=-np.inf, neginf=-np.inf, posinf=np.inf).max(axis=1)
    far = np.nan_to_num(np.maximum(first, last), nan=np.inf, neginf=-np.inf, posinf=np.inf).min(axis=1)
    return bool(np.any(far - np.maximum(near, 0.0) > _CHORD_CM))


def _shown(point: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:.6g}" for v in point) + ")"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


__all__ = ["MaterialSpec", "Scene", "TargetSpec"]
