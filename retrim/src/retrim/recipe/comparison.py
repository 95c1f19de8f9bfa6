"""Recipes that compare pruners: one dense network, several methods, rates and seeds, equal budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from retrim.prune import (
    ADMM,
    SLR,
    CubicSchedule,
    Magnitude,
    OptimalBrainSurgeon,
    Plan,
    Pruner,
    ReweightedGroupLasso,
    Rule,
)
from retrim.recipe.densities import UnevenPart
from retrim.recipe.part import Part, checked, read_toml
from retrim.recipe.schema import valued
from retrim.recipe.tasks import TaskPart
from retrim.structures import Structure, from_dict
from retrim.zoo.fit import Stage


class StagePart(Part):
    """How long and how fast to train (`retrim.zoo.fit.Stage`)."""

    epochs: int = Field(ge=1)
    rate: float = Field(gt=0, allow_inf_nan=False)
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    decay: float = Field(default=5e-4, ge=0, allow_inf_nan=False)
    floor: float = Field(default=0.01, ge=0, le=1)
    restarts: int = Field(default=0, ge=0)
    warmup: int = Field(default=0, ge=0)
    clip: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    precision: Literal["fp32", "bf16"] = "fp32"

    def stage(self) -> Stage:
        """As the training loop takes it."""
        return Stage(**{name: getattr(self, name) for name in StagePart.model_fields})


class RetrainPart(StagePart):
    """Masked retraining, and after which of its epochs to score: 0 is hard pruning itself, alone it leaves retraining out;
    else the last epoch is one of them.
    """

    score_after: tuple[int, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _at_both_ends(cls, data: Any) -> Any:
        if isinstance(data, dict) and "score_after" not in data and isinstance(data.get("epochs"), int):
            return {**data, "score_after": (0, data["epochs"])}
        return data

    @field_validator("score_after")
    @classmethod
    def _ordered(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] != 0 or list(value) != sorted(set(value)):
            raise ValueError(
                f"score_after must be whole numbers that begin with 0 and grow, not {list(value)}"
            )
        return value

    @model_validator(mode="after")
    def _within(self) -> RetrainPart:
        if self.score_after[-1] not in (0, self.epochs):
            raise ValueError(
                f"score_after must end with the {self.epochs} epochs of training, not {self.score_after[-1]}"
            )
        return self


class FormPart(Part):
    """Weights by a glob, and the form that they get."""

    weights: str = Field(min_length=1)
    structure: Structure

    @field_validator("structure", mode="before")
    @classmethod
    def _read_structure(cls, value: Any) -> Any:
        return value if isinstance(value, Structure) else valued(from_dict, value)

    @field_serializer("structure")
    def _write_structure(self, value: Structure) -> dict[str, Any]:
        return value.to_dict()


class FormsPart(UnevenPart):
    """A plan without its densities, and the rates (1 / density) to compare at (`retrim.recipe.densities`)."""

    name: str = Field(min_length=1)
    rules: tuple[FormPart, ...] = Field(min_length=1)
    rates: tuple[float, ...] = Field(min_length=1)

    @field_validator("rates")
    @classmethod
    def _at_least_one(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for rate in value:
            if not 1 <= rate < float("inf"):
                raise ValueError(f"a rate must be a number >= 1 (weights over kept weights), not {rate:g}")
        return _once("rates", value)

    def plan(self, rate: float) -> Plan:
        """The plan at one rate, with all heads and one density everywhere."""
        return Plan([Rule(weights=r.weights, structure=r.structure, density=1 / rate) for r in self.rules])


class AtOncePart(Part):
    """One-shot magnitude pruning after the same training, nothing pressed."""

    type: Literal["magnitude"]

    def pruner(self, steps: int, rho: float | None, initial: float = 1.0) -> Pruner:
        """Not prepared; `steps` are those of an epoch, `initial` the density that it starts from."""
        return Magnitude()


class LagrangianMethod(Part):
    """What ADMM and SLR share: updates every few epochs (or parts of one), and how weights are brought to their forms."""

    every_epochs: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    pull: float | None = Field(default=None, gt=0, le=1)
    over_epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    by_inputs: bool = False
    batches: int = Field(default=16, ge=1)

    @model_serializer(mode="wrap")
    def _without_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs from before these were there are found again."""
        unset = {"pull": None, "over_epochs": None, "by_inputs": False, "batches": 16}
        return {name: value for name, value in dump(self).items() if unset.get(name, ...) != value}

    def shared(self, steps: int, initial: float) -> dict[str, Any]:
        """Arguments of the pruner; as for `pruner`."""
        every = max(1, round(self.every_epochs * steps))
        over = None if self.over_epochs is None else max(1, round(self.over_epochs * steps))
        return {
            "every": every,
            "pull": self.pull,
            "schedule": None if over is None else CubicSchedule(begin=0, end=over, initial=initial),
            "by_inputs": self.by_inputs,
            "batches": _in_time(self.batches, over),
        }


