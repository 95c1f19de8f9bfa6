"""COCO's average precision of boxes, by the benchmark's own program.

References
----------
Lin et al., Microsoft COCO, arXiv:1405.0312; cocodataset.org, "Detection evaluation".
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrim.errors import DataError, MissingExtraError
from retrim.zoo.coco.instances import Instances

MOST_DETECTIONS = 100
"""Of a class in an image that are counted, those of the highest scores."""

_ANY_SIZE = [0.0, 1e10]  # square pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """What was found in one image.

    Attributes
    ----------
    boxes : ndarray, shape (n, 4)
        Left, top, right, bottom in pixels of the image.
    scores : ndarray, shape (n,)
    labels : ndarray of int, shape (n,)

    Raises
    ------
    DataError
        If lengths differ, numbers are not finite, or labels are no whole numbers.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if np.ndim(self.boxes) != 2 or np.shape(self.boxes)[1] != 4:
            raise DataError(f"boxes must have the shape (n, 4), not {np.shape(self.boxes)}")
        for name in ("scores", "labels"):
            if np.shape(getattr(self, name)) != (len(self.boxes),):
                raise DataError(
                    f"{name} must be one for each of the {len(self.boxes)} boxes, not of shape "
                    f"{np.shape(getattr(self, name))}"
                )
        if np.asarray(self.labels).dtype.kind not in "iu":
            raise DataError(f"labels must be whole numbers, not of type {np.asarray(self.labels).dtype}")
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise DataError("boxes and scores must be finite, but are not: the network diverged")

    def __len__(self) -> int:
        return len(self.boxes)


def average_precision(truths: Sequence[Instances], detections: Sequence[Detections]) -> dict[str, float]:
    """Average precision, mean over the classes that occur in `truths`.

    Parameters
    ----------
    truths, detections : sequence
        Of the same images, in the same order.

    Returns
    -------
    dict
        In percent: "AP" (mean over overlaps 0.50, 0.55, …, 0.95), "AP50", "AP75";
        NaN where no object counts.

    Raises
    ------
    DataError
        If they are not of as many images.
    MissingExtraError
        If pycocotools is not installed.
    """
    if len(truths) != len(detections):
        raise DataError(
            f"detections must be of the {len(truths)} images that are labelled, not of {len(detections)}"
        )
    classes = sorted({int(label) for truth in truths for label in truth.labels})
    if not classes:
        return dict.fromkeys(("AP", "AP50", "AP75"), float("nan"))
    precision = _precision(truths, detections, classes)
    return {
        "AP": _percent(precision),
        "AP50": _percent(precision[0]),
        "AP75": _percent(precision[5]),
    }


def _precision(
    truths: Sequence[Instances], detections: Sequence[Detections], classes: list[int]
) -> np.ndarray:
    """Precision at 10 overlaps and 101 recalls for each class, shape (10, 101, classes); -1 where none counts."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingExtraError("COCO's metric needs pycocotools: pip install 'retrim[zoo]'") from None
    images, categories = [{"id": i} for i in range(len(truths))], [{"id": c} for c in classes]
    program_prints = io.StringIO()
    with contextlib.redirect_stdout(program_prints):
        indexed = []
        for annotations in (_truth_entries(truths), _found_entries(detections, set(classes))):
            store = COCO()
            store.dataset = {"images": images, "categories": categories, "annotations": annotations}
            store.createIndex()
            indexed.append(store)
        evaluation = COCOeval(*indexed, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [_ANY_SIZE], ["all"]
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"][..., 0, 0])


def _truth_entries(truths: Sequence[Instances]) -> list[dict[str, Any]]:
    """Labelled objects as the program takes them; ids begin at 1, as 0 is no match to it."""
    entries: list[dict[str, Any]] = []
    for image, truth in enumerate(truths):
        for box, label, crowd, area in zip(truth.boxes, truth.labels, truth.crowd, truth.area, strict=True):
            entry = _entry(len(entries) + 1, image, box, label)
            entries.append({**entry, "iscrowd": int(crowd), "area": float(area)})
    return entries


def _found_entries(detections: Sequence[Detections], classes: set[int]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for image, found in enumerate(detections):
        for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
            if int(label) in classes:
                entry = _entry(len(entries) + 1, image, box, label)
                entries.append({**entry, "score": float(score)})
    return entries


def _entry(identity: int, image: int, box: np.ndarray, label: Any) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in box)
    width, height = max(right - left, 0.0), max(bottom - top, 0.0)
    return {
        "id": identity,
        "image_id": image,
        "category_id": int(label),
        "bbox": [left, top, width, height],
        "area": width * height,
    }


def _percent(precision: np.ndarray) -> float:
    """Mean over overlaps, recalls and classes that have objects."""
    counted = precision[precision > -1]
    return float(100 * counted.mean()) if counted.size else float("nan")
