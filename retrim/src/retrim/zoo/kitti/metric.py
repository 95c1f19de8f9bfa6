"""KITTI's average precision at 40 recall points, in space, from above and in the image.

References
----------
Geiger, Lenz and Urtasun, Are we ready for autonomous driving?, CVPR 2012: the
rules, as the benchmark's program applies them.
Simonelli et al., Disentangling monocular 3D object detection, arXiv:1905.12365,
section 6: 40 recall points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retrim.errors import DataError
from retrim.zoo.kitti.objects import DONT_CARE, Objects
from retrim.zoo.kitti.overlap import bev_overlap, overlap_3d

Kind = Literal["3d", "bev", "image"]
Difficulty = Literal["easy", "moderate", "hard"]

KINDS: tuple[Kind, ...] = ("3d", "bev", "image")
DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "moderate", "hard")

RECALL_POINTS = 40

_LEAST_OVERLAP = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
_NEIGHBOURS = {"Car": ("Van",), "Pedestrian": ("Person_sitting",), "Cyclist": ()}
_LEAST_HEIGHT = {"easy": 40, "moderate": 25, "hard": 25}
_MOST_OCCLUSION = {"easy": 0, "moderate": 1, "hard": 2}
_MOST_TRUNCATION = {"easy": 0.15, "moderate": 0.3, "hard": 0.5}

CLASSES = tuple(_LEAST_OVERLAP)
"""The classes that KITTI has an average precision for."""

_ABSENT, _COUNTED, _IGNORED = -1, 0, 1


@dataclass(frozen=True, eq=False)
class _Scene:
    """A frame as one class and difficulty see it; labels and detections of no concern are left out."""

    overlaps: np.ndarray  # detections x labels
    labels_ignored: np.ndarray
    detections_ignored: np.ndarray
    scores: np.ndarray
    excused: np.ndarray  # detections that lie in a DontCare rectangle


def average_precision(
    labels: Sequence[Objects],
    detections: Sequence[Objects],
    name: str,
    kind: Kind = "3d",
    difficulty: Difficulty = "moderate",
) -> float:
    """Average precision of one class.

    Parameters
    ----------
    labels, detections : sequence of Objects
        Of the same frames, in the same order.
    name : {"Car", "Pedestrian", "Cyclist"}
    kind : {"3d", "bev", "image"}
    difficulty : {"easy", "moderate", "hard"}

    Returns
    -------
    float
        In percent; NaN where not one label counts.
    """
    if len(labels) != len(detections):
        raise DataError(
            f"detections must be of the {len(labels)} frames that are labelled, not of {len(detections)}"
        )
    scenes = [_scene(*pair, name, kind, difficulty) for pair in zip(labels, detections, strict=True)]
    counted = sum(int(np.sum(scene.labels_ignored == _COUNTED)) for scene in scenes)
    if counted == 0:
        return float("nan")
    least = _LEAST_OVERLAP[name]
    right = np.concatenate([_right_scores(scene, least) for scene in scenes])
    thresholds = recall_thresholds(right, counted)
    hits = np.zeros(len(thresholds))
    alarms = np.zeros(len(thresholds))
    for scene in scenes:
        scene_hits, scene_alarms = _counts(scene, thresholds, least)
        hits += scene_hits
        alarms += scene_alarms
    precision = np.zeros(RECALL_POINTS + 1)
    precision[: len(thresholds)] = hits / np.maximum(hits + alarms, 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(100 * best[1:].mean())


def recall_thresholds(scores: np.ndarray, counted: int) -> np.ndarray:
    """Scores at which recall is nearest to 0, 1/40, …, 1, falling.

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Of right detections.
    counted : int
        Labels that count.
    """
    falling = np.sort(scores)[::-1]
    thresholds: list[float] = []
    wanted = 0.0
    for index, score in enumerate(falling):
        last = index == len(falling) - 1
        recall, following = (index + 1) / counted, (index + 2) / counted
        if not last and following - wanted < wanted - recall:
            continue
        thresholds.append(float(score))
        wanted += 1 / RECALL_POINTS
    return np.array(thresholds)


def _scene(labels: Objects, detections: Objects, name: str, kind: Kind, difficulty: Difficulty) -> _Scene:
    height = labels.rectangles[:, 3] - labels.rectangles[:, 1]
    beyond = (
        (labels.occlusion > _MOST_OCCLUSION[difficulty])
        | (labels.truncation > _MOST_TRUNCATION[difficulty])
        | (height <= _LEAST_HEIGHT[difficulty])
    )
    own, near = labels.names == name, np.isin(labels.names, _NEIGHBOURS[name])
    ignored = np.where(own & ~beyond, _COUNTED, np.where(own | near, _IGNORED, _ABSENT))
    # The benchmark's program cuts heights of detections to whole pixels, and
    # lets low ones of any class be taken by an object without counting.
    found_height = np.floor(np.abs(detections.rectangles[:, 3] - detections.rectangles[:, 1]))
    low = found_height < _LEAST_HEIGHT[difficulty]
    found = np.where(low, _IGNORED, np.where(detections.names == name, _COUNTED, _ABSENT))
    areas = labels.take(labels.names == DONT_CARE)
    labels, ignored = labels.take(ignored != _ABSENT), ignored[ignored != _ABSENT]
    detections, found = detections.take(found != _ABSENT), found[found != _ABSENT]
    excused = np.zeros(len(detections), dtype=bool)
    if kind == "image" and len(areas):
        share = _image_overlap(detections.rectangles, areas.rectangles, of_union=False)
        excused = np.any(share > _LEAST_OVERLAP[name], axis=1)
    return _Scene(_overlap(detections, labels, kind), ignored, found, detections.scores, excused)


def _overlap(detections: Objects, labels: Objects, kind: Kind) -> np.ndarray:
    if kind == "image":
        return _image_overlap(detections.rectangles, labels.rectangles, of_union=True)
    boxes = [_upright(objects) for objects in (detections, labels)]
    if kind == "3d":
        return overlap_3d(*boxes)
    return bev_overlap(*(each[:, [0, 1, 3, 4, 6]] for each in boxes))


def _upright(objects: Objects) -> np.ndarray:
    """Boxes (n, 7) in axes of the camera, but with y up and z to the left hand of x, as `overlap` takes them."""
    height, width, length = objects.sizes.T
    x, y, z = objects.locations.T
    return np.column_stack((x, z, height / 2 - y, length, width, height, -objects.rotations))


def _image_overlap(first: np.ndarray, second: np.ndarray, *, of_union: bool) -> np.ndarray:
    """Common area over the union's, or over that of the first; shape (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=2)
    whole = (first[:, 2:] - first[:, :2]).prod(axis=1)[:, None]
    if of_union:
        whole = whole + (second[:, 2:] - second[:, :2]).prod(axis=1)[None, :] - common
    return np.asarray(common / np.where(whole > 0, whole, 1))


