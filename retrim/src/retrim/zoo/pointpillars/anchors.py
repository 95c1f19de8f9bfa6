"""Anchors on the head's map, and boxes written as differences from them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from retrim.zoo.pointpillars.config import ROTATIONS, Config


@lru_cache(maxsize=4)
def anchors(config: Config) -> np.ndarray:
    """All anchors.

    Returns
    -------
    ndarray of float32, shape (rows, columns, classes, 2, 7), not to be written to
        The first and the last lie on the edges of the range, as public weights expect.
    """
    rows, columns = config.map
    x = np.linspace(config.low[0], config.high[0], columns)
    y = np.linspace(config.low[1], config.high[1], rows)
    made = np.empty((rows, columns, len(config.anchors), len(ROTATIONS), 7), dtype=np.float32)
    made[..., 0] = x[None, :, None, None]
    made[..., 1] = y[:, None, None, None]
    for index, anchor in enumerate(config.anchors):
        made[:, :, index, :, 2] = anchor.bottom + anchor.size[2] / 2
        made[:, :, index, :, 3:6] = anchor.size
    made[..., 6] = ROTATIONS
    made.setflags(write=False)
    return made


def encode(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Boxes as differences from anchors, both (n, 7)."""
    diagonal = np.hypot(anchors[:, 3], anchors[:, 4])[:, None]
    return np.concatenate(
        (
            (boxes[:, :2] - anchors[:, :2]) / diagonal,
            (boxes[:, 2:3] - anchors[:, 2:3]) / anchors[:, 5:6],
            np.log(boxes[:, 3:6] / anchors[:, 3:6]),
            boxes[:, 6:] - anchors[:, 6:],
        ),
        axis=1,
    )


def decode(codes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Undo `encode`."""
    diagonal = np.hypot(anchors[:, 3], anchors[:, 4])[:, None]
    return np.concatenate(
        (
            codes[:, :2] * diagonal + anchors[:, :2],
            codes[:, 2:3] * anchors[:, 5:6] + anchors[:, 2:3],
            np.exp(codes[:, 3:6]) * anchors[:, 3:6],
            codes[:, 6:] + anchors[:, 6:],
        ),
        axis=1,
    )
