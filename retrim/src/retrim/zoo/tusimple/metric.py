"""TuSimple's accuracy, false positives and false negatives.

References
----------
TuSimple/tusimple-benchmark, doc/lane_detection, "Evaluation", and evaluate/lane.py
for what the text leaves open: the threshold grows with the lane's angle, the
worst of five lanes is not counted, absent columns are compared as -100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrim.errors import DataError

NEAR_PX = 20.0
"""Largest distance of a right point on a vertical lane, in pixels."""
MATCHED = 0.85
"""Right points of a lane that is found, of its rows."""
COUNTED = 4
"""Lanes that are asked for; a fifth may be labelled where the car changes lanes."""
_SPARE = 2  # lanes too many before an image is worth nothing
_NOWHERE = -100.0


@dataclass(frozen=True)
class Score:
    """Of one image, or the mean of many; all at most 1.

    False positives may be negative, as the benchmark's are, where one predicted
    lane is the best for two labelled ones.
    """

    accuracy: float
    false_positives: float
    false_negatives: float


def score_frame(predicted: np.ndarray, truth: np.ndarray, rows: np.ndarray) -> Score:
    """Score the lanes of one image.

    Parameters
    ----------
    predicted : ndarray, shape (predicted lanes, rows)
        Columns in pixels; negative where a lane is absent.
    truth : ndarray, shape (lanes, rows)
    rows : ndarray, shape (rows,)

    Raises
    ------
    DataError
        If a lane has not one column for each row.
    """
    rows = np.asarray(rows, dtype=np.float64)
    predicted, truth = _check(predicted, rows, "predicted"), _check(truth, rows, "labelled")
    if len(predicted) > len(truth) + _SPARE:
        return Score(0.0, 0.0, 1.0)
    best = _best(predicted, truth, rows)
    found = int((best >= MATCHED).sum())
    missed = len(truth) - found
    total = float(best.sum())
    if len(truth) > COUNTED:
        total -= float(best.min())
        missed = max(0, missed - 1)
    counted = max(1, min(COUNTED, len(truth)))
    wrong = (len(predicted) - found) / len(predicted) if len(predicted) else 0.0
    return Score(total / counted, wrong, missed / counted)


def mean_score(scores: Sequence[Score]) -> Score:
    """Mean over images, as the benchmark reports it."""
    if not scores:
        raise DataError("scores must be those of at least one image, not of none")
    count = len(scores)
    return Score(
        sum(score.accuracy for score in scores) / count,
        sum(score.false_positives for score in scores) / count,
        sum(score.false_negatives for score in scores) / count,
    )


def thresholds(truth: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Largest distance of a right point for each lane, 20 / cos(angle), in pixels.

    The angle is that of the least-squares line through the lane's points, from
    the vertical; 0 for a lane of one point.
    """
    there = truth >= 0
    count = np.maximum(there.sum(1, keepdims=True), 1)
    y = np.where(there, rows - (there * rows).sum(1, keepdims=True) / count, 0.0)
    spread = (y * y).sum(1)
    slope = (y * np.where(there, truth, 0.0)).sum(1) / np.where(spread > 0, spread, 1.0)
    return np.asarray(NEAR_PX * np.sqrt(1 + slope * slope))


def _best(predicted: np.ndarray, truth: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Right points over rows that each labelled lane gets from its best prediction, shape (lanes,)."""
    if not len(predicted) or not len(truth):
        return np.zeros(len(truth))
    first = np.where(truth >= 0, truth, _NOWHERE)[:, None]
    second = np.where(predicted >= 0, predicted, _NOWHERE)[None]
    right = np.abs(first - second) < thresholds(truth, rows)[:, None, None]
    return np.asarray(right.mean(2).max(1))


def _check(lanes: np.ndarray, rows: np.ndarray, whose: str) -> np.ndarray:
    lanes = np.asarray(lanes, dtype=np.float64)
    if lanes.size == 0:
        return np.zeros((0, len(rows)))
    if lanes.ndim != 2 or lanes.shape[1] != len(rows):
        raise DataError(
            f"{whose} lanes must have the shape (lanes, {len(rows)}), one column for each row, not {lanes.shape}"
        )
    return lanes
