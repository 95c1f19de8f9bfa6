"""What a choice is worth: accuracy and inferences on one battery (docs/retrim/levels.md, after arXiv 2102.06336)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from retrim.errors import ConfigError
from retrim.levels.space import Choice, Space


@dataclass(frozen=True, kw_only=True)
class Reward:
    """The reward's scales.

    Parameters
    ----------
    dense : float
        Accuracy of the dense model, worth 1.
    least : float
        Least acceptable accuracy, worth 0.
    weights : {"equal", "runs"}
        Of the levels' accuracies: all alike, or by their inferences.
    runs : float
        Worth of as many inferences as the sparsest candidate allows.
    disorder : float
        Taken off for each level that is more accurate than the next faster point's.
    """

    dense: float
    least: float
    weights: Literal["equal", "runs"] = "equal"
    runs: float = 1.0
    disorder: float = 0.1

    def __post_init__(self) -> None:
        if not self.least < self.dense:
            raise ConfigError(
                f"the least accuracy must be below the dense one, {self.dense}, not {self.least}"
            )
        if self.weights not in ("equal", "runs"):
            raise ConfigError(f"weights must be 'equal' or 'runs', not {self.weights!r}")
        for name in ("runs", "disorder"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a number >= 0, not {getattr(self, name)}")

    def late(self, space: Space, choice: Choice) -> float:
        """Of a choice that misses the deadline: nothing was trained."""
        return -1.0 + self._runs(space, choice)

    def __call__(self, space: Space, choice: Choice, accuracies: Sequence[float]) -> float:
        """Of a choice whose levels reach these accuracies, one for each point, the fastest first."""
        weights = self.shares(space, choice)
        mean = sum(a * w for a, w in zip(accuracies, weights, strict=True)) / sum(weights)
        disordered = sum(slow > fast for fast, slow in pairwise(accuracies))
        worth = (mean - self.least) / (self.dense - self.least)
        return worth + self._runs(space, choice) - self.disorder * disordered

    def shares(self, space: Space, choice: Choice) -> tuple[float, ...]:
        """What each level counts: alike, or by its inferences; not scaled to a sum."""
        return space.runs(choice) if self.weights == "runs" else (1.0,) * len(choice)

    def _runs(self, space: Space, choice: Choice) -> float:
        return self.runs * sum(space.runs(choice)) / space.most_runs