class ADMMMethod(LagrangianMethod):
    """`retrim.prune.ADMM`.  Inputs are measured in at most half of the steps of its schedule."""

    type: Literal["ADMM"]
    rho: float = Field(default=1e-2, gt=0, allow_inf_nan=False)

    def pruner(self, steps: int, rho: float | None, initial: float = 1.0) -> Pruner:
        """Not prepared; `steps` are those of an epoch, `initial` the density that it starts from."""
        return ADMM(rho=self.rho if rho is None else rho, **self.shared(steps, initial))


class SLRMethod(LagrangianMethod):
    """`retrim.prune.SLR`.  Inputs are measured in at most half of the steps of its schedule."""

    type: Literal["SLR"]
    rho: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    step_size: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    M: float = Field(default=300.0, gt=1, allow_inf_nan=False)
    r: float = Field(default=0.1, gt=0, lt=1)
    rejected: Literal["continue", "restore"] = "continue"
    steps: Literal["contracting", "paper"] = "contracting"

    def pruner(self, steps: int, rho: float | None, initial: float = 1.0) -> Pruner:
        """Not prepared; `steps` are those of an epoch, `initial` the density that it starts from."""
        return SLR(
            rho=self.rho if rho is None else rho,
            step_size=self.step_size,
            M=self.M,
            r=self.r,
            rejected=self.rejected,
            steps=self.steps,
            **self.shared(steps, initial),
        )


class GradualMethod(Part):
    """Gradual magnitude pruning: density falls by a cubic schedule over the first epochs."""

    type: Literal["gradual"]
    over_epochs: float = Field(gt=0, allow_inf_nan=False)
    every: int = Field(default=10, ge=1)

    def pruner(self, steps: int, rho: float | None, initial: float = 1.0) -> Pruner:
        """Not prepared; `steps` are those of an epoch, `initial` the density that it starts from."""
        end = max(1, round(self.over_epochs * steps))
        return Magnitude(CubicSchedule(begin=0, end=end, every=min(self.every, end), initial=initial))


class SurgeonMethod(Part):
    """`retrim.prune.OptimalBrainSurgeon`: at once after `batches` steps, or gradually every few epochs."""

    type: Literal["OptimalBrainSurgeon"]
    batches: int = Field(default=32, ge=1)
    damping: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    over_epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    every_epochs: float = Field(default=0.5, gt=0, allow_inf_nan=False)

    def pruner(self, steps: int, rho: float | None, initial: float = 1.0) -> Pruner:
        """Not prepared; `steps` are those of an epoch, `initial` the density that it starts from."""
        schedule = None
        if self.over_epochs is not None:
            end = max(1, round(self.over_epochs * steps))
            every = min(max(1, round(self.every_epochs * steps)), end)
            schedule = CubicSchedule(begin=0, end=end, every=every, initial=initial)
        return OptimalBrainSurgeon(schedule, batches=self.batches, damping=self.damping)


