"""From logits to lanes in pixels.

References
----------
arXiv:2004.11757, equation 7 (expectation); where "no lane" is likeliest, there
is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from retrim.zoo.tusimple import ABSENT, Frame
from retrim.zoo.ultrafast.config import Config
from retrim.zoo.ultrafast.loss import expectation

FEWEST = 3
"""A lane of fewer points is none."""


def columns(logits: torch.Tensor, width: float) -> np.ndarray:
    """Column of each lane at each anchor, in pixels of an image `width` wide.

    Parameters
    ----------
    logits : Tensor, shape (n, cells + 1, anchors, lanes)

    Returns
    -------
    ndarray of float, shape (n, lanes, anchors)
        `ABSENT` where there is no lane.
    """
    cells = logits.shape[1] - 1
    x = (expectation(logits.double()) + 0.5) * (width / (cells - 1))
    x = x.clamp(max=width - 1)  # the last cell reaches beyond the image
    x = torch.where(logits.argmax(1) == cells, ABSENT, x)
    return x.transpose(1, 2).numpy()


def at_rows(lanes: np.ndarray, anchors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Lanes known at `anchors` at other rows, linearly between neighbours that are both there.

    Parameters
    ----------
    lanes : ndarray, shape (lanes, anchors)
    anchors, rows : ndarray, shape (anchors,) and (rows,)
        Increasing, in the same unit.

    Returns
    -------
    ndarray, shape (lanes, rows)
    """
    before = np.clip(np.searchsorted(anchors, rows, side="right") - 1, 0, len(anchors) - 2)
    part = (rows - anchors[before]) / (anchors[before + 1] - anchors[before])
    part = np.where(np.abs(part - np.round(part)) < 1e-6, np.round(part), part)
    first, second = lanes[:, before], lanes[:, before + 1]
    there = ((first >= 0) | (part == 1)) & ((second >= 0) | (part == 0)) & (part >= 0) & (part <= 1)
    # Where only one neighbour is used, the other's mark for "absent" has no weight.
    return np.where(there, first * (1 - part) + second * part, ABSENT)


def decode(
    logits: torch.Tensor, config: Config, frames: Sequence[Frame], sizes: Sequence[tuple[int, int]]
) -> list[np.ndarray]:
    """Lanes of each image at the rows of its label.

    Parameters
    ----------
    logits : Tensor, shape (n, cells + 1, anchors, lanes)
    frames : sequence of n Frame
        Only their rows are used.
    sizes : sequence of n (width, height)
        Of the images, in pixels.

    Returns
    -------
    list of ndarray, shape (lanes found, rows)
    """
    shares = columns(logits.detach().cpu(), 1.0 * _UNIT)
    anchors = np.array(config.anchors)
    found = []
    for frame, (width, height), lanes in zip(frames, sizes, shares, strict=True):
        scaled = np.where(lanes >= 0, lanes * (width / _UNIT), ABSENT)
        taken = at_rows(scaled, anchors * height, frame.rows)
        found.append(taken[(taken >= 0).sum(1) >= FEWEST])
    return found


_UNIT = 4096.0  # one width for all, so that the expectation is taken once