def _right_scores(scene: _Scene, least: float) -> np.ndarray:
    """Scores of detections that labels take when each takes the best scored one."""
    free = np.ones(len(scene.scores), dtype=bool)
    right = []
    for label, ignored in enumerate(scene.labels_ignored):
        candidates = np.nonzero(free & (scene.overlaps[:, label] > least))[0]
        if not len(candidates):
            continue
        taken = candidates[np.argmax(scene.scores[candidates])]
        free[taken] = False
        if ignored == _COUNTED and scene.detections_ignored[taken] == _COUNTED:
            right.append(scene.scores[taken])
    return np.array(right, dtype=np.float64)


def _counts(scene: _Scene, thresholds: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Hits and false alarms at every threshold when labels take what overlaps them most."""
    hits = np.zeros(len(thresholds))
    regular = scene.detections_ignored == _COUNTED
    above = scene.scores[None, :] >= thresholds[:, None]
    free = above.copy()
    if not len(scene.scores):
        return hits, hits
    every = np.arange(len(thresholds))
    for label, ignored in enumerate(scene.labels_ignored):
        near = scene.overlaps[:, label] > least
        # A regular detection before an ignored one; among the ignored the first.
        rank = np.where(regular, 1 + scene.overlaps[:, label], 0.5)
        best = np.argmax(np.where(free & near, rank, 0), axis=1)
        taken = (free & near)[every, best]
        free[every[taken], best[taken]] = False
        if ignored == _COUNTED:
            hits += taken & regular[best]
    alarms = (free & regular & ~scene.excused).sum(axis=1)
    return hits, alarms.astype(np.float64)
