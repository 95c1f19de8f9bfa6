"""Recipes of levels: a backbone by block-structured pruning, then a pattern set for each operating point."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from retrim.levels import Tiling
from retrim.recipe.comparison import AnyMethod, RetrainPart, StagePart
from retrim.recipe.part import Part, checked, read_toml
from retrim.recipe.tasks import TaskPart


class BackbonePart(Part):
    """The first level: block columns (`retrim.structures.BlockColumns`), pressed, hardened, retrained."""

    weights: tuple[str, ...] = Field(min_length=1)
    rows: int = Field(default=32, ge=1)
    density: float = Field(gt=0, le=1)
    pruner: AnyMethod = Field(discriminator="type")
    prune: StagePart
    retrain: RetrainPart


class DevicePart(Part):
    """Operating points, and what has to be met there.

    `deadline` is a multiple of the backbone's modelled latency at the fastest point; `tokens` are those of one
    inference.  `latency` is modelled from the number of multiply-accumulates, or from the kernels' times in this
    machine's profile (`retrim.runtime.latency_model`).  `shares` of the battery's energy are equal where none are given.
    """

    name: str = "odroid-xu3-a7"
    cluster: str | None = None
    mhz: tuple[float, ...] = Field(min_length=1)
    deadline: float = Field(default=1.05, gt=0, allow_inf_nan=False)
    tokens: int = Field(default=128, ge=1)
    cores: int = Field(default=1, ge=1)
    latency: Literal["operations", "profile"] = "operations"
    battery_mwh: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    shares: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> DevicePart:
        if list(self.mhz) != sorted(set(self.mhz), reverse=True):
            raise ValueError(
                f"mhz must fall, the fastest point first, not {', '.join(f'{f:g}' for f in self.mhz)}"
            )
        if self.shares and (len(self.shares) != len(self.mhz) or not all(share > 0 for share in self.shares)):
            raise ValueError(
                f"shares must be {len(self.mhz)} numbers > 0, one for each point, not {self.shares}"
            )
        return self


class PatternsPart(Part):
    """Candidates: densities inside the backbone's kept weights, and pattern sets to choose between.

    `lists` offers beside the sets what no pattern binds: every group of rows keeps its own strongest columns.
    Densities are rounded to the cells of a tile where there are sets, and lists to whole columns; a result states the former.  `nested`:
    every tile takes one family of patterns for all levels, so that a sparser level lies inside a denser one; lists do.
    `importance`: of a weight its square, or that times the mean square of its input over the task's probe; "surgeon" takes
    lists, and the weights that joint training starts from, of `retrim.levels.surgeon_ladder`, and for sets the squares of these.
    """

    tile: tuple[int, int]
    group: int = 4
    patterns: int = Field(default=4, ge=1)
    sets: int = Field(default=2, ge=0)
    lists: bool = False
    densities: tuple[float, ...] = Field(min_length=1)
    sample: float = Field(default=0.1, gt=0, le=1)
    refinements: int = Field(default=4, ge=0)
    nested: bool = False
    importance: Literal["magnitude", "inputs", "surgeon"] = "magnitude"

    @property
    def tiling(self) -> Tiling:
        """As `retrim.levels` takes it."""
        return Tiling(height=self.tile[0], width=self.tile[1], group=self.group)

    @model_validator(mode="after")
    def _checked(self) -> PatternsPart:
        _ = self.tiling
        if not all(0 < density <= 1 for density in self.densities):
            raise ValueError(f"densities must be above 0 and at most 1, not {self.densities}")
        if not self.sets and not self.lists:
            raise ValueError("there must be something to choose: sets of patterns, or lists = true")
        if self.importance == "surgeon" and not self.lists:
            raise ValueError("importance = 'surgeon' orders lists, so lists must be true")
        if self.nested and self.sets + self.lists > 1:
            raise ValueError(
                f"nested levels share one pattern set, so sets must be 1 without lists, or 0 with them, not {self.sets}"
                f"{' with lists' if self.lists else ''}"
            )
        return self


class SearchPart(Part):
    """The search, and the reward's scales (`retrim.levels.Reward`).

    `stage` is the joint training of one trial, its epochs of at most `steps` steps; `scored` the held-out
    tokens of its score, for a language, or examples, for GLUE; `weights` those of the levels, in the reward and in joint
    training; `least` the accuracy worth nothing, as a share of the dense one's.
    """

    method: Literal["controller", "random", "evolution", "tpe"] = "controller"
    trials: int = Field(default=64, ge=1)
    batch: int = Field(default=8, ge=1)
    stage: StagePart
    steps: int | None = Field(default=None, ge=1)
    scored: int | None = Field(default=None, ge=1)
    keep: int | None = Field(default=3, ge=1)
    least: float = Field(default=0.9, gt=0, lt=1)
    weights: Literal["equal", "runs"] = "equal"
    runs: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    disorder: float = Field(default=0.1, ge=0, allow_inf_nan=False)


class LevelsRecipe(Part):
    """Everything that decides a level set.

    Parameters
    ----------
    version : 1
    task
        Network, data and score.
    dense
        Training of the dense network.
    backbone, device, patterns, search
        See there.
    final
        Joint training of the levels that were chosen.
    """

    version: Literal[1]
    task: TaskPart
    dense: StagePart
    backbone: BackbonePart
    device: DevicePart
    patterns: PatternsPart
    search: SearchPart
    final: StagePart

    @model_validator(mode="after")
    def _checked(self) -> LevelsRecipe:
        if self.patterns.importance == "surgeon" and self.backbone.rows % self.patterns.group:
            raise ValueError(
                f"patterns.group must divide backbone.rows with importance = 'surgeon', not {self.patterns.group} "
                f"in {self.backbone.rows}"
            )
        return self


def read_levels_recipe(path: Path) -> LevelsRecipe:
    """Read a recipe.

    Raises
    ------
    ConfigError
    """
    return checked(LevelsRecipe, read_toml(path), str(path))
