"""Scans mirrored, turned and scaled as a whole; objects of other scans put in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrim.errors import ConfigError
from retrim.zoo.kitti.boxes import wrapped


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges that changes are drawn from.

    Parameters
    ----------
    mirror : float
        Probability that left and right change places.
    rotation : float
        Largest angle about the z axis in radians.
    scale : (low, high)
        Factor on all lengths.
    objects : int
        How many objects of each class a scan is filled up to with those of others; 0: none.
    """

    mirror: float = 0.5
    rotation: float = np.pi / 4
    scale: tuple[float, float] = (0.95, 1.05)
    objects: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.mirror <= 1:
            raise ConfigError(f"mirror must be a probability, not {self.mirror}")
        if not 0 <= self.rotation <= np.pi:
            raise ConfigError(f"rotation must be an angle from 0 to pi, not {self.rotation}")
        if not 0 < self.scale[0] <= self.scale[1] < np.inf:
            raise ConfigError(f"scale must be two rising numbers > 0, not {self.scale}")
        if self.objects < 0:
            raise ConfigError(f"objects must be a whole number >= 0, not {self.objects}")

    def moved(
        self, points: np.ndarray, boxes: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mirror, turn and scale a scan (n, 4) and its boxes (m, 7); three numbers are drawn."""
        mirrored = generator.random() < self.mirror
        angle = generator.uniform(-self.rotation, self.rotation)
        scale = generator.uniform(*self.scale)
        return transformed(points, boxes, mirrored=bool(mirrored), angle=angle, scale=scale)


def transformed(
    points: np.ndarray, boxes: np.ndarray, *, mirrored: bool, angle: float, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 4) and boxes (m, 7) mirrored in the x axis, then turned, then scaled; new arrays."""
    points, boxes = points.copy(), boxes.copy()
    if mirrored:
        points[:, 1] *= -1
        boxes[:, 1] *= -1
        boxes[:, 6] *= -1
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    matrix = np.array([[cos, sin], [-sin, cos]])
    for array in (points, boxes):
        array[:, :2] = array[:, :2] @ matrix.astype(array.dtype)
        array[:, 2] *= scale
    boxes[:, 3:6] *= scale
    boxes[:, 6] = wrapped(boxes[:, 6] + angle)
    return points, boxes
