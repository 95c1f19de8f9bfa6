"""Plans that look at the dense network: whole heads left out, densities by sensitivity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from retrim.prune import Plan, Probe, sensitivity
from retrim.prune.digest import data_digest
from retrim.prune.lending import evaluating
from retrim.recipe.part import Part
from retrim.recipe.schema import valued
from retrim.structures.densities import check_density
from retrim.zoo.task import Task

Densities = Literal["uniform", "sensitivity"]
"""Every weight at the plan's density, or densities of least predicted loss with the plan's as their mean."""


class SensitivityPart(Part):
    """What is measured for `densities = "sensitivity"`, and the bounds of what is chosen (`retrim.prune.sensitivity`)."""

    grid: tuple[float, ...] = Field(default=(0.1, 0.2, 0.3, 0.45, 0.6, 0.8), min_length=1)
    floor: float = Field(default=0.1, gt=0, le=1)
    ceiling: float = Field(default=1.0, gt=0, le=1)

    @field_validator("grid")
    @classmethod
    def _check_grid(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        grid = tuple(valued(check_density, density) for density in value)
        if len(set(grid)) < len(grid):
            raise ValueError(f"grid must hold each density once, not {list(value)}")
        return grid

    @model_validator(mode="after")
    def _check_bounds(self) -> SensitivityPart:
        if self.floor > self.ceiling:
            raise ValueError(f"floor must be at most the ceiling {self.ceiling:g}, not {self.floor:g}")
        return self


class UnevenPart(Part):
    """How a plan departs from one density everywhere.

    Parameters
    ----------
    heads : float, optional
        Share of the attention heads that stay in each layer, those of the largest norm in the dense
        network (`retrim.torch.huggingface.plan_for`).
    densities : {"uniform", "sensitivity"}
    sensitivity
        What is measured for the latter.
    """

    heads: float | None = Field(default=None, gt=0, le=1)
    densities: Densities = "uniform"
    sensitivity: SensitivityPart = SensitivityPart()

    @model_validator(mode="after")
    def _measured(self) -> UnevenPart:
        if self.densities == "uniform" and self.sensitivity != SensitivityPart():
            raise ValueError("sensitivity must come with densities = 'sensitivity', or be left out")
        return self

    def uneven(self) -> dict[str, Any]:
        """What decides a plan beside its rules and rate; empty where nothing does."""
        found: dict[str, Any] = {} if self.heads is None else {"heads": self.heads}
        if self.densities == "sensitivity":
            found["sensitivity"] = self.sensitivity.model_dump()
        return found


class Forms(Protocol):
    """What is asked of a plan without densities."""

    heads: float | None
    densities: Densities
    sensitivity: SensitivityPart

    def plan(self, rate: float) -> Plan: ...


Told = Callable[[int, int, float], None]
"""Called with measurements done and in all, and 0."""


def plan_of(forms: Forms, rate: float, task: Task, dense: nn.Module, cache: Path, told: Told | None) -> Plan:
    """A plan at one rate, heads and densities chosen on the dense network.

    Parameters
    ----------
    cache : Path
        Folder that measurements are kept in.

    Raises
    ------
    ConfigError, DensityError, ShapeError, CheckpointError
        As `retrim.prune.sensitivity` and `retrim.torch.huggingface.plan_for`.
    """
    plan = forms.plan(rate)
    if forms.heads is not None:
        from retrim.torch.huggingface.plans import without_heads

        plan = without_heads(plan, dense, forms.heads)
    if forms.densities == "uniform":
        return plan
    batches = list(task.probe())
    found = sensitivity(
        dense,
        plan.rules,
        _probe(task, dense, batches),
        forms.sensitivity.grid,
        data=data_digest(batches),
        cache=cache,
        progress=None if told is None else lambda _, done, steps: told(done, steps, 0.0),
    )
    bounds = forms.sensitivity
    return found.plan(1 / rate, floor=bounds.floor, ceiling=bounds.ceiling)


def _probe(task: Task, model: nn.Module, batches: list[Any]) -> Probe:
    """Mean loss of a task over its fixed batches."""

    @torch.no_grad()
    def probe() -> float:
        with evaluating(model):
            losses = [float(task.loss(model, batch)) for batch in batches]
        return sum(losses) / len(losses)

    return probe