class LassoMethod(Part):
    """`retrim.prune.ReweightedGroupLasso`, reweighted every few epochs (or parts of one), or pressing by its proximal
    operator over so many.  Inputs are measured in at most half of its steps.
    """

    type: Literal["ReweightedGroupLasso"]
    strength: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    fraction: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    epsilon: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    every_epochs: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    selective: bool = False
    over_epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    by_inputs: bool = False
    batches: int = Field(default=16, ge=1)

    @model_validator(mode="after")
    def _one_strength(self) -> LassoMethod:
        if self.over_epochs is not None and self.strength is not None:
            raise ValueError("over_epochs sets the strength at every step: leave strength out")
        return self

    @model_serializer(mode="wrap")
    def _without_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs from before `over_epochs`, `by_inputs` and `batches` were there are found again."""
        found: dict[str, Any] = dump(self)
        unset = {"over_epochs": None, "by_inputs": False, "batches": 16}
        return {name: value for name, value in found.items() if unset.get(name, ...) != value}

    def pruner(self, steps: int, rho: float | None, initial: float = 1.0) -> Pruner:
        """Not prepared; `steps` are those of an epoch, `initial` the density that it starts from."""
        over = None if self.over_epochs is None else max(1, round(self.over_epochs * steps))
        return ReweightedGroupLasso(
            over=over,
            strength=self.strength,
            fraction=self.fraction,
            epsilon=self.epsilon,
            refresh_every=max(1, round(self.every_epochs * steps)),
            selective=self.selective,
            by_inputs=self.by_inputs,
            batches=_in_time(self.batches, over),
        )


def _in_time(batches: int, over: int | None) -> int:
    """Steps to measure inputs in: at most half of those of a schedule."""
    return batches if over is None else max(1, min(batches, over // 2))


AnyMethod = AtOncePart | ADMMMethod | GradualMethod | LassoMethod | SLRMethod | SurgeonMethod


def check_arrives(pruner: AnyMethod, prune: StagePart, whose: str = "") -> None:
    """Refuse a schedule that would not be at its end when weights are hardened.

    Raises
    ------
    ValueError
    """
    over = getattr(pruner, "over_epochs", None)
    if over is not None and over > prune.epochs:
        raise ValueError(
            f"over_epochs{whose} must be at most the {prune.epochs} epochs of pruning, not {over:g}"
        )


class MethodPart(Part):
    """A method, the seeds it runs with, and whether its rho is tuned."""

    name: str = Field(min_length=1)
    pruner: Annotated[AnyMethod, Field(discriminator="type")]
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    tuned: bool = False

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        for seed in value:
            if seed < 0:
                raise ValueError(f"a seed must be a whole number >= 0, not {seed}")
        return _once("seeds", value)

    @model_validator(mode="after")
    def _has_rho(self) -> MethodPart:
        if self.tuned and not hasattr(self.pruner, "rho"):
            raise ValueError(f"only ADMM and SLR have a rho to tune, not {self.pruner.type}: leave tuned out")
        return self


class TunePart(Part):
    """One grid of rho for all methods that are tuned, scored at hard pruning with one plan, rate and seed."""

    forms: str
    rate: float = Field(ge=1, allow_inf_nan=False)
    seed: int = Field(default=0, ge=0)
    rho: tuple[float, ...] = Field(min_length=1)

    @field_validator("rho")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for rho in value:
            if not 0 < rho < float("inf"):
                raise ValueError(f"a rho must be a number > 0, not {rho:g}")
        return _once("rho", value)


class Comparison(Part):
    """Everything that decides a comparison of pruners.

    Parameters
    ----------
    version : 1
    task
        Network, data and score.
    dense
        Training of the dense network, from its weights on file or from random ones; without it,
        the network is taken as it is.
    prune, retrain
        Training with the pruner up to the hard projection; masked retraining.
    forms
        Plans and rates.
    methods
        What is compared.
    tune
        How rho is chosen.
    reference
        The method that others are compared with, seed by seed.
    ladder
        Every rate starts from the network that the method reached at the rate before it, retrained, and not
        from the dense one; each plan's rates must grow.
    """

    version: Literal[1]
    task: TaskPart
    dense: StagePart | None = None
    prune: StagePart
    retrain: RetrainPart
    forms: tuple[FormsPart, ...] = Field(min_length=1)
    methods: tuple[MethodPart, ...] = Field(min_length=1)
    tune: TunePart | None = None
    reference: str = "ADMM"
    ladder: bool = False

    @model_validator(mode="after")
    def _grows(self) -> Comparison:
        for forms in self.forms if self.ladder else ():
            if list(forms.rates) != sorted(set(forms.rates)):
                raise ValueError(
                    f"the rates of a ladder must grow, not {', '.join(f'{r:g}' for r in forms.rates)}"
                )
        if self.ladder and self.tune is not None:
            raise ValueError(
                "a ladder must give each method its rho: tune chooses it at one rate, from the dense network"
            )
        return self

    @model_validator(mode="after")
    def _arrives(self) -> Comparison:
        for method in self.methods:
            check_arrives(method.pruner, self.prune, f" of {method.name!r}")
        return self

    @model_validator(mode="after")
    def _names(self) -> Comparison:
        for what, names in (
            ("forms", [f.name for f in self.forms]),
            ("methods", [m.name for m in self.methods]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"{what} must have names of their own, but {twice!r} stands there twice")
        known = [m.name for m in self.methods]
        if "reference" in self.model_fields_set and self.reference not in known:
            raise ValueError(f"reference must be one of the methods' names, not {self.reference!r}")
        if self.tune is not None and self.tune.forms not in [f.name for f in self.forms]:
            raise ValueError(f"tune.forms must be one of the forms' names, not {self.tune.forms!r}")
        if self.tune is None and any(method.tuned for method in self.methods):
            raise ValueError("tune must be given, since a method is tuned")
        return self


V = TypeVar("V", float, int)


def _once(name: str, values: tuple[V, ...]) -> tuple[V, ...]:
    if len(set(values)) < len(values):
        raise ValueError(
            f"{name} must hold each value once, not {', '.join(f'{value:g}' for value in values)}"
        )
    return values


def read_comparison(path: Path) -> Comparison:
    """Read a recipe that compares pruners.

    Raises
    ------
    ConfigError
    """
    return checked(Comparison, read_toml(path), str(path))
