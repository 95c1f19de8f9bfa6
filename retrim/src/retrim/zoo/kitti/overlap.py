"""How much boxes overlap, whatever way they are turned.

References
----------
Sutherland and Hodgman, Reentrant polygon clipping, Communications of the ACM
17 (1974); here all pairs at once.
"""

from __future__ import annotations

import numpy as np

_SIGNS = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])  # counter-clockwise


def bev_overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union from above, of all pairs.

    Parameters
    ----------
    first, second : ndarray, shape (n, 5) and (m, 5)
        x, y, length, width, yaw.

    Returns
    -------
    ndarray, shape (n, m)
    """
    common = intersections(first, second)
    union = _areas(first)[:, None] + _areas(second)[None, :] - common
    return _ratio(common, union)


def overlap_3d(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union in space, of all pairs of boxes (n, 7) and (m, 7); shape (n, m)."""
    top = np.minimum(*_paired(first[:, 2] + first[:, 5] / 2, second[:, 2] + second[:, 5] / 2))
    bottom = np.maximum(*_paired(first[:, 2] - first[:, 5] / 2, second[:, 2] - second[:, 5] / 2))
    common = intersections(first[:, [0, 1, 3, 4, 6]], second[:, [0, 1, 3, 4, 6]]) * np.maximum(
        top - bottom, 0
    )
    volumes = [boxes[:, 3:6].prod(axis=1) for boxes in (first, second)]
    return _ratio(common, volumes[0][:, None] + volumes[1][None, :] - common)


def intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Common area of all pairs of rectangles x, y, length, width, yaw; shape (n, m)."""
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    area = np.zeros((len(first), len(second)))
    reach = [np.hypot(boxes[:, 2], boxes[:, 3]) / 2 for boxes in (first, second)]
    gap = np.hypot(first[:, None, 0] - second[None, :, 0], first[:, None, 1] - second[None, :, 1])
    near = np.nonzero(gap < reach[0][:, None] + reach[1][None, :])
    if len(near[0]):
        area[near] = _common(first[near[0]], second[near[1]])
    return area


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Common area of pair after pair, shape (n,)."""
    corners = _SIGNS * first[:, None, 2:4] / 2
    turned = _turned(corners, first[:, 4] - second[:, 4])
    offset = _turned(first[:, None, :2] - second[:, None, :2], -second[:, 4])
    polygon = turned + offset  # where the second rectangle lies along the axes, about 0
    for axis in (0, 1):
        for sign in (1, -1):
            polygon = _clipped(polygon, axis, sign, second[:, 2 + axis, None] / 2)
    x, y = polygon[..., 0], polygon[..., 1]
    shoelace = x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)
    return np.asarray(np.maximum(shoelace.sum(axis=1) / 2, 0))


def _turned(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = points[..., 0], points[..., 1]
    return np.stack((cos * x - sin * y, sin * x + cos * y), axis=-1)


def _clipped(polygon: np.ndarray, axis: int, sign: int, limit: np.ndarray) -> np.ndarray:
    """What of convex polygons (n, k, 2) has sign * coordinate <= limit, shape (n, k + 1, 2).

    Places left over repeat the last corner, which adds no area; a polygon of
    which nothing is left shrinks to a point.
    """
    count = polygon.shape[1]
    excess = sign * polygon[..., axis] - limit
    after = np.roll(polygon, -1, axis=1)
    excess_after = np.roll(excess, -1, axis=1)
    within = excess <= 0
    crosses = within != (excess_after <= 0)
    share = excess / np.where(crosses, excess - excess_after, 1)
    crossing = polygon + share[..., None] * (after - polygon)
    candidates = np.stack((polygon, crossing), axis=2).reshape(len(polygon), 2 * count, 2)
    valid = np.stack((within, crosses), axis=2).reshape(len(polygon), 2 * count)
    order = np.argsort(~valid, axis=1, kind="stable")[:, : count + 1]
    kept = np.take_along_axis(candidates, order[..., None], axis=1)
    last = np.maximum(np.minimum(valid.sum(axis=1), count + 1) - 1, 0)
    repeated = np.minimum(np.arange(count + 1), last[:, None])
    return np.take_along_axis(kept, repeated[..., None], axis=1)


def _areas(rectangles: np.ndarray) -> np.ndarray:
    return np.asarray(rectangles[:, 2] * rectangles[:, 3])


def _paired(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return first[:, None], second[None, :]


def _ratio(common: np.ndarray, union: np.ndarray) -> np.ndarray:
    return np.asarray(common / np.where(union > 0, union, 1))
