"""Scales of a weight's columns by what they are multiplied with: how much each column adds to the outputs.

The outputs W x of a layer change by E|dW x|² = Σ_j |dW_j|² E[x_j²] where its inputs are uncorrelated, so that
a column counts by its norm times the root mean square of its input (as single weights do in Wanda, arXiv 2306.11695).
docs/retrim/pruners/group-lasso.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.prune.moments import StepMoments, mean_square
from retrim.prune.plan import Target
from retrim.structures import Density, Support


def check_batches(batches: int, end: int | None = None, name: str = "over") -> None:
    """Refuse numbers of steps to measure inputs in that are none, or not fewer than those until `end`, called `name`.

    Raises
    ------
    ConfigError
    """
    if type(batches) is not int or batches < 1:
        raise ConfigError(f"batches must be a whole number >= 1, not {batches}")
    if end is not None and end <= batches:
        raise ConfigError(
            f"{name} must be more than the {batches} batches that inputs are measured in, not {end}"
        )


class InputScales:
    """Root mean square of each input of a layer over that of all of them, from the model's own training passes.

    Where inputs are not asked for or could not be measured, and for forms that are no unions of groups, all columns count alike.

    Parameters
    ----------
    batches : int, optional
        Steps to measure in; None: inputs are not asked for.
    """

    def __init__(self, batches: int | None) -> None:
        self.batches = batches
        self._moments = StepMoments(diagonal=True)
        self._targets: Sequence[Target] = ()
        self._steps = 0
        self._done = False
        self._scales: dict[str, torch.Tensor] = {}

    @property
    def measuring(self) -> bool:
        """Whether scales are asked for and not there yet."""
        return self.batches is not None and not self._done

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Weights that were to be measured by now, and could not be."""
        return tuple(t.name for t in self._targets if self._done and t.name not in self._scales)

    def begin(self, model: nn.Module, targets: Sequence[Target]) -> None:
        """Forget what was measured, and measure these from now on."""
        self._moments.clear()
        self._targets, self._steps, self._done, self._scales = targets, 0, False, {}
        self.measure(model)

    def measure(self, model: nn.Module) -> None:
        """Go on measuring, where that is not done."""
        if self.measuring:
            self._moments.measure(model, self._targets)

    def gather(self) -> bool:
        """After a step: add what it showed; whether that was the last one."""
        self._moments.gather()
        self._steps += 1
        if self.batches is None or self._steps < self.batches:
            return False
        self.finish()
        return True

    def finish(self) -> None:
        """Make scales of what was measured; their squares have a mean of one."""
        scales = {}
        for target in self._targets:
            squares = self._moments.sums.get(target.name)
            if squares is not None and target.structure.groups(target.matrix()) is not None:
                mean = mean_square(target.name, squares)
                if mean > 0:
                    scales[target.name] = (squares / mean).sqrt().to(target.parameter.dtype)
        self._scales, self._done = scales, True
        self._moments.clear()

    def of(self, target: Target) -> torch.Tensor | None:
        """Scales of a weight's columns, shape (in,); None where all count alike."""
        return self._scales.get(target.name)

    def scaled(self, target: Target, matrix: torch.Tensor) -> torch.Tensor:
        """A matrix of the weight's shape, columns scaled."""
        scale = self.of(target)
        return matrix if scale is None else matrix * scale

    def project(self, target: Target, matrix: torch.Tensor, density: Density) -> tuple[torch.Tensor, Support]:
        """The nearest matrix in the weight's structure, columns scaled: for a union of groups, the matrix with some zero."""
        projected, support = target.structure.project(self.scaled(target, matrix), density)
        return (projected if self.of(target) is None else support.apply(matrix)), support

    def state(self) -> dict[str, Any]:
        """What resuming needs."""
        return {
            "moments": dict(self._moments.sums),
            "scales": dict(self._scales),
            "measured": self._steps,
            "weighed": self._done,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Undo `state`, for the targets of `begin`; one from before there were scales has none."""
        asked = self.batches is not None
        self._moments.load(state.get("moments", {}), self._targets)
        self._steps, self._done = state.get("measured", 0), asked and state.get("weighed", False)
        device = {target.name: target.parameter.device for target in self._targets}
        held = state.get("scales", {}) if asked else {}
        self._scales = {name: scale.to(device[name]) for name, scale in held.items()}
