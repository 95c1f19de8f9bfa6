"""What was measured of every weight, on disk and as densities under a global budget."""

from __future__ import annotations

import glob
import hashlib
import json
import math
from bisect import bisect_left
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrim.errors import CheckpointError, ConfigError, DensityError, ShapeError
from retrim.files import replacing
from retrim.prune.allocation import allocate
from retrim.prune.plan import Plan, Rule
from retrim.structures import Structure, from_dict
from retrim.structures.densities import check_density

FORMAT: Literal["retrim.sensitivities"] = "retrim.sensitivities"
VERSION: Literal[1] = 1
STEPS = 32
"""Densities to choose from lie at multiples of 1 / 32, and at those that were measured."""


class Point(NamedTuple):
    """Density asked for and reached, and by how much the loss grew there."""

    asked: float
    reached: float
    increase: float


class Measured(BaseModel):
    """One weight: structure, shape (out, in) of its matrix, and points by ascending density."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    structure: dict[str, Any]
    shape: tuple[int, int]
    points: tuple[Point, ...] = Field(min_length=1)

    @property
    def entries(self) -> int:
        """Of the matrix."""
        return math.prod(self.shape)

    @property
    def form(self) -> Structure:
        """The structure itself."""
        return from_dict(self.structure)

    @property
    def costs(self) -> list[float]:
        """Loss increase at each point, at least that of every larger density, and at least 0.

        What was measured may fall by chance, or because a probe is small; that less of
        a weight is better is not to be planned with.
        """
        highest = accumulate((max(point.increase, 0.0) for point in reversed(self.points)), max)
        return list(highest)[::-1]

    def cost(self, reached: float) -> float:
        """`costs` at a density, linear between measured ones; beyond them that of the nearest."""
        densities, costs = [point.reached for point in self.points], self.costs
        above = bisect_left(densities, reached)
        if above == len(densities):
            return costs[-1]
        if above == 0 or densities[above] == reached:
            return costs[above]
        lower, upper = densities[above - 1], densities[above]
        share = (reached - lower) / (upper - lower)
        return costs[above - 1] + share * (costs[above] - costs[above - 1])

    def choices(self, floor: float, ceiling: float) -> list[Point]:
        """Densities between the bounds that may be chosen, with their costs, ascending, none beyond the measured."""
        first, last = self.points[0], self.points[-1]
        floor = min(floor, last.asked)  # a structure may not reach more
        found = {
            point.reached: point._replace(increase=cost)
            for point, cost in zip(self.points, self.costs, strict=True)
            if floor <= point.asked <= ceiling
        }
        form = self.form
        for step in range(1, STEPS):
            asked = step / STEPS
            if not floor <= asked <= ceiling:
                continue
            try:
                reached = form.reached(self.shape, asked)
            except (DensityError, ShapeError):
                continue
            if first.reached < reached < last.reached:
                found.setdefault(reached, Point(asked, reached, self.cost(reached)))
        return [found[reached] for reached in sorted(found)]


class Sensitivities(BaseModel):
    """Measured loss increases, as `retrim.prune.sensitivity` gives them.

    Attributes
    ----------
    model : str
        Digest of the model's weights.
    data : str
    grid : tuple of float
    structures : dict
        Of all weights that are to be measured, by name.
    loss : float or None
        Of the model as it is.
    weights : dict
        What is measured so far, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["retrim.sensitivities"] = FORMAT
    version: Literal[1] = VERSION
    model: str
    data: str
    grid: tuple[float, ...]
    structures: dict[str, dict[str, Any]]
    loss: float | None = None
    weights: dict[str, Measured] = Field(default_factory=dict)

    # --- choosing ---------------------------------------------------------------------

    def plan(self, density: float, *, floor: float | None = None, ceiling: float = 1.0) -> Plan:
        """Densities of least predicted loss under a budget, as a plan of one rule for each weight.

        Parameters
        ----------
        density : float
            Kept weights over all weights of the rules, 0 < density <= 1; never exceeded.
        floor, ceiling : float, optional
            Bounds of each weight's density; the floor is at least the smallest that was measured.

        Raises
        ------
        DensityError
            If a density is none, the floor lies above the ceiling, the bounds leave a weight
            nothing, or even the smallest densities exceed the budget.
        ConfigError
            If not all weights are measured.
        """
        budget = math.floor(check_density(density) * self.entries + 1e-6)
        choices = self._choices(floor, ceiling)
        options = [
            [(round(point.reached * self.weights[name].entries), point.increase) for point in points]
            for name, points in choices.items()
        ]
        least = sum(min(size for size, _ in of_one) for of_one in options)
        if least > budget:
            raise DensityError(
                f"density must be at least {least / self.entries:.4g}, which the smallest densities of all weights "
                f"make, not {density:g}: lower the floor, or measure smaller ones"
            )
        chosen = allocate(options, budget)
        return Plan(
            [
                Rule(
                    weights=glob.escape(name), structure=self.weights[name].form, density=points[place].asked
                )
                for place, (name, points) in zip(chosen, choices.items(), strict=True)
            ]
        )

    def predicted(self, plan: Plan) -> float:
        """Summed cost of a plan's densities (`Measured.cost`); weights that it leaves out count 0.

        Raises
        ------
        ConfigError
            If a density is a tuple.
        """
        total = 0.0
        for name, measured in self.weights.items():
            rule = next((rule for rule in plan.rules if fnmatchcase(name, rule.weights)), None)
            if rule is None:
                continue
            if isinstance(rule.density, tuple):
                raise ConfigError(f"{name}: a loss must be predicted for one density, not for {rule.density}")
            asked = measured.points[-1].asked if rule.density is None else rule.density
            total += measured.cost(measured.form.reached(measured.shape, asked))
        return total

    @property
    def entries(self) -> int:
        """Of all weights together."""
        return sum(measured.entries for measured in self.weights.values())

    def _choices(self, floor: float | None, ceiling: float) -> dict[str, list[Point]]:
        if missing := self.structures.keys() - self.weights.keys():
            raise ConfigError(f"all weights must be measured first, but {min(missing)!r} is not")
        low = 0.0 if floor is None else check_density(floor)
        if low > check_density(ceiling):
            raise DensityError(f"floor must be at most the ceiling {ceiling:g}, not {floor:g}")
        found = {name: measured.choices(low, ceiling) for name, measured in self.weights.items()}
        for name, points in found.items():
            if not points:
                said = ", ".join(f"{point.asked:g}" for point in self.weights[name].points)
                raise DensityError(
                    f"{name}: floor {low:g} and ceiling {ceiling:g} must leave a density that was measured, but none "
                    f"of {said}: widen them"
                )
        return found

    # --- on disk ---------------------------------------------------------------------

    @property
    def key(self) -> str:
        """Hash of all that decides the measurements."""
        text = json.dumps([self.model, self.data, self.grid, self.structures], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def path(self, folder: Path) -> Path:
        """Where they are kept in a folder."""
        return folder / f"sensitivity-{self.key}.json"

    def adding(self, name: str, measured: Measured) -> Sensitivities:
        """The same with one more weight."""
        return self.model_copy(update={"weights": {**self.weights, name: measured}})

    def keep(self, folder: Path) -> None:
        """Write them into a folder, which is made if need be; whole or not at all.

        Raises
        ------
        CheckpointError
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"folder {str(folder)!r} must be one that can be written to: {error.strerror or error}"
            ) from error
        with replacing(self.path(folder), "sensitivities", CheckpointError) as beside:
            beside.write_text(self.model_dump_json(indent=1) + "\n", "utf-8")

    def found_in(self, folder: Path) -> Sensitivities:
        """What a folder holds of the same model, data, structures and grid; else these.

        Raises
        ------
        CheckpointError
        """
        path = self.path(folder)
        if not path.exists():
            return self
        there = self.read(path)
        if there.key != self.key or not there.weights.keys() <= self.structures.keys():
            raise CheckpointError(f"{str(path)!r} must hold the sensitivities of its name: remove it")
        return there

    @classmethod
    def read(cls, path: Path) -> Sensitivities:
        """Read what was kept.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged, foreign or newer.
        """
        try:
            return cls.model_validate_json(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"sensitivities {str(path)!r} must be a file that can be read") from error
        except ValidationError as error:
            newer = any(part["loc"] == ("version",) for part in error.errors())
            wrong = "is of another version: upgrade retrim" if newer else "is damaged or none: remove it"
            raise CheckpointError(
                f"the file {str(path)!r} must hold sensitivities of version {VERSION}, but {wrong}"
            ) from error
