"""Focal loss of classes, smooth L1 of boxes, cross entropy of directions.

References
----------
Lang et al., PointPillars, arXiv:1812.05784, section 3.2, equations 1 to 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from retrim.zoo.pointpillars.network import Predictions
from retrim.zoo.pointpillars.targets import Targets

_ALPHA, _BETA = 0.25, 1 / 9


@dataclass(frozen=True, kw_only=True)
class DetectionLoss:
    """Weights of the three losses; the defaults are the paper's."""

    classes: float = 1.0
    boxes: float = 2.0
    directions: float = 0.2

    def __call__(self, seen: Predictions, targets: Targets) -> torch.Tensor:
        """Mean over scans of the losses over a scan's positive anchors, a scalar in float32."""
        classes, boxes, directions = parts(seen, targets)
        return self.classes * classes + self.boxes * boxes + self.directions * directions


def parts(seen: Predictions, targets: Targets) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses of classes, boxes and directions, unweighted."""
    scans, anchors = targets.labels.shape
    share = 1 / (targets.labels > 0).sum(dim=1).clamp(min=1) / scans  # of one anchor in the loss
    own = share[targets.positive // anchors]
    return (
        (focal(seen.classes.float(), targets.labels).sum(dim=1) * share).sum(),
        (differences(_at(seen.codes, targets.positive), targets.codes).sum(dim=1) * own).sum(),
        (_crossed(_at(seen.directions, targets.positive), targets.directions) * own).sum(),
    )


def focal(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Focal loss of logits (scans, anchors, classes), summed over classes: (scans, anchors).

    Zero where the label is -1.
    """
    truth = functional.one_hot(labels.clamp(min=0), logits.shape[2] + 1)[..., 1:].to(logits.dtype)
    signed = logits * (1 - 2 * truth)  # the larger, the further from the truth
    weight = _ALPHA * truth + (1 - _ALPHA) * (1 - truth)
    loss = weight * torch.sigmoid(signed).square() * functional.softplus(signed)
    return loss.sum(dim=2) * (labels >= 0)


def differences(codes: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Smooth L1 of codes (n, 7); of the last one the sine of the difference."""
    turn = torch.sin(codes[:, 6:] - wanted[:, 6:])
    difference = torch.cat((codes[:, :6] - wanted[:, :6], turn), dim=1)
    return functional.smooth_l1_loss(difference, torch.zeros_like(difference), beta=_BETA, reduction="none")


def _crossed(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, wanted, reduction="none")


def _at(values: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, values.shape[2])[positive].float()
