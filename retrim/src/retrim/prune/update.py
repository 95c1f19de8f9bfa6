"""What is told of one update of the multipliers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Update:
    """One update of the multipliers, for diagnostics.

    Attributes
    ----------
    step : int
        Optimiser steps done.
    k : int
        Multiplier steps accepted so far, and one.
    step_size : float
        By which multipliers moved last.
    alpha : float
        Its factor; 1 where the method has none.
    distance : float
        ‖W - Z‖ over all layers, with the new Z.
    relative : float
        `distance` over ‖W‖.
    probe_loss : float or None
        Mean loss over the probe, where the method asks for it.
    weights_accepted, projection_accepted : bool
        Whether multipliers moved after the weights, and after the projection.
    """

    step: int
    k: int
    step_size: float
    alpha: float
    distance: float
    relative: float
    probe_loss: float | None
    weights_accepted: bool
    projection_accepted: bool
