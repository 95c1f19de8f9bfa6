"""Magnitude pruning: at once, or gradually by a cubic schedule.

The gradual schedule is that of Zhu and Gupta, arXiv 1710.01878, equation 1:
the sparsity s = 1 - density grows from s_i, 0 by default, to its target s_f as
``s(t) = s_f + (s_i - s_f) (1 - (t - t0) / (t1 - t0))**3`` and is applied every few steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from retrim.errors import ConfigError, DensityError, ShapeError
from retrim.prune.plan import Target
from retrim.prune.pruner import Probe, Pruner
from retrim.structures import Density


@dataclass(frozen=True, kw_only=True)
class CubicSchedule:
    """Density as a function of the optimiser step (arXiv 1710.01878, equation 1).

    Parameters
    ----------
    begin, end : int
        First step of pruning, and the step at which the target is reached.
    every : int, default 10
        Steps between two prunings.
    initial : float, default 1
        Density at `begin`, 1 - s_i; targets above it are reached at once.
    """

    begin: int
    end: int
    every: int = 10
    initial: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end:
            raise ConfigError(
                f"a schedule must have 0 <= begin < end, not begin {self.begin} and end {self.end}"
            )
        if self.every < 1:
            raise ConfigError(f"every must be a whole number >= 1, not {self.every}")
        if not 0 < self.initial <= 1:
            raise ConfigError(f"initial must be a density, 0 < initial <= 1, not {self.initial}")

    def density(self, step: int, target: float) -> float:
        """Density due at `step` on the way to `target`."""
        if step >= self.end or target >= self.initial:
            return target  # to the last bit: rounding to a number of groups may hang on it
        progress = max((step - self.begin) / (self.end - self.begin), 0.0)
        return self.initial - (self.initial - target) * (1.0 - (1.0 - progress) ** 3)

    def due(self, step: int) -> bool:
        """Whether weights are pruned after `step` optimiser steps."""
        inside = self.begin <= step <= self.end
        return inside and ((step - self.begin) % self.every == 0 or step == self.end)


class Magnitude(Pruner):
    """Keep the groups of largest norm.

    Parameters
    ----------
    schedule : CubicSchedule, optional
        Prune gradually; without it, all at once at `harden`.
    """

    def __init__(self, schedule: CubicSchedule | None = None) -> None:
        super().__init__()
        self.schedule = schedule

    def _add_gradient(self) -> None:
        pass  # nothing is penalised: weights move by the loss alone

    def _advance(self, probe: Probe | None) -> None:
        if self.schedule is None or not self.schedule.due(self._steps):
            return
        for target in self.targets:
            density = on_the_way(self.schedule, self._steps, target)
            if density is None:
                continue
            projected, support = target.structure.project(target.matrix(), density)
            target.parameter.copy_(target.restore(projected))
            self._supports[target.name] = support


def on_the_way(schedule: CubicSchedule, step: int, target: Target) -> Density | None:
    """Density due now, or None while the structure reaches nothing between it and the last one."""
    wanted = target.density
    due = (
        tuple(schedule.density(step, part) for part in wanted)
        if isinstance(wanted, tuple)
        else schedule.density(step, wanted)
    )
    rows, columns = target.matrix().shape
    try:
        target.structure.reached((rows, columns), due)
    except (DensityError, ShapeError):
        return None
    return due
