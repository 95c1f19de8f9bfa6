"""Random rotation, shift and reflection of an image, as one affine map.

References
----------
arXiv:2004.11757, section 4.1 (rotation, shifts); the amounts are the authors'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from retrim.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far images are moved at most.

    Parameters
    ----------
    rotation : float
        Degrees, either way.
    across, down : float
        Shifts, either way, over the image's width and height.
    reflect : float
        Share of the images that are mirrored.
    """

    rotation: float = 6.0
    across: float = 200 / 1280
    down: float = 100 / 720
    reflect: float = 0.5

    def __post_init__(self) -> None:
        for name, limit in (("rotation", 45.0), ("across", 0.5), ("down", 0.5), ("reflect", 1.0)):
            if not 0 <= getattr(self, name) <= limit:
                raise ConfigError(f"{name} must be a number from 0 to {limit}, not {getattr(self, name)}")

    def drawn(self, random: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
        """An affine map (2 x 3) of an image of `size` (width, height), and whether it mirrors."""
        width, height = size
        angle, across, down = random.uniform(-1, 1, 3)
        mirrored = bool(random.random() < self.reflect)
        cosine, sine = np.cos(np.deg2rad(angle * self.rotation)), np.sin(np.deg2rad(angle * self.rotation))
        turn = np.array([[cosine, -sine], [sine, cosine]])
        if mirrored:
            turn = turn @ np.array([[-1.0, 0.0], [0.0, 1.0]])
        centre = np.array([width / 2, height / 2])
        shift = centre - turn @ centre + np.array([across * self.across * width, down * self.down * height])
        return np.column_stack([turn, shift]), mirrored


def moved_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (h, w, 3) of uint8 after a map of the image of `size` that it was made smaller from.

    What comes from outside is black.
    """
    height, width = image.shape[:2]
    scale = np.array([width / size[0], height / size[1]])
    turn = matrix[:, :2] * scale[:, None] / scale[None]
    back = np.linalg.inv(turn)
    start = -back @ (matrix[:, 2] * scale)
    data = (back[0, 0], back[0, 1], start[0], back[1, 0], back[1, 1], start[1])
    moved = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
    )
    return np.asarray(moved)
