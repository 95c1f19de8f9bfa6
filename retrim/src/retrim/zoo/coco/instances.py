"""The labelled objects of one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrim.errors import DataError

OUTSIDE_PX = 1.0
"""How far a labelled box may reach out of its image, in pixels; it is cut there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Instances:
    """Boxes of one image.

    Attributes
    ----------
    boxes : ndarray of float32, shape (n, 4)
        Left, top, right, bottom in pixels of the image; pixel i reaches from i to i + 1.
    labels : ndarray of int64, shape (n,)
        Classes, counted from 0.
    crowd : ndarray of bool, shape (n,)
        Boxes of a group that was not labelled one by one: to be passed over in training.
    area : ndarray of float32, shape (n,)
        Pixels of the object, as labelled; those of the box where no outline is known.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    area: np.ndarray

    @classmethod
    def of(
        cls,
        boxes: np.ndarray,
        labels: np.ndarray,
        crowd: np.ndarray | None = None,
        area: np.ndarray | None = None,
    ) -> Instances:
        """Instances of boxes (n, 4) and labels (n,), by default no crowds and as large as their boxes.

        Raises
        ------
        DataError
            If lengths differ, or a box is not finite, or has no size.
        """
        boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        if not (np.isfinite(boxes).all() and (sides > 0).all()):
            raise DataError(
                "boxes must be finite, with right > left and bottom > top: drop those that are not"
            )
        columns = {
            "labels": np.asarray(labels, dtype=np.int64).reshape(-1),
            "crowd": np.zeros(len(boxes), dtype=bool) if crowd is None else np.asarray(crowd, dtype=bool),
            "area": sides.prod(axis=1) if area is None else np.asarray(area, dtype=np.float32),
        }
        for name, column in columns.items():
            if len(column) != len(boxes):
                raise DataError(f"{name} must be one for each of the {len(boxes)} boxes, not {len(column)}")
        return cls(boxes=boxes, **columns)

    @classmethod
    def none(cls) -> Instances:
        """Those of an image without objects."""
        return cls.of(np.zeros((0, 4)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, chosen: np.ndarray) -> Instances:
        """Some of them: `chosen` is a mask, or indices."""
        return Instances(
            boxes=self.boxes[chosen],
            labels=self.labels[chosen],
            crowd=self.crowd[chosen],
            area=self.area[chosen],
        )

    def single(self) -> Instances:
        """Without crowds: what a network is trained on."""
        return self.take(~self.crowd)


def joined(parts: list[Instances]) -> Instances:
    """All instances of several lists, in order."""
    if not parts:
        return Instances.none()
    return Instances(
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        crowd=np.concatenate([part.crowd for part in parts]),
        area=np.concatenate([part.area for part in parts]),
    )


def clipped(
    box: tuple[float, float, float, float], size: tuple[int, int], place: str
) -> tuple[float, float, float, float]:
    """A labelled box (left, top, right, bottom) cut to an image of `size` (width, height).

    Raises
    ------
    DataError
        If it reaches out by more than `OUTSIDE_PX`, or nothing of it is left; begins with `place`.
    """
    width, height = size
    left, top, right, bottom = box
    if max(-left, -top, right - width, bottom - height) > OUTSIDE_PX:
        raise DataError(
            f"{place} must hold a box inside its image of {width} x {height} pixels, not one from "
            f"({left:.1f}, {top:.1f}) to ({right:.1f}, {bottom:.1f}): correct or drop it"
        )
    cut = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    if not (np.float32(cut[0]) < np.float32(cut[2]) and np.float32(cut[1]) < np.float32(cut[3])):
        raise DataError(f"{place} must hold a box that covers some of its image, not none of it: drop it")
    return cut
