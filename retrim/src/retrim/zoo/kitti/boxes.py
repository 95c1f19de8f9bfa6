"""Boxes in the scanner's coordinates: x, y, z of the centre, length, width, height, yaw.

Boxes stand upright in both systems; that the camera's axes are a few tenths of
a degree off the scanner's moves a box, but does not tilt it.
"""

from __future__ import annotations

import numpy as np

from retrim.zoo.kitti.calibration import Calibration
from retrim.zoo.kitti.objects import Objects

_CORNERS = np.array(
    [(x, y, z) for z in (-0.5, 0.5) for x, y in ((0.5, 0.5), (0.5, -0.5), (-0.5, -0.5), (-0.5, 0.5))]
)

EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
"""Pairs of `corners` that a box's edges join; 0, 1, 4, 5 are the front."""

_AHEAD = 0.1  # metres; boxes are cut there before they are projected


def wrapped(angle: np.ndarray) -> np.ndarray:
    """The same angle in [-pi, pi)."""
    return np.asarray(angle - 2 * np.pi * np.floor(angle / (2 * np.pi) + 0.5))


def corners(boxes: np.ndarray) -> np.ndarray:
    """Corners of boxes, shape (n, 8, 3): four of the bottom, four of the top, front left first."""
    local = _CORNERS * boxes[:, None, 3:6]
    cos, sin = np.cos(boxes[:, 6, None]), np.sin(boxes[:, 6, None])
    x = cos * local[..., 0] - sin * local[..., 1]
    y = sin * local[..., 0] + cos * local[..., 1]
    return np.asarray(np.stack((x, y, local[..., 2]), axis=-1) + boxes[:, None, :3])


def inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which points lie in which box, bool (boxes, points); the surface belongs to it."""
    offset = points[None, :, :3] - boxes[:, None, :3]
    cos, sin = np.cos(boxes[:, 6, None]), np.sin(boxes[:, 6, None])
    along = cos * offset[..., 0] + sin * offset[..., 1]
    across = cos * offset[..., 1] - sin * offset[..., 0]
    half = boxes[:, None, 3:6] / 2
    return np.asarray(
        (np.abs(along) <= half[..., 0])
        & (np.abs(across) <= half[..., 1])
        & (np.abs(offset[..., 2]) <= half[..., 2])
    )


def scanner_boxes(objects: Objects, calibration: Calibration) -> np.ndarray:
    """Boxes of objects, shape (n, 7); those of DontCare mean nothing."""
    height, width, length = objects.sizes.T
    bottom = calibration.to_scanner(objects.locations)
    yaw = wrapped(-objects.rotations - np.pi / 2)
    return np.column_stack((bottom[:, :2], bottom[:, 2] + height / 2, length, width, height, yaw))


def objects_of(
    boxes: np.ndarray,
    names: np.ndarray,
    scores: np.ndarray,
    calibration: Calibration,
    size: tuple[int, int],
) -> Objects:
    """Objects of boxes, with the rectangles that they fill in an image.

    Parameters
    ----------
    boxes : ndarray, shape (n, 7)
    names : ndarray of str, shape (n,)
    scores : ndarray, shape (n,)
    calibration : Calibration
    size : (width, height)
        Of the image in pixels, which rectangles are cut to.

    Returns
    -------
    Objects
        In order; without those that are out of the picture.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 7)
    rectangles = projected(boxes, calibration)
    cut = np.clip(rectangles, 0, np.array([size[0] - 1, size[1] - 1] * 2))
    area, whole = _area(cut), _area(rectangles)
    bottom = boxes[:, :3] - np.array([0, 0, 0.5]) * boxes[:, 5:6]
    locations = calibration.to_camera(bottom)
    rotations = wrapped(-boxes[:, 6] - np.pi / 2)
    objects = Objects(
        names=np.asarray(names, dtype=np.str_),
        truncation=1 - area / np.where(whole > 0, whole, 1),
        occlusion=np.zeros(len(boxes)),
        alpha=wrapped(rotations - np.arctan2(locations[:, 0], locations[:, 2])),
        rectangles=cut,
        sizes=boxes[:, [5, 4, 3]],
        locations=locations,
        rotations=rotations,
        scores=np.asarray(scores, dtype=np.float64),
    )
    return objects.take(area > 0)


def projected(boxes: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Rectangles that boxes fill, beyond the image too, shape (n, 4); zeros behind the camera.

    Edges that pass the camera's plane are cut before it.
    """
    ends = calibration.to_camera(corners(boxes))[:, np.array(EDGES)]  # n, 12, 2, 3
    depth = ends[..., 2]
    ahead = depth > _AHEAD
    first, second = ends[:, :, 0], ends[:, :, 1]
    gap = depth[..., 1] - depth[..., 0]
    share = (_AHEAD - depth[..., 0]) / np.where(gap == 0, 1, gap)
    crossing = first + share[..., None] * (second - first)
    points = np.concatenate((first, second, crossing), axis=1)
    valid = np.concatenate((ahead[..., 0], ahead[..., 1], ahead[..., 0] != ahead[..., 1]), axis=1)
    pixels, _ = calibration.project(points)
    low = np.where(valid[..., None], pixels, np.inf).min(axis=1)
    high = np.where(valid[..., None], pixels, -np.inf).max(axis=1)
    rectangles = np.concatenate((low, high), axis=1)
    return np.where(np.any(valid, axis=1, keepdims=True), rectangles, 0.0)


def _area(rectangles: np.ndarray) -> np.ndarray:
    return np.asarray((rectangles[:, 2] - rectangles[:, 0]) * (rectangles[:, 3] - rectangles[:, 1]))
