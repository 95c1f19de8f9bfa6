"""Pruning by surrogate Lagrangian relaxation (arXiv 2012.10079, section 3; arXiv 2304.04120).

As ADMM, but multipliers move by a step size of their own, twice an update, and
only where the surrogate optimality condition holds (equations 8 to 14).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from retrim.errors import ConfigError
from retrim.prune.lagrangian import AugmentedLagrangian, agreed
from retrim.prune.magnitude import CubicSchedule
from retrim.prune.pruner import Probe
from retrim.prune.update import Update


class SLR(AugmentedLagrangian):
    """Pull weights towards their projection, with multipliers that move by shrinking steps.

    Parameters
    ----------
    rho : float, default 0.1
        Weight of the quadratic penalty.
    every : int, default 100
        Optimiser steps between two updates, often one or a few epochs.
    step_size : float, default 0.01
        s at the start.
    M : float, default 300
        See `alpha`.
    r : float, default 0.1
        See `alpha`.
    rejected : {"continue", "restore"}
        Where training between two updates did not lower the Lagrangian: go on
        from there, or put the pruned weights back to where they were.
    steps : {"contracting", "paper"}
        Which residual the step size is scaled by: that of the last step that was taken,
        so that s ‖W - Z‖ never grows, as the theory of the method asks for; or, in both of an
        update's steps, that of the update before, as the paper's equations are printed.
    pull, schedule, by_inputs, batches
        See `ADMM`.

    Notes
    -----
    `step` must be given a probe: the condition compares the mean loss over it.
    """

    def __init__(
        self,
        *,
        rho: float = 0.1,
        every: int = 100,
        step_size: float = 0.01,
        M: float = 300.0,  # noqa: N803 - the paper's name
        r: float = 0.1,
        rejected: Literal["continue", "restore"] = "continue",
        steps: Literal["contracting", "paper"] = "contracting",
        pull: float | None = None,
        schedule: CubicSchedule | None = None,
        by_inputs: bool = False,
        batches: int = 16,
    ) -> None:
        super().__init__(rho, every, pull=pull, schedule=schedule, by_inputs=by_inputs, batches=batches)
        if not (math.isfinite(step_size) and step_size > 0):
            raise ConfigError(f"step_size must be a number > 0, not {step_size}")
        if not (math.isfinite(M) and M > 1):
            raise ConfigError(f"M must be a number > 1, not {M}")
        if not 0 < r < 1:
            raise ConfigError(f"r must lie between 0 and 1, not {r}")
        if rejected not in ("continue", "restore"):
            raise ConfigError(f"rejected must be 'continue' or 'restore', not {rejected!r}")
        if steps not in ("contracting", "paper"):
            raise ConfigError(f"steps must be 'contracting' or 'paper', not {steps!r}")
        self.step_size = step_size
        self.M = M
        self.r = r
        self.rejected = rejected
        self.steps = steps
        self._start()

    def alpha(self, k: int) -> float:
        """Factor of the step size: 1 - 1 / (M k^p) with p = 1 - 1 / k^r (equation 10)."""
        return 1.0 - 1.0 / (self.M * math.pow(k, 1.0 - math.pow(k, -self.r)))

    def _start(self) -> None:
        self._k = 1
        self._s = self.step_size
        self._alpha = 1.0
        self._distance_before = 0.0
        self._lagrangian_before = math.inf  # the first update is accepted whatever it does
        self._weights_before: list[torch.Tensor] = []

    def _set_out(self) -> None:
        super()._set_out()
        self._start()
        self._distance_before = self._distance(self._copies)
        self._remember()

    def _update(self, probe: Probe | None) -> Update:
        loss = self._loss(probe)
        weights_accepted = self._after_weights(loss)
        if not weights_accepted and self.rejected == "restore":
            self._put_back()
            loss = self._lagrangian_before - self._pull(self._copies)
        projection_accepted = self._after_projection()
        distance = self._distance(self._copies)
        if self.steps == "paper":
            self._distance_before = distance
        self._lagrangian_before = loss + self._pull(self._copies)
        self._remember()
        return Update(
            step=self._steps,
            k=self._k,
            step_size=self._s,
            alpha=self._alpha,
            distance=distance,
            relative=self._relative(distance),
            probe_loss=loss,
            weights_accepted=weights_accepted,
            projection_accepted=projection_accepted,
        )

    def _after_weights(self, loss: float) -> bool:
        """Step 1: move the multipliers if training lowered the Lagrangian, or at the first update."""
        now = loss + self._pull(self._copies)
        accepted = now < self._lagrangian_before
        if accepted:
            self._accept(self._copies)
        return accepted

    def _after_projection(self) -> bool:
        """Step 2: project, and move the multipliers if that lowered the Lagrangian."""
        projected = self._projections()
        accepted = self._pull(projected) < self._pull(self._copies)
        self._copies = projected
        if accepted:
            self._accept(projected)
        return accepted

    def _accept(self, copies: list[torch.Tensor]) -> None:
        distance = self._distance(copies)
        if distance > 0:  # else all weights have arrived: nothing is left to press
            self._alpha = self.alpha(self._k)
            if self._distance_before > 0:  # weights that began in their forms give nothing to compare with
                self._s *= self._alpha * self._distance_before / distance
            if self.steps == "contracting":
                self._distance_before = distance
            self._move_multipliers(copies, self._s)
        self._k += 1

    def _loss(self, probe: Probe | None) -> float:
        if probe is None:
            raise ConfigError(
                "SLR.step(probe) must be given a probe, a function of the mean loss over fixed batches: "
                "its condition compares them"
            )
        loss = agreed(probe())
        if not math.isfinite(loss):
            raise ConfigError(
                f"the probe's loss must be finite, not {loss}, after step {self._steps}: lower the learning "
                "rate or rho; the last checkpoint is kept"
            )
        return loss

    def _remember(self) -> None:
        if self.rejected == "restore":
            self._weights_before = [weight.clone() for weight in self._weights()]

    def _put_back(self) -> None:
        for target, weight in zip(self.targets, self._weights_before, strict=True):
            target.parameter.copy_(weight)

    def _state(self) -> dict[str, Any]:
        return {
            **super()._state(),
            "k": self._k,
            "s": self._s,
            "alpha": self._alpha,
            "distance_before": self._distance_before,
            "lagrangian_before": self._lagrangian_before,
            "weights_before": self._named(self._weights_before) if self._weights_before else {},
        }

    def _load(self, state: dict[str, Any]) -> None:
        super()._load(state)
        self._k, self._s, self._alpha = state["k"], state["s"], state["alpha"]
        self._distance_before = state["distance_before"]
        self._lagrangian_before = state["lagrangian_before"]
        before = state["weights_before"]
        self._weights_before = self._placed(before) if before else []
