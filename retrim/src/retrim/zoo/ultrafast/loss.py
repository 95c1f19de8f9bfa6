"""Losses: the choice of a cell, and the structure of a lane.

References
----------
arXiv:2004.11757, section 3.2, equations 2, 5, 7 and 8.  As in the authors'
code, the classification is weighted by (1 - p)^2 (focal), and similarity is
measured by the smooth L1 distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from retrim.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LaneLoss:
    """Weighted sum of the three losses.

    Parameters
    ----------
    gamma : float
        Exponent of the focal weight; 0 is plain cross entropy.
    similarity, shape : float
        Weights of the structural losses; the authors' for TuSimple by default.
    """

    gamma: float = 2.0
    similarity: float = 1.0
    shape: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gamma", "similarity", "shape"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be a number >= 0, not {getattr(self, name)}")

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss of logits (n, cells + 1, anchors, lanes) at labels (n, anchors, lanes)."""
        total = classification(logits, labels, self.gamma)
        if self.similarity:
            total = total + self.similarity * similarity(logits)
        if self.shape:
            total = total + self.shape * shape(logits)
        return total


def classification(logits: torch.Tensor, labels: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """Mean of -(1 - p)^gamma log p, p the probability of the label."""
    taken = functional.log_softmax(logits, 1).gather(1, labels[:, None])
    return -((1 - taken.exp()) ** gamma * taken).mean()


def similarity(logits: torch.Tensor) -> torch.Tensor:
    """Smooth L1 distance of the logits of neighbouring rows."""
    return functional.smooth_l1_loss(logits[:, :, :-1], logits[:, :, 1:])


def shape(logits: torch.Tensor) -> torch.Tensor:
    """Mean absolute second difference of the expected cells along a lane."""
    return expectation(logits).diff(n=2, dim=1).abs().mean()


def expectation(logits: torch.Tensor) -> torch.Tensor:
    """Expected cell, given that there is a lane, shape (n, anchors, lanes)."""
    cells = torch.arange(logits.shape[1] - 1, dtype=logits.dtype, device=logits.device)
    return torch.einsum("nkrl,k->nrl", logits[:, :-1].softmax(1), cells)
