"""The loss that detectors are trained by: boxes, objectness, classes.

References
----------
Redmon and Farhadi, YOLOv3, arXiv:1804.02767, section 2.1 and 2.2.  Boxes are compared by complete
IoU (Zheng et al., arXiv:1911.08287) where the paper squares differences of codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from retrim.errors import ConfigError, DataError
from retrim.zoo.darknet.boxes import complete_overlap, corners, decode, decode_map, overlap
from retrim.zoo.darknet.heads import Head
from retrim.zoo.darknet.targets import Targets, targets_of


@dataclass(frozen=True, kw_only=True)
class DetectionLoss:
    """Weights of the three losses.

    Parameters
    ----------
    boxes, objectness, classes : float
    """

    boxes: float = 2.0
    objectness: float = 1.0
    classes: float = 1.0

    def __post_init__(self) -> None:
        for name in ("boxes", "objectness", "classes"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be a number >= 0, not {getattr(self, name)}")

    def __call__(
        self, maps: Sequence[torch.Tensor], truths: Sequence[torch.Tensor], heads: Sequence[Head]
    ) -> torch.Tensor:
        """Mean over images of the loss of an image, a scalar in float32; see `parts`."""
        boxes, objectness, classes = parts(maps, truths, heads)
        return self.boxes * boxes + self.objectness * objectness + self.classes * classes


def parts(
    maps: Sequence[torch.Tensor], truths: Sequence[torch.Tensor], heads: Sequence[Head]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses of boxes, objectness and classes, unweighted: sums over predictions, means over images.

    Parameters
    ----------
    maps : sequence of Tensor, shape (n, anchors, 5 + classes, height, width)
        One for each head, of any floating type.
    truths : sequence of n Tensor, shape (m, 5)
        Class, centre x and y, width, height in pixels of the input.
    heads : sequence of Head
    """
    if len(truths) != len(maps[0]):
        raise DataError(f"truths must be of the {len(maps[0])} images of the batch, not of {len(truths)}")
    truths = [truth.to(maps[0].device) for truth in truths]
    targets = targets_of(truths, heads, [(seen.shape[3], seen.shape[4]) for seen in maps])
    found = [
        _of_head(seen.float(), target, truths, head)
        for seen, target, head in zip(maps, targets, heads, strict=True)
    ]
    boxes, objectness, classes = (torch.stack(part).sum() / len(truths) for part in zip(*found, strict=True))
    return boxes, objectness, classes


def _of_head(
    seen: torch.Tensor, target: Targets, truths: Sequence[torch.Tensor], head: Head
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    image, anchor, row, column = target.places.unbind(dim=1)
    taken = seen[image, anchor, :, row, column]
    anchors = seen.new_tensor(head.anchors)[anchor]
    found = decode(taken[:, :4], torch.stack((column, row), dim=1), anchors, head)
    pixels = seen.shape[3] * seen.shape[4] * head.stride**2
    small = 2 - target.boxes[:, 2:].prod(dim=1) / pixels  # boxes count up to twice, small ones more
    positive = torch.zeros_like(seen[:, :, 4], dtype=torch.bool)
    positive[image, anchor, row, column] = True
    crossed = functional.binary_cross_entropy_with_logits(
        seen[:, :, 4], positive.to(seen.dtype), reduction="none"
    )
    return (
        (small * (1 - complete_overlap(found, target.boxes))).sum(),
        (crossed * (positive | ~near(seen, truths, head))).sum(),
        functional.binary_cross_entropy_with_logits(taken[:, 5:], target.classes, reduction="sum"),
    )


@torch.no_grad()
def near(seen: torch.Tensor, truths: Sequence[torch.Tensor], head: Head) -> torch.Tensor:
    """Which predictions overlap a truth by more than `head.ignore_thresh`; (n, anchors, height, width)."""
    boxes = corners(decode_map(seen, head))
    best = boxes.new_zeros(boxes.shape[:-1])
    for index, truth in enumerate(truths):
        if len(truth):
            ratio = overlap(boxes[index].reshape(-1, 4), corners(truth[:, 1:].float()))
            best[index] = ratio.amax(dim=1).view(best.shape[1:])
    return best > head.ignore_thresh
