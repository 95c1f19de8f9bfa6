"""Reweighted group lasso (arXiv 2009.08065, section 3.2).

The training loss gets the penalty

    lambda * sum over layers, sum over groups g of  gamma_g ||W_g||_2,
    gamma_g = 1 / (||W_g||_2 + epsilon),

with gamma taken from the trained weights and refreshed on a schedule: a group
that is small already is pressed harder, one that matters is left alone.
Its gradient in closed form is ``lambda gamma_g W_g / ||W_g||``.  Weighed by inputs, norms
are those of W S, with S the root mean squares of the inputs.  docs/retrim/pruners/group-lasso.md.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from retrim.errors import ConfigError
from retrim.prune.plan import Target
from retrim.prune.pruner import Hardened, Probe, Pruner, check_finite
from retrim.prune.scales import InputScales, check_batches
from retrim.structures import Groups, Support


class ReweightedGroupLasso(Pruner):
    """Press groups of weights towards zero, the weak ones hardest.

    Parameters
    ----------
    strength : float, optional
        The penalty's lambda.  Without it, lambda is set so that the norm of the
        penalty's gradient is `fraction` of that of the loss gradient (over all
        pruned weights, smoothed over the steps since the last refresh), and
        set anew at every refresh: a fixed lambda that suits a long run hardly
        moves weights in a short one.
    fraction : float, default 0.1
        See `strength`.
    epsilon : float, default 1e-3
        Keeps gamma finite.
    refresh_every : int, default 100
        Optimiser steps between two refreshes of gamma (and lambda).
    selective : bool, default False
        Press only groups that the projection would drop (as of the last
        refresh), and leave the others alone: gamma = 0 for those.  The paper
        presses all.
    over : int, optional
        Press by the penalty's proximal operator instead of its gradient, as hard
        as brings each weight to its density in so many steps.  gamma and lambda are set at every step, so
        `strength`, `fraction` and `refresh_every` have no say.
    by_inputs : bool, default False
        Weigh each column of a weight by the root mean square of its inputs (over that of all of the layer's), in norms
        and in what is kept: a column counts by what it adds to the outputs, not by its weights alone.  Inputs are measured over the
        first `batches` steps, and nothing is pressed until then.
    batches : int, default 16
        See `by_inputs`.

    Notes
    -----
    For a structure that is no union of groups the penalty is the weighted
    distance to it, gamma ||W - proj W||.  Inputs weigh nothing there, nor where they cannot be
    measured (`unmeasured`).
    """

    def __init__(
        self,
        *,
        strength: float | None = None,
        fraction: float = 0.1,
        epsilon: float = 1e-3,
        refresh_every: int = 100,
        selective: bool = False,
        over: int | None = None,
        by_inputs: bool = False,
        batches: int = 16,
    ) -> None:
        super().__init__()
        for name, value in (("strength", strength), ("fraction", fraction), ("epsilon", epsilon)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be a number > 0, not {value}")
        if refresh_every < 1:
            raise ConfigError(f"refresh_every must be a whole number >= 1, not {refresh_every}")
        if over is not None and over < 1:
            raise ConfigError(f"over must be a whole number >= 1, not {over}")
        if over is not None and strength is not None:
            raise ConfigError("over sets the strength at every step: leave strength out")
        check_batches(batches, over if by_inputs else None)
        self.over = over
        self.by_inputs, self.batches = by_inputs, batches
        self.strength = strength
        self.fraction = fraction
        self.epsilon = epsilon
        self.refresh_every = refresh_every
        self.selective = selective
        self._gamma: dict[str, torch.Tensor] = {}
        self._inputs = InputScales(batches if by_inputs else None)
        self._lambda = strength
        self._loss_energy = 0.0
        self._loss_count = 0

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Weights whose inputs were to be measured by now, and could not be: their norms alone count.

        Those of layers that `OptimalBrainSurgeon` cannot measure either, those whose inputs were all zero, and those of forms that
        are no unions of groups.
        """
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
        self._gamma = {}
        self._inputs.begin(self.model, self.targets)
        self._lambda = self.strength
        self._loss_energy, self._loss_count = 0.0, 0
        self._refresh_gamma()

    def _measuring(self) -> bool:
        return self._inputs.measuring and not self._hardened

    def _add_gradient(self) -> None:
        if self.over is not None or self._measuring():
            return
        pulls = {target.name: self._pull(target) for target in self.targets}
        if self.strength is None:
            self._measure_loss()
        if self._lambda is None:
            if not self._loss_count:
                return  # no finite gradient to match yet
            self._lambda = self._matched(pulls)
        for target in self.targets:
            if target.parameter.grad is None:
                target.parameter.grad = torch.zeros_like(target.parameter)
            target.parameter.grad.add_(target.restore(pulls[target.name]), alpha=self._lambda)

    def _advance(self, probe: Probe | None) -> None:
        if self._measuring():
            if not self._inputs.gather():
                return
            self._refresh_gamma()
        if self.over is not None:
            self._press(self.over - self._steps)
            return
        if self._steps % self.refresh_every:
            return
        self._refresh_gamma()
        if self.strength is None and self._loss_count:
            self._lambda = self._matched({t.name: self._pull(t) for t in self.targets})
            self._loss_energy, self._loss_count = 0.0, 0

    def _projected(self, target: Target, matrix: torch.Tensor) -> tuple[torch.Tensor, Support]:
        return self._inputs.project(target, matrix, target.density)

    def _press(self, left: int) -> None:
        """One proximal step, with so many to follow; the last one drops what must go."""
        if left < 0:
            return
        self._refresh_gamma()
        for target in self.targets:
            matrix = target.matrix()
            if left == 0:
                projected, self._supports[target.name] = self._projected(target, matrix)
                target.parameter.copy_(target.restore(projected))
            else:
                target.parameter.copy_(target.restore(self._shrunk(target, matrix, left)))

    def _shrunk(self, target: Target, matrix: torch.Tensor, left: int) -> torch.Tensor:
        """The penalty's proximal operator."""
        norms = self._norms(target, matrix)
        share = self._due(target, matrix, left) * self._gamma[target.name] / norms.clamp_min(1e-30)
        groups = target.structure.groups(matrix)
        if groups is None:
            away = matrix - target.structure.project(matrix, target.density)[0]
            near: torch.Tensor = matrix - away * share
            return near
        spread: torch.Tensor = groups.spread((1.0 - share).clamp_min(0.0))
        return matrix * spread

    def _due(self, target: Target, matrix: torch.Tensor, left: int) -> torch.Tensor:
        """The lambda of each group at which the last one that must go, of those it competes with, is gone in time."""
        goes = torch.where(self._kept(target, matrix), 0.0, self._norms(target, matrix))
        groups = target.structure.groups(matrix)
        contest = (
            torch.zeros(1, dtype=torch.int64, device=matrix.device) if groups is None else groups.contest
        )
        worst = torch.zeros_like(goes).scatter_reduce(0, contest, goes, "amax")[contest]
        return (worst.square() / 2 + self.epsilon * worst) / left

    def _penalty(self) -> float:
        total = 0.0
        if self._measuring():
            return total
        for target in self.targets:
            matrix = target.matrix()
            pressed = self._gamma[target.name] * self._norms(target, matrix)
            if self.over is None:
                total += (self._lambda or 0.0) * float(pressed.sum())
            elif self.over > self._steps:
                total += float((self._due(target, matrix, self.over - self._steps) * pressed).sum())
        return total

    def _state(self) -> dict[str, Any]:
        return {
            "gamma": dict(self._gamma),
            **self._inputs.state(),
            "lambda": self._lambda,
            "loss_energy": self._loss_energy,
            "loss_count": self._loss_count,
        }

    def _load(self, state: dict[str, Any]) -> None:
        self._gamma = {name: state["gamma"][name].to(g.device) for name, g in self._gamma.items()}
        self._inputs.load(state)
        self._lambda = state["lambda"]
        self._loss_energy = state["loss_energy"]
        self._loss_count = state["loss_count"]

    def _refresh_gamma(self) -> None:
        for target in self.targets:
            check_finite(target)
            matrix = target.matrix()
            gamma = 1.0 / (self._norms(target, matrix) + self.epsilon)
            if self.selective:
                gamma = torch.where(self._kept(target, matrix), 0.0, gamma)
            self._gamma[target.name] = gamma

    def _pull(self, target: Target) -> torch.Tensor:
        """Gradient of the penalty over lambda, shape (out, in)."""
        matrix = target.matrix()
        gamma = self._gamma[target.name]
        groups: Groups | None = target.structure.groups(matrix)
        if groups is None:
            away = matrix - target.structure.project(matrix, target.density)[0]
            distance: torch.Tensor = torch.linalg.vector_norm(away)
            pull: torch.Tensor = away * (gamma / distance.clamp_min(1e-30))
            return pull
        norms: torch.Tensor = groups.norms(self._inputs.scaled(target, matrix))
        # a group at exactly zero has no direction: 0 is in the subdifferential
        share = torch.where(norms > 0, gamma / norms.clamp_min(1e-30), 0.0)
        spread: torch.Tensor = groups.spread(share)
        return self._inputs.scaled(target, self._inputs.scaled(target, matrix)) * spread

    def _kept(self, target: Target, matrix: torch.Tensor) -> torch.Tensor:
        """Groups that the projection would keep now; none where the form is no union of groups."""
        groups = target.structure.groups(matrix)
        if groups is None:
            return torch.zeros(1, dtype=torch.bool, device=matrix.device)
        _, support = self._projected(target, matrix)
        kept: torch.Tensor = groups.norms(support.apply(torch.ones_like(matrix))) > 0
        return kept

    def _norms(self, target: Target, matrix: torch.Tensor) -> torch.Tensor:
        """Norms that the penalty weighs: one per group, or the distance to the structure."""
        groups = target.structure.groups(matrix)
        if groups is None:
            projected, _ = target.structure.project(matrix, target.density)
            distance: torch.Tensor = torch.linalg.vector_norm(matrix - projected)
            return distance.reshape(1)
        norms: torch.Tensor = groups.norms(self._inputs.scaled(target, matrix))
        return norms

    def _measure_loss(self) -> None:
        grads = [t.parameter.grad for t in self.targets if t.parameter.grad is not None]
        energy = sum(float(torch.linalg.vector_norm(grad)) ** 2 for grad in grads)
        if math.isfinite(energy):  # a step that overflowed in half precision is skipped by its scaler
            self._loss_energy += energy
            self._loss_count += 1

    def _matched(self, pulls: dict[str, torch.Tensor]) -> float:
        pull = math.sqrt(sum(float(torch.linalg.vector_norm(p)) ** 2 for p in pulls.values()))
        loss = math.sqrt(self._loss_energy / self._loss_count)
        return self.fraction * loss / pull if pull > 0 else 0.0
