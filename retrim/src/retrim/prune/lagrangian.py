"""What ADMM and SLR share: weights, their feasible copies, and multipliers between them.

Minimising f(W) with W held to a form is written with a copy Z that has the form,
W = Z being the constraint, and

    L(W, Z, Λ) = f(W) + Σ <Λ, W - Z> + ρ/2 ‖W - Z‖²,

sums over the layers (arXiv 1804.03294, section 3; arXiv 2012.10079, equation 4).
Methods differ in how Z and Λ move at an update, every few optimiser steps.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import distributed

from retrim.errors import ConfigError
from retrim.prune.diagnostics import Watcher
from retrim.prune.plan import Target
from retrim.prune.pruner import Probe, Pruner, check_finite
from retrim.prune.update import Update

_AT_ONCE = 1 << 18  # weights that are summed over in float64, so that they stay in the cache


class AugmentedLagrangian(Pruner):
    """Base of the pruners that pull weights towards a feasible copy of them.

    Parameters
    ----------
    rho : float
        Weight of the quadratic penalty.
    every : int
        Optimiser steps between two updates of Z and the multipliers.
    """

    def __init__(self, rho: float, every: int) -> None:
        super().__init__()
        if not (math.isfinite(rho) and rho > 0):
            raise ConfigError(f"rho must be a number > 0, not {rho}")
        if every < 1:
            raise ConfigError(f"every must be a whole number >= 1, not {every}")
        self.rho = rho
        self.every = every
        self._copies: list[torch.Tensor] = []
        self._multipliers: list[torch.Tensor] = []
        self._updates: list[Update] = []
        self._watchers: tuple[Watcher, ...] = ()

    def watch(self, *watchers: Watcher) -> None:
        """Call these after every update, in place of any before; see `retrim.prune.diagnostics`."""
        self._watchers = watchers

    @property
    def updates(self) -> list[Update]:
        """Every update so far."""
        return list(self._updates)

    # --- what each method fills in ---------------------------------------------

    @abstractmethod
    def _update(self, probe: Probe | None) -> Update:
        """Move Z and the multipliers."""

    # --- the pruner's interface ---------------------------------------------------

    def _begin(self) -> None:
        self._copies = [_projected(target, target.parameter) for target in self.targets]
        self._multipliers = [torch.zeros_like(copy) for copy in self._copies]
        self._updates = []

    def _add_gradient(self) -> None:
        weights = self._weights()
        grads = [_gradient(target.parameter) for target in self.targets]
        torch._foreach_add_(grads, weights, alpha=self.rho)
        torch._foreach_add_(grads, self._copies, alpha=-self.rho)
        torch._foreach_add_(grads, self._multipliers)

    def _advance(self, probe: Probe | None) -> None:
        if self._steps % self.every == 0:
            for target in self.targets:
                check_finite(target)
            self._updates.append(self._update(probe))
            for watcher in self._watchers:
                watcher(self.updates)

    def _penalty(self) -> float:
        return self._pull(self._copies)

    def _state(self) -> dict[str, Any]:
        return {
            "copies": self._named(self._copies),
            "multipliers": self._named(self._multipliers),
            "updates": [asdict(update) for update in self._updates],
        }

    def _load(self, state: dict[str, Any]) -> None:
        self._copies = self._placed(state["copies"])
        self._multipliers = self._placed(state["multipliers"])
        self._updates = [Update(**update) for update in state["updates"]]

    # --- for the methods ------------------------------------------------------------

    def _weights(self) -> list[torch.Tensor]:
        return [target.parameter.detach() for target in self.targets]

    def _projections(self) -> list[torch.Tensor]:
        """Π(W + Λ/ρ), layer by layer."""
        shifted = torch._foreach_add(self._weights(), self._multipliers, alpha=1 / self.rho)
        return [_projected(target, weight) for target, weight in zip(self.targets, shifted, strict=True)]

    def _move_multipliers(self, copies: list[torch.Tensor], step_size: float) -> None:
        """Λ += s (W - Z)."""
        torch._foreach_add_(self._multipliers, self._weights(), alpha=step_size)
        torch._foreach_add_(self._multipliers, copies, alpha=-step_size)

    def _pull(self, copies: list[torch.Tensor]) -> float:
        """<Λ, W - Z> + ρ/2 ‖W - Z‖², summed in float64."""
        total = 0.0
        for weight, copy, multiplier in zip(self._weights(), copies, self._multipliers, strict=True):
            rows = max(1, _AT_ONCE * len(weight) // weight.numel())
            parts = (torch.split(tensor, rows) for tensor in (weight, copy, multiplier))
            for some, copied, multiplied in zip(*parts, strict=True):
                away = (some - copied).double()
                total += float((away * (multiplied.double() + 0.5 * self.rho * away)).sum())
        return total

    def _distance(self, copies: list[torch.Tensor]) -> float:
        """‖W - Z‖ over all layers."""
        return norm(torch._foreach_sub(self._weights(), copies))

    def _named(self, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Copies of them by the weights' names, for a state that later steps do not change."""
        return {target.name: tensor.clone() for target, tensor in zip(self.targets, tensors, strict=True)}

    def _placed(self, named: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Undo `_named`, on the weights' devices."""
        return [
            torch.empty_like(target.parameter).detach().copy_(named[target.name]) for target in self.targets
        ]


def norm(tensors: Sequence[torch.Tensor]) -> float:
    """Euclidean norm of all of them together, summed in float64."""
    return math.sqrt(
        sum(float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2 for tensor in tensors)
    )


def agreed(value: float) -> float:
    """The first rank's value on every rank: all must decide alike."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    held = [value]
    distributed.broadcast_object_list(held, src=0)
    return held[0]


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    """Its gradient, made where the loss left none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _projected(target: Target, weight: torch.Tensor) -> torch.Tensor:
    """The nearest weight of the target's form, in its stored shape and a memory of its own."""
    matrix = target.matrix(weight)
    projected, _ = target.structure.project(matrix, target.density)
    return torch.empty_like(target.parameter).detach().copy_(target.restore(projected))
