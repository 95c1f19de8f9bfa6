"""What anchors should say about labelled boxes.

References
----------
Lang et al., PointPillars, arXiv:1812.05784, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from retrim.zoo.pointpillars.anchors import anchors, encode
from retrim.zoo.pointpillars.config import ROTATIONS, Config
from retrim.zoo.pointpillars.directions import half

IGNORED, BACKGROUND = -1, 0


@dataclass(frozen=True)
class Targets:
    """Targets of a batch.

    Attributes
    ----------
    labels : Tensor of int64, shape (scans, anchors)
        1, 2, … for the classes; 0 background; -1 does not count.
    positive : Tensor of int64, shape (n,)
        Anchors that took an object, as indices into the flattened `labels`.
    codes : Tensor, shape (n, 7)
        Boxes as differences from those anchors.
    directions : Tensor of int64, shape (n,)
        See `half`.
    """

    labels: torch.Tensor
    positive: torch.Tensor
    codes: torch.Tensor
    directions: torch.Tensor


def targets_of(boxes: list[np.ndarray], kinds: list[np.ndarray], config: Config) -> Targets:
    """Targets of scans with boxes (n, 7) of classes (n,)."""
    parts = [assign(*scan, config) for scan in zip(boxes, kinds, strict=True)]
    labels = np.stack([part[0] for part in parts])
    taken = np.concatenate([part[1] for part in parts])
    positive = np.nonzero(labels.ravel() > 0)[0]
    flat = anchors(config).reshape(-1, 7)
    codes = encode(taken, flat[positive % len(flat)].astype(np.float64))
    return Targets(
        labels=torch.from_numpy(labels),
        positive=torch.from_numpy(positive),
        codes=torch.from_numpy(codes.astype(np.float32)),
        directions=torch.from_numpy(half(taken[:, 6])),
    )


def assign(boxes: np.ndarray, kinds: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all anchors of a scan, and the boxes that the positive ones took.

    Returns
    -------
    labels : ndarray of int64, shape (anchors,)
    taken : ndarray, shape (positive, 7)
        In the order of the anchors.
    """
    grid = anchors(config)
    rows, columns, classes = grid.shape[:3]
    labels = np.zeros((rows, columns, classes, len(ROTATIONS)), dtype=np.int64)
    owner = np.zeros(labels.shape, dtype=np.int64)
    for kind, anchor in enumerate(config.anchors):
        own = np.nonzero((kinds == kind) & _within(boxes, config))[0]
        if not len(own):
            continue
        overlap = nearest_overlap(grid[:, :, kind].reshape(-1, 7), boxes[own])
        best = overlap.max(axis=1)
        mine = np.full(len(best), IGNORED)
        mine[best < anchor.unmatched] = BACKGROUND
        peak = overlap.max(axis=0)
        forced = ((overlap == peak) & (peak > 0)).any(axis=1)
        mine[forced | (best >= anchor.matched)] = kind + 1
        labels[:, :, kind] = mine.reshape(rows, columns, -1)
        owner[:, :, kind] = own[overlap.argmax(axis=1)].reshape(rows, columns, -1)
    flat = labels.ravel()
    return flat, boxes.reshape(-1, 7)[owner.ravel()[flat > 0]]


def nearest_overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union from above, boxes turned to the nearer axis; shape (n, m)."""
    low1, high1 = _extent(first)
    low2, high2 = _extent(second)
    common = np.ones((len(first), len(second)))
    for axis in (0, 1):
        width = np.minimum(high1[:, axis, None], high2[:, axis]) - np.maximum(
            low1[:, axis, None], low2[:, axis]
        )
        common *= np.maximum(width, 0)
    area1, area2 = ((high - low).prod(axis=1) for low, high in ((low1, high1), (low2, high2)))
    return np.asarray(common / (area1[:, None] + area2 - common))


def _extent(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner (n, 2) of boxes turned to the nearer axis."""
    boxes = boxes.astype(np.float64)
    across = np.abs(np.sin(boxes[:, 6])) > np.abs(np.cos(boxes[:, 6]))
    size = np.where(across[:, None], boxes[:, [4, 3]], boxes[:, [3, 4]])
    return boxes[:, :2] - size / 2, boxes[:, :2] + size / 2


def _within(boxes: np.ndarray, config: Config) -> np.ndarray:
    """Boxes with their centre in the range."""
    low, high = np.array(config.low), np.array(config.high)
    return np.asarray(((boxes[:, :3] >= low) & (boxes[:, :3] < high)).all(axis=1))
