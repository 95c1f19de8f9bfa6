"""Detections from the maps of the heads: boxes, scores, and none twice.

References
----------
Redmon and Farhadi, YOLOv3, arXiv:1804.02767, section 2.1 and 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from retrim.zoo.darknet.boxes import corners, decode_map, overlap
from retrim.zoo.darknet.heads import Head

_CANDIDATES = 1024  # best ones of an image that go into suppression


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in an image, best first.

    Attributes
    ----------
    boxes : Tensor of float32, shape (n, 4)
        Left, top, right, bottom in pixels of the network's input; not cut to it.
    scores : Tensor of float32, shape (n,)
        Objectness times probability of the class.
    labels : Tensor of int64, shape (n,)
        Classes.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.scores)


@torch.no_grad()
def detections_of(
    maps: Sequence[torch.Tensor],
    heads: Sequence[Head],
    *,
    score: float = 0.25,
    overlap: float = 0.45,
    limit: int = 100,
) -> list[Detections]:
    """Detections in each image of a batch.

    A box is found once for each class that it has a score above `score` for, as in darknet.

    Parameters
    ----------
    maps : sequence of Tensor, shape (n, anchors, 5 + classes, height, width)
        One for each head; see `DarknetNetwork.forward`.
    heads : sequence of Head
    score : float
        That a detection must exceed.
    overlap : float
        A detection that overlaps a better one of its class by more is dropped.
    limit : int
        Most detections of an image.
    """
    boxes = torch.cat(
        [decode_map(seen, head).flatten(1, 3) for seen, head in zip(maps, heads, strict=True)], 1
    )
    scores = torch.cat([_scores(seen) for seen in maps], dim=1)
    return [_of_image(*image, score, overlap, limit) for image in zip(boxes, scores, strict=True)]


def suppress(boxes: torch.Tensor, labels: torch.Tensor, most: float) -> torch.Tensor:
    """Which of boxes (n, 4) of corners, best first, overlap no better one that stays by more than `most`.

    Only boxes of one label drop each other.  What stays depends on better boxes alone, so
    that repeating the rule settles one box after the other: mostly in a few rounds.

    Returns
    -------
    Tensor of bool, shape (n,)
    """
    drops = ((overlap(boxes, boxes) > most) & (labels[:, None] == labels)).triu(diagonal=1)
    stays = torch.ones_like(labels, dtype=torch.bool)
    while True:
        settled = ~(drops & stays[:, None]).any(dim=0)
        if torch.equal(settled, stays):
            return stays
        stays = settled


def _scores(seen: torch.Tensor) -> torch.Tensor:
    """Scores of all predictions of a head, shape (n, predictions, classes)."""
    chances = torch.sigmoid(seen[:, :, 4:].float())
    return (chances[:, :, :1] * chances[:, :, 1:]).movedim(2, -1).flatten(1, 3)


def _of_image(boxes: torch.Tensor, scores: torch.Tensor, score: float, most: float, limit: int) -> Detections:
    """From boxes (n, 4) of centre and size, and scores (n, classes)."""
    found, labels = (scores > score).nonzero(as_tuple=True)
    best = scores[found, labels].sort(descending=True, stable=True)
    order = best.indices[:_CANDIDATES]
    ends, labels = corners(boxes[found[order]]), labels[order]
    kept = suppress(ends, labels, most).nonzero()[:limit, 0]
    return Detections(ends[kept], best.values[kept], labels[kept])
