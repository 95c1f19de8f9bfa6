"""Pruning by the alternating direction method of multipliers (arXiv 1804.03294, section 3).

With U = Λ/ρ, every few optimiser steps ``Z = Π(W + U)`` and ``U += W - Z``; in
between, weights feel ``ρ (W - Z + U)`` besides the loss.
"""

from __future__ import annotations

from retrim.prune.lagrangian import AugmentedLagrangian
from retrim.prune.magnitude import CubicSchedule
from retrim.prune.pruner import Probe
from retrim.prune.update import Update


class ADMM(AugmentedLagrangian):
    """Pull weights towards their projection, with multipliers that move by ρ at every update.

    Parameters
    ----------
    rho : float, default 1e-2
        Weight of the quadratic penalty.
    every : int, default 100
        Optimiser steps between two updates, often one or a few epochs.
    pull : float, optional
        Share of the way to Z - Λ/ρ that weights go at each step, after the optimiser's: the penalty's proximal operator,
        0 < pull <= 1.  Without it the penalty's gradient goes through the optimiser; one that scales gradients, as Adam does,
        then moves weights by its learning rate at most, however large rho is.
    schedule : CubicSchedule, optional
        Density of Z on its way to the plan's; looked at at every update.  Without it, the plan's from the start.
    by_inputs : bool, default False
        Weigh each column of a weight by the root mean square of its inputs (over that of all of the layer's), in
        products and norms and in what is kept: what counts is what a column adds to the outputs.  Inputs are measured over the
        first `batches` steps, and nothing is pulled until then.  Weights whose inputs cannot be measured (`unmeasured`), and
        those of forms that are no unions of groups, are weighed as they are.
    batches : int, default 16
        See `by_inputs`.
    """

    def __init__(
        self,
        *,
        rho: float = 1e-2,
        every: int = 100,
        pull: float | None = None,
        schedule: CubicSchedule | None = None,
        by_inputs: bool = False,
        batches: int = 16,
    ) -> None:
        super().__init__(rho, every, pull=pull, schedule=schedule, by_inputs=by_inputs, batches=batches)

    def _update(self, probe: Probe | None) -> Update:
        self._copies = self._projections()
        self._move_multipliers(self._copies, self.rho)
        distance = self._distance(self._copies)
        return Update(
            step=self._steps,
            k=len(self._updates) + 2,
            step_size=self.rho,
            alpha=1.0,
            distance=distance,
            relative=self._relative(distance),
            probe_loss=None,
            weights_accepted=False,
            projection_accepted=True,
        )
