"""GLUE's metrics, in percent.

Where a metric is 0 / 0 it is 0 here.  For F1 and Matthews' correlation that is what
scikit-learn gives, and GLUE's tools with it; for Pearson's and Spearman's
correlation SciPy gives NaN, and here as well it is 0: a constant tells nothing.

References
----------
Wang et al., GLUE, arXiv:1804.07461, table 1 (which) and section 3.4 (their mean).
Matthews, Biochim. Biophys. Acta 405, 442 (1975), doi:10.1016/0005-2795(75)90109-9.
"""

from __future__ import annotations

import math

import numpy as np

from retrim.errors import DataError
from retrim.zoo.glue.tasks import GlueTask


def score(task: GlueTask, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics of a task.

    Parameters
    ----------
    task : GlueTask
    outputs : ndarray, shape (n, task.outputs)
        What the network gives: a number for each class (the largest wins, the first of equal ones), or the
        predicted score of STS-B.
    labels : ndarray, shape (n,)

    Returns
    -------
    dict
        In percent: "score", the unweighted mean of the task's metrics, and each of them by its name.

    Raises
    ------
    DataError
        If shapes do not fit, there are no examples, or numbers are not finite.
    """
    outputs, labels = np.asarray(outputs), np.asarray(labels)
    if outputs.shape != (len(labels), task.outputs):
        raise DataError(
            f"outputs for {task.folder} must have the shape ({len(labels)}, {task.outputs}), not {outputs.shape}"
        )
    if not np.isfinite(outputs).all():
        raise DataError("outputs must be finite, but are not: the network diverged")
    predicted = outputs[:, 0] if task.regression else outputs.argmax(1)
    each = {name: METRICS[name](predicted, labels) for name in task.metrics}
    return {"score": sum(each.values()) / len(each), **each}


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Right predictions of all, in percent."""
    predicted, labels = _check(predicted, labels)
    return float(100 * (predicted == labels).mean())


def f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Harmonic mean of precision and recall of class 1, in percent; 0 where nothing of it is found or labelled."""
    right, wrong, missed, _ = _confusion(predicted, labels)
    return 100 * 2 * right / (2 * right + wrong + missed) if right else 0.0


def matthews(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation of two classes, from -100 to 100; 0 where all predictions or all labels are of one."""
    right, wrong, missed, rest = _confusion(predicted, labels)
    product = (right + wrong) * (right + missed) * (rest + wrong) * (rest + missed)
    return 100 * (right * rest - wrong * missed) / math.sqrt(product) if product else 0.0


def pearson(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's linear correlation, from -100 to 100; 0 where either is constant."""
    predicted, labels = _check(predicted, labels)
    return 100 * _correlation(predicted, labels)


def spearman(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's correlation of the ranks, from -100 to 100; equal numbers share their mean rank."""
    predicted, labels = _check(predicted, labels)
    return 100 * _correlation(ranks(predicted), ranks(labels))


METRICS = {"accuracy": accuracy, "f1": f1, "matthews": matthews, "pearson": pearson, "spearman": spearman}
"""By the names that tasks call them."""


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 to n in rising order, float64; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[which])


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    scaled = []
    for values in (first.astype(np.float64), second.astype(np.float64)):
        if values.min() == values.max():
            return 0.0
        apart = values - values.mean()
        apart /= np.abs(apart).max()  # squares neither overflow nor vanish
        scaled.append(apart / math.sqrt(float(apart @ apart)))
    return min(1.0, max(-1.0, float(scaled[0] @ scaled[1])))


def _confusion(predicted: np.ndarray, labels: np.ndarray) -> tuple[int, int, int, int]:
    """Numbers of true and false positives, false and true negatives; class 1 is positive."""
    predicted, labels = _check(predicted, labels)
    if not (np.isin(predicted, (0, 1)).all() and np.isin(labels, (0, 1)).all()):
        raise DataError("classes must be 0 or 1 for this metric, but there are others")
    yes, true = predicted == 1, labels == 1
    right, wrong, missed = int((yes & true).sum()), int((yes & ~true).sum()), int((~yes & true).sum())
    return right, wrong, missed, len(labels) - right - wrong - missed


def _check(predicted: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if labels.ndim != 1 or predicted.shape != labels.shape or not len(labels):
        raise DataError(
            f"predictions must be one for each label, at least one, not of shape {predicted.shape} for {labels.shape}"
        )
    if not (np.isfinite(predicted).all() and np.isfinite(labels).all()):
        raise DataError("predictions and labels must be finite, but are not: the network diverged")
    return predicted, labels
