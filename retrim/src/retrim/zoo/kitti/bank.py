"""Labelled objects of a data set, cut out to be put into other scans.

References
----------
Yan, Mao and Li, SECOND, Sensors 18 (2018) 3337, section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from retrim.zoo.kitti.boxes import inside
from retrim.zoo.kitti.frame import Frame
from retrim.zoo.kitti.overlap import intersections

LEAST_POINTS = 5

_TRIES = 3  # candidates drawn for every one wanted


@dataclass(frozen=True, eq=False)
class Bank:
    """Objects with their points.

    Attributes
    ----------
    boxes : ndarray, shape (n, 7)
    kinds : ndarray of int, shape (n,)
    points : list of ndarray, shape (k, 4)
        In the scanner's coordinates, where they were.
    """

    boxes: np.ndarray
    kinds: np.ndarray
    points: list[np.ndarray] = field(repr=False)

    @classmethod
    def of(cls, frames: Sequence[Frame], classes: tuple[str, ...]) -> Bank:
        """All objects of `frames` with at least five points."""
        boxes, kinds, points = [], [], []
        for frame in frames:
            scan = frame.points()
            frame_boxes, frame_kinds = frame.boxes(classes)
            for box, kind, within in zip(frame_boxes, frame_kinds, inside(scan, frame_boxes), strict=True):
                if within.sum() >= LEAST_POINTS:
                    boxes.append(box)
                    kinds.append(kind)
                    points.append(scan[within])
        return cls(np.array(boxes).reshape(-1, 7), np.array(kinds, dtype=np.int64), points)

    def filled(
        self,
        points: np.ndarray,
        boxes: np.ndarray,
        kinds: np.ndarray,
        wanted: int,
        generator: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A scan with objects put in until there are `wanted` of each class, or no place is found.

        Points of the scan inside the new boxes are taken out.
        """
        added: list[int] = []
        for kind in np.unique(self.kinds):
            missing = wanted - int(np.sum(kinds == kind))
            if missing <= 0:
                continue
            pool = np.nonzero(self.kinds == kind)[0]
            for candidate in generator.permutation(pool)[: _TRIES * missing]:
                present = np.concatenate((boxes, self.boxes[added]))
                if missing > 0 and _free(self.boxes[candidate], present):
                    added.append(int(candidate))
                    missing -= 1
        if not added:
            return points, boxes, kinds
        points = points[~inside(points, self.boxes[added]).any(axis=0)]
        return (
            np.concatenate([points, *(self.points[index] for index in added)]),
            np.concatenate((boxes, self.boxes[added])),
            np.concatenate((kinds, self.kinds[added])),
        )


def _free(box: np.ndarray, present: np.ndarray) -> bool:
    columns = [0, 1, 3, 4, 6]
    return not intersections(box[None, columns], present[:, columns]).any()
