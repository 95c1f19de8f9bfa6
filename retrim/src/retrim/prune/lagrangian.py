"""What ADMM and SLR share: weights, their feasible copies, and multipliers between them.

Minimising f(W) with W held to a form is written with a copy Z that has the form,
W = Z being the constraint, and

    L(W, Z, Λ) = f(W) + Σ <Λ, W - Z> + ρ/2 ‖W - Z‖²,

sums over the layers (arXiv 1804.03294, section 3; arXiv 2012.10079, equation 4).
Methods differ in how Z and Λ move at an update, every few optimiser steps.  Weighed by inputs,
products and norms are those of W S, with S the root mean squares of a layer's inputs.  docs/retrim/pruners/slr.md.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import distributed

from retrim.errors import ConfigError
from retrim.prune.diagnostics import Watcher
from retrim.prune.magnitude import CubicSchedule, on_the_way
from retrim.prune.plan import Target
from retrim.prune.pruner import Hardened, Probe, Pruner, check_finite
from retrim.prune.scales import InputScales, check_batches
from retrim.prune.update import Update
from retrim.structures import Density, Support

_AT_ONCE = 1 << 18  # weights that are summed over in float64, so that they stay in the cache


class AugmentedLagrangian(Pruner):
    """Base of the pruners that pull weights towards a feasible copy of them.

    Parameters
    ----------
    rho : float
        Weight of the quadratic penalty.
    every : int
        Optimiser steps between two updates of Z and the multipliers.
    pull : float, optional
        Share of the way to Z - Λ/ρ that weights go at each step, after the optimiser's: the penalty's proximal
        operator, 0 < pull <= 1.  Without it the penalty's gradient goes through the optimiser.
    schedule : CubicSchedule, optional
        Density of Z on its way to the plan's, looked at at every update.  Without it, the plan's from the start.
    by_inputs : bool
        Weigh each column of a weight by the root mean square of its inputs, as in `ReweightedGroupLasso`, measured over the first
        `batches` steps; nothing is pulled until then.
    batches : int
        See `by_inputs`.
    """

    def __init__(
        self,
        rho: float,
        every: int,
        *,
        pull: float | None,
        schedule: CubicSchedule | None,
        by_inputs: bool,
        batches: int,
    ) -> None:
        super().__init__()
        if not (math.isfinite(rho) and rho > 0):
            raise ConfigError(f"rho must be a number > 0, not {rho}")
        if every < 1:
            raise ConfigError(f"every must be a whole number >= 1, not {every}")
        if pull is not None and not 0 < pull <= 1:
            raise ConfigError(f"pull must be a share, 0 < pull <= 1, not {pull}")
        check_batches(batches, schedule.end if by_inputs and schedule else None, "schedule.end")
        self.rho = rho
        self.every = every
        self.pull, self.schedule = pull, schedule
        self.by_inputs, self.batches = by_inputs, batches
        self._inputs = InputScales(batches if by_inputs else None)
        self._scales: list[torch.Tensor | None] = []
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

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """As of `ReweightedGroupLasso`."""
        return self._inputs.unmeasured

    def harden(self) -> list[Hardened]:
        if self._measuring():
            self._inputs.finish()
        return super().harden()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self._measuring():
            self._inputs.measure(self.model)

    def _begin(self) -> None:
        self._inputs.begin(self.model, self.targets)
        self._multipliers = [torch.zeros_like(target.parameter) for target in self.targets]
        self._updates = []
        self._set_out()

    def _set_out(self) -> None:
        """Take Z from the weights as they are."""
        self._scales = [self._placed_scale(target) for target in self.targets]
        self._copies = self._projections()

    def _measuring(self) -> bool:
        return self._inputs.measuring and not self._hardened

    def _add_gradient(self) -> None:
        if self.pull is not None or self._measuring():
            return
        for target, weight, copy, multiplier, scale in self._parts():
            gradient = _gradient(target.parameter)
            if scale is None:
                gradient.add_(weight, alpha=self.rho).sub_(copy, alpha=self.rho).add_(multiplier)
            else:
                gradient.add_((self.rho * (weight - copy) + multiplier).mul_(scale).mul_(scale))

    def _advance(self, probe: Probe | None) -> None:
        if self._measuring():
            if not self._inputs.gather():
                return
            self._set_out()
        if self.pull is not None:
            for _, weight, copy, multiplier, _ in self._parts():
                weight.lerp_(copy - multiplier / self.rho, self.pull)
        if self._steps % self.every == 0:
            for target in self.targets:
                check_finite(target)
            self._updates.append(self._update(probe))
            for watcher in self._watchers:
                watcher(self.updates)

    def _penalty(self) -> float:
        return 0.0 if self._measuring() else self._pull(self._copies)

    def _projected(self, target: Target, matrix: torch.Tensor) -> tuple[torch.Tensor, Support]:
        return self._inputs.project(target, matrix, target.density)

    def _state(self) -> dict[str, Any]:
        return {
            "copies": self._named(self._copies),
            "multipliers": self._named(self._multipliers),
            "updates": [asdict(update) for update in self._updates],
            "inputs": self._inputs.state(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        self._copies = self._placed(state["copies"])
        self._multipliers = self._placed(state["multipliers"])
        self._updates = [Update(**update) for update in state["updates"]]
        self._inputs.load(state.get("inputs", {}))
        self._scales = [self._placed_scale(target) for target in self.targets]

    # --- for the methods ------------------------------------------------------------

    def _weights(self) -> list[torch.Tensor]:
        return [target.parameter.detach() for target in self.targets]

    def _parts(
        self,
    ) -> Iterator[tuple[Target, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        """Weight, copy, multiplier and scale, layer by layer."""
        yield from zip(
            self.targets, self._weights(), self._copies, self._multipliers, self._scales, strict=True
        )

    def _projections(self) -> list[torch.Tensor]:
        """Π(W + Λ/ρ), layer by layer, at the density that is due."""
        shifted = torch._foreach_add(self._weights(), self._multipliers, alpha=1 / self.rho)
        found = []
        for target, weight in zip(self.targets, shifted, strict=True):
            matrix, _ = self._inputs.project(target, target.matrix(weight), self._due(target))
            found.append(torch.empty_like(target.parameter).detach().copy_(target.restore(matrix)))
        return found

    def _due(self, target: Target) -> Density:
        """Density of Z now; the last one at once where the structure reaches none on the way."""
        on_way = None if self.schedule is None else on_the_way(self.schedule, self._steps, target)
        return target.density if on_way is None else on_way

    def _placed_scale(self, target: Target) -> torch.Tensor | None:
        """Scales of the columns in the weight's stored shape; None where all count alike."""
        scale = self._inputs.of(target)
        return None if scale is None else target.restore(scale.expand_as(target.matrix()))

    def _move_multipliers(self, copies: list[torch.Tensor], step_size: float) -> None:
        """Λ += s (W - Z)."""
        torch._foreach_add_(self._multipliers, self._weights(), alpha=step_size)
        torch._foreach_add_(self._multipliers, copies, alpha=-step_size)

    def _pull(self, copies: list[torch.Tensor]) -> float:
        """<Λ, W - Z> + ρ/2 ‖W - Z‖², summed in float64."""
        total = 0.0
        for (_, weight, _, multiplier, scale), copy in zip(self._parts(), copies, strict=True):
            rows = max(1, _AT_ONCE * len(weight) // weight.numel())
            parts = [torch.split(tensor, rows) for tensor in (weight, copy, multiplier)]
            scales = [None] * len(parts[0]) if scale is None else torch.split(scale, rows)
            for some, copied, multiplied, scaled in zip(*parts, scales, strict=True):
                away = (some - copied).double()
                pulled = away * (multiplied.double() + 0.5 * self.rho * away)
                total += float((pulled if scaled is None else pulled * scaled.double().square()).sum())
        return total

    def _distance(self, copies: list[torch.Tensor]) -> float:
        """‖W - Z‖ over all layers."""
        return self._norm(torch._foreach_sub(self._weights(), copies))

    def _norm(self, tensors: Sequence[torch.Tensor]) -> float:
        """Norm of all of them together, with their scales."""
        return norm([t if s is None else t * s for t, s in zip(tensors, self._scales, strict=True)])

    def _relative(self, distance: float) -> float:
        """Over the norm of the weights."""
        return distance / max(self._norm(self._weights()), 1e-30)

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
