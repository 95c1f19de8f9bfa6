"""Detections from predictions: boxes, scores, and none twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrim.zoo.kitti.overlap import bev_overlap
from retrim.zoo.pointpillars.anchors import anchors, decode
from retrim.zoo.pointpillars.config import Config
from retrim.zoo.pointpillars.directions import facing
from retrim.zoo.pointpillars.network import Predictions

_LARGEST = 2.0  # of a logarithm of a size over the anchor's; what is beyond is nonsense that would overflow


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in a scan, best first.

    Attributes
    ----------
    boxes : ndarray, shape (n, 7)
    kinds : ndarray of int, shape (n,)
        Indices into the configuration's classes.
    scores : ndarray, shape (n,)
    """

    boxes: np.ndarray
    kinds: np.ndarray
    scores: np.ndarray


def detections_of(seen: Predictions, config: Config) -> list[Detections]:
    """Detections of every scan of a batch."""
    logits, codes, directions = (part.detach().float().numpy() for part in seen)
    return [_of_scan(*scan, config) for scan in zip(logits, codes, directions, strict=True)]


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float, most: int) -> np.ndarray:
    """Indices of boxes (n, 7) that overlap no better one from above by more than `overlap`, best first.

    Of equal scores the first is the better one.
    """
    flat = boxes[:, [0, 1, 3, 4, 6]]
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        left = left[bev_overlap(flat[best : best + 1], flat[left])[0] <= overlap]
    return np.array(kept, dtype=np.int64)


def _of_scan(logits: np.ndarray, codes: np.ndarray, directions: np.ndarray, config: Config) -> Detections:
    best = logits.max(axis=1)
    least = np.log(config.score / (1 - config.score)) if config.score > 0 else -np.inf
    candidates = np.nonzero(best >= least)[0]
    candidates = candidates[np.argsort(-best[candidates], kind="stable")[: config.candidates]]
    codes = codes[candidates].astype(np.float64)
    codes[:, 3:6] = np.minimum(codes[:, 3:6], _LARGEST)
    boxes = decode(codes, anchors(config).reshape(-1, 7)[candidates].astype(np.float64))
    boxes[:, 6] = facing(boxes[:, 6], directions[candidates].argmax(axis=1))
    scores = 1 / (1 + np.exp(-best[candidates].astype(np.float64)))
    kept = suppress(boxes, scores, config.overlap, config.detections)
    return Detections(boxes[kept], logits[candidates[kept]].argmax(axis=1), scores[kept])
