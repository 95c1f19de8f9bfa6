"""Which lane is which, how lanes move with the image, and the labels they give.

References
----------
arXiv:2004.11757, section 3.3 (lanes are continued to the image's edge); the
order of lanes is CULane's, arXiv:1712.06080: 1 and 2 left of the car, 3 and 4
right of it.
"""

from __future__ import annotations

import numpy as np

from retrim.zoo.tusimple import ABSENT, Frame

Polyline = np.ndarray
"""Points (x, y) in pixels of the image, shape (points, 2), y increasing; empty where there is no lane."""

_SHORTEST = 90 / 1280  # of the image's width, end to end
_CONTINUED = 6  # points that a lane must have to be continued


def ordered(frame: Frame, size: tuple[int, int], lanes: int) -> list[Polyline]:
    """The frame's lanes in their slots, from left to right.

    A lane is left or right by where it meets the bottom of the image.
    Lanes without a slot (too short, too far out) are left out.

    Parameters
    ----------
    size : (width, height)
    lanes : int
        Slots, half of them on each side.
    """
    width, height = size
    found = []
    for columns in frame.lanes:
        there = columns >= 0
        points = np.stack([columns[there], frame.rows[there]], 1)
        if len(points) >= 2 and np.linalg.norm(points[-1] - points[0]) >= _SHORTEST * width:
            found.append((_meets(points, height), points))
    found.sort(key=lambda entry: entry[0])
    half = lanes // 2
    left = [points for x, points in found if x < width / 2][-half:]
    right = [points for x, points in found if x >= width / 2][:half]
    none = np.zeros((0, 2))
    return [none] * (half - len(left)) + left + right + [none] * (half - len(right))


def _meets(points: Polyline, y: float) -> float:
    """Where the lane's lower half, continued, is at `y`."""
    slope, start = _line(points[len(points) // 2 :] if len(points) > 3 else points)
    return slope * y + start


def _line(points: Polyline) -> tuple[float, float]:
    """Least-squares x = slope y + start."""
    x, y = points[:, 0], points[:, 1]
    spread = y - y.mean()
    slope = float((spread * x).sum() / max(float((spread * spread).sum()), 1e-9))
    return slope, float(x.mean() - slope * y.mean())


def moved(points: Polyline, matrix: np.ndarray) -> Polyline:
    """Points after an affine map (2 x 3) of pixel centres, y increasing again."""
    if not len(points):
        return points
    there = (points + 0.5) @ matrix[:, :2].T + matrix[:, 2] - 0.5
    return np.asarray(there[np.argsort(there[:, 1], kind="stable")])


def sampled(points: Polyline, rows: np.ndarray, width: int) -> np.ndarray:
    """Column at each row, shape (rows,); `ABSENT` beyond the lane's ends and the image."""
    if len(points) < 2:
        return np.full(len(rows), ABSENT)
    x = np.interp(rows, points[:, 1], points[:, 0])
    inside = (rows >= points[0, 1] - 0.5) & (rows <= points[-1, 1] + 0.5) & (x >= 0) & (x <= width - 1)
    return np.where(inside, x, ABSENT)


def continued(columns: np.ndarray, rows: np.ndarray, width: int) -> np.ndarray:
    """A lane continued below its last point, in a straight line, as far as the image goes.

    The line is fitted to the lower half of its points; a lane of fewer than six is left alone.
    """
    there = np.flatnonzero(columns >= 0)
    if len(there) < _CONTINUED or there[-1] == len(rows) - 1:
        return columns
    lower = there[len(there) // 2 :]
    slope, start = _line(np.stack([columns[lower], rows[lower]], 1))
    below = np.arange(len(rows)) > there[-1]
    x = slope * rows + start
    return np.where(below & (x >= 0) & (x <= width - 1), x, columns)


def labels(columns: np.ndarray, width: int, cells: int) -> np.ndarray:
    """Cell of each column, `cells` where there is no lane.

    Parameters
    ----------
    columns : ndarray, shape (lanes, anchors)

    Returns
    -------
    ndarray of int64, shape (anchors, lanes)
    """
    cell = np.floor(columns * ((cells - 1) / width)).astype(np.int64)
    return np.where(columns >= 0, np.minimum(cell, cells - 1), cells).T
