"""Which predictions should find which labelled boxes.

References
----------
Redmon and Farhadi, YOLOv3, arXiv:1804.02767, section 2.1; that several anchors may learn one
box (`iou_thresh`) is AlexeyAB's darknet's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from retrim.errors import DataError
from retrim.zoo.darknet.boxes import shape_overlap
from retrim.zoo.darknet.heads import Head


@dataclass(frozen=True, eq=False)
class Targets:
    """Predictions of one head that should find something, each once.

    Attributes
    ----------
    places : Tensor of int64, shape (n, 4)
        Image, anchor, row, column; in this order.
    boxes : Tensor, shape (n, 4)
        Centre x and y, width, height in pixels of the input.
    classes : Tensor, shape (n, classes)
        1 for each class that is there, else 0.
    """

    places: torch.Tensor
    boxes: torch.Tensor
    classes: torch.Tensor


def targets_of(
    truths: Sequence[torch.Tensor], heads: Sequence[Head], sizes: Sequence[tuple[int, int]]
) -> list[Targets]:
    """Targets of each head.

    Each truth is learnt in the cell of its centre, by the anchor of all heads that is most like it in
    shape (all of them, if several are equally so), and by those that are like it by more than their
    head's `iou_thresh`.  Where two truths meet in one prediction, the later one gives the box, and
    both give their class.

    Parameters
    ----------
    truths : sequence of Tensor, shape (m, 5)
        One for each image: class, centre x and y, width, height in pixels of the input.
    heads : sequence of Head
    sizes : sequence of (height, width)
        Of the heads' maps.

    Raises
    ------
    DataError
        If a truth is no box of a class.
    """
    rows = torch.cat([_checked(truth, heads) for truth in truths])
    counts = torch.tensor([len(truth) for truth in truths], device=rows.device)
    images = torch.arange(len(truths), device=rows.device).repeat_interleave(counts)
    anchors = rows.new_tensor([anchor for head in heads for anchor in head.anchors])
    alike = shape_overlap(rows[:, 3:], anchors)
    best = alike == alike.amax(dim=1, keepdim=True)
    per_head = [len(head.anchors) for head in heads]
    return [
        _of_head(rows, images, part_best | (part > head.iou_thresh), head, size)
        for head, size, part, part_best in zip(
            heads, sizes, torch.split(alike, per_head, 1), torch.split(best, per_head, 1), strict=True
        )
    ]


def _of_head(
    rows: torch.Tensor, images: torch.Tensor, taken: torch.Tensor, head: Head, size: tuple[int, int]
) -> Targets:
    """Targets of truths (m, 5) where `taken` (m, anchors)."""
    height, width = size
    truth, anchor = taken.nonzero(as_tuple=True)
    column = (rows[truth, 1] / head.stride).long().clamp(0, width - 1)
    row = (rows[truth, 2] / head.stride).long().clamp(0, height - 1)
    index = ((images[truth] * len(head.anchors) + anchor) * height + row) * width + column
    places, which = torch.unique(index, return_inverse=True)
    last = torch.zeros_like(places).scatter_reduce_(
        0, which, torch.arange(len(which), device=which.device), "amax"
    )
    classes = rows.new_zeros(len(places), head.classes)
    classes[which, rows[truth, 0].long()] = 1
    chosen = torch.stack((images[truth], anchor, row, column), dim=1)[last]
    return Targets(chosen, rows[truth[last], 1:], classes)


def _checked(truth: torch.Tensor, heads: Sequence[Head]) -> torch.Tensor:
    if truth.ndim != 2 or truth.shape[1] != 5:
        raise DataError(f"truths must have the shape (m, 5), not {tuple(truth.shape)}")
    truth = truth.float()
    classes = min(head.classes for head in heads)
    if not bool(torch.isfinite(truth).all()) or bool((truth[:, 3:] <= 0).any()):
        raise DataError(
            "truths must be finite boxes with a width and height > 0, but some are not: drop them"
        )
    if bool(((truth[:, 0] < 0) | (truth[:, 0] >= classes)).any()):
        raise DataError(
            f"truths must be of classes from 0 to {classes - 1}, but one is of class "
            f"{int(truth[:, 0][(truth[:, 0] < 0) | (truth[:, 0] >= classes)][0])}: choose a network for these classes"
        )
    return truth
