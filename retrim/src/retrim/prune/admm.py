"""Pruning by the alternating direction method of multipliers (arXiv 1804.03294, section 3).

With U = Λ/ρ, every few optimiser steps ``Z = Π(W + U)`` and ``U += W - Z``; in
between, weights feel ``ρ (W - Z + U)`` besides the loss.
"""

from __future__ import annotations

from retrim.prune.lagrangian import AugmentedLagrangian, norm
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
    """

    def __init__(self, *, rho: float = 1e-2, every: int = 100) -> None:
        super().__init__(rho, every)

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
            relative=distance / max(norm(self._weights()), 1e-30),
            probe_loss=None,
            weights_accepted=False,
            projection_accepted=True,
        )
