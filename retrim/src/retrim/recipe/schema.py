"""Recipes: everything that decides a compressed model, as TOML and as frozen objects.

A recipe is read once, checked whole, and refused for any key it does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from retrim.errors import RetrimError
from retrim.recipe.part import Part, checked, read_toml
from retrim.structures import Density, Structure, from_dict
from retrim.structures.densities import check_density


class ModelPart(Part):
    """Sizes of the language model (`retrim.zoo.lm.LMConfig`)."""

    vocabulary: int = Field(default=2048, ge=300, le=65536)
    width: int = Field(default=256, ge=1)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    context: int = Field(default=128, ge=2)
    expansion: int = Field(default=4, ge=1)


class CorpusPart(Part):
    """Text to train on and to hold out; without a path, the standard library's sources."""

    path: Path | None = None


class TrainPart(Part):
    """How long and how fast to train (`retrim.zoo.training.Schedule`)."""

    steps: int = Field(ge=1)
    batch: int = Field(default=8, ge=1)
    rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False)
    warmup: int = Field(default=50, ge=0)
    floor: float = Field(default=0.05, ge=0, le=1)
    decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    clip: float = Field(default=1.0, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"


class RulePart(Part):
    """One rule of the plan (`retrim.prune.Rule`)."""

    weights: str = Field(min_length=1)
    structure: Structure
    density: Density

    @field_validator("structure", mode="before")
    @classmethod
    def _read_structure(cls, value: Any) -> Any:
        return value if isinstance(value, Structure) else valued(from_dict, value)

    @field_validator("density", mode="before")
    @classmethod
    def _read_density(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(valued(check_density, part) for part in value)
        return valued(check_density, value)


class SchedulePart(Part):
    """Cubic gradual schedule (`retrim.prune.CubicSchedule`)."""

    begin: int = Field(default=0, ge=0)
    end: int = Field(ge=1)
    every: int = Field(default=10, ge=1)


class MagnitudePart(Part):
    """`retrim.prune.Magnitude`."""

    type: Literal["Magnitude"]
    schedule: SchedulePart | None = None


class SurgeonPart(Part):
    """`retrim.prune.OptimalBrainSurgeon`."""

    type: Literal["OptimalBrainSurgeon"]
    schedule: SchedulePart | None = None
    batches: int = Field(default=32, ge=1)
    damping: float = Field(default=0.01, gt=0, allow_inf_nan=False)


class GroupLassoPart(Part):
    """`retrim.prune.ReweightedGroupLasso`."""

    type: Literal["ReweightedGroupLasso"]
    strength: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    fraction: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    epsilon: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    refresh_every: int = Field(default=100, ge=1)
    selective: bool = False
    over: int | None = Field(default=None, ge=1)
    by_inputs: bool = False
    batches: int = Field(default=16, ge=1)


class LagrangianPart(Part):
    """What `retrim.prune.ADMM` and `retrim.prune.SLR` share."""

    every: int = Field(default=100, ge=1)
    pull: float | None = Field(default=None, gt=0, le=1)
    schedule: SchedulePart | None = None
    by_inputs: bool = False
    batches: int = Field(default=16, ge=1)


class ADMMPart(LagrangianPart):
    """`retrim.prune.ADMM`."""

    type: Literal["ADMM"]
    rho: float = Field(default=1e-2, gt=0, allow_inf_nan=False)


class SLRPart(LagrangianPart):
    """`retrim.prune.SLR`."""

    type: Literal["SLR"]
    rho: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    step_size: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    M: float = Field(default=300.0, gt=1, allow_inf_nan=False)
    r: float = Field(default=0.1, gt=0, lt=1)
    rejected: Literal["continue", "restore"] = "continue"
    steps: Literal["contracting", "paper"] = "contracting"


PrunerPart = Annotated[
    ADMMPart | MagnitudePart | GroupLassoPart | SLRPart | SurgeonPart, Field(discriminator="type")
]


class DistilPart(Part):
    """Distillation from the dense teacher (`retrim.torch.Distillation`)."""

    logits: float = Field(default=0.5, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)
    hidden: float = Field(default=0.0, ge=0)


class PrunePart(TrainPart):
    """Training with the pruner, the hard projection, masked retraining."""

    harden_at: int = Field(ge=0)
    """Steps before the hard projection, at most `steps`; 0: prune at once, then retrain."""
    pruner: PrunerPart
    plan: tuple[RulePart, ...] = Field(min_length=1)
    distil: DistilPart | None = None


class Recipe(Part):
    """A model, what it is trained on, and how it is compressed.

    Parameters
    ----------
    version : 1
    seed : int
        Of initial weights and of batches.
    model, corpus, train
        The dense model.
    prune
        How it is compressed.
    """

    version: Literal[1]
    seed: int = Field(default=0, ge=0, lt=2**63)
    model: ModelPart = ModelPart()
    corpus: CorpusPart = CorpusPart()
    train: TrainPart
    prune: PrunePart

    @field_validator("prune")
    @classmethod
    def _check_harden(cls, value: PrunePart) -> PrunePart:
        if value.harden_at > value.steps:
            raise ValueError(f"harden_at must be at most the {value.steps} steps, not {value.harden_at}")
        return value


def valued(read: Any, value: Any) -> Any:
    """Run `read`; its sentence becomes pydantic's."""
    try:
        return read(value)
    except RetrimError as error:
        raise ValueError(str(error)) from None


def read(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    ConfigError
        If the file is missing or no TOML, or says something it must not say:
        where, and what to write instead.
    """
    return parse(read_toml(path), str(path))


def parse(table: dict[str, Any], name: str) -> Recipe:
    """Check a recipe that was read from TOML; `name` is for messages."""
    return checked(Recipe, table, name)
