"""A window of an image brought to the network's size, and boxes with it.

Resampling is bilinear between the four nearest pixels, pixel centres at halves:
what OpenCV calls INTER_LINEAR, and so what darknet trains on; smaller images are
not smoothed before.  What lies outside of the image is grey.

Darknet's own letterbox rounds the image's place to whole pixels; here its scale is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from retrim.errors import ConfigError

GREY = 128
"""Of the border: the value of 8 bits next to darknet's 0.5."""


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """An axis-parallel map from an image to the network's input.

    Attributes
    ----------
    size : (width, height)
        Of the image in pixels.
    shape : (height, width)
        Of the network's input in pixels.
    window : (left, top, right, bottom)
        What of the image the input shows, in pixels of the image; may reach beyond it.
    """

    size: tuple[int, int]
    shape: tuple[int, int]
    window: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        _check(self.size, self.shape)
        left, top, right, bottom = self.window
        if not (left < right and top < bottom):
            raise ConfigError(f"window must have right > left and bottom > top, not {self.window}")

    @classmethod
    def fit(cls, size: tuple[int, int], shape: tuple[int, int], *, keep_aspect: bool = True) -> Letterbox:
        """All of an image, in the middle, as large as fits without a change of its aspect, or filling the input."""
        (width, height), (rows, columns) = size, shape
        _check(size, shape)
        if not keep_aspect:
            return cls(size=size, shape=shape, window=(0.0, 0.0, float(width), float(height)))
        pixel = max(width / columns, height / rows)  # of the network, in those of the image
        across, down = (columns * pixel - width) / 2, (rows * pixel - height) / 2
        return cls(size=size, shape=shape, window=(-across, -down, width + across, height + down))

    @property
    def scale(self) -> np.ndarray:
        """Pixels of the network in one of the image, shape (2,): x, y."""
        left, top, right, bottom = self.window
        return np.array([self.shape[1] / (right - left), self.shape[0] / (bottom - top)])

    def image(self, image: np.ndarray) -> np.ndarray:
        """The window of an image (height, width, 3) of uint8, shape (rows, columns, 3)."""
        canvas = np.full((*self.shape, 3), GREY, dtype=np.uint8)
        (top, left), patch = self.patch(image)
        canvas[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        return canvas

    def patch(self, image: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
        """What the image fills of the input: first row and column, and the pixels (h, w, 3) of uint8.

        Pixels of the network belong to it whose centres lie in the image.
        """
        corners = self.to_network(np.array([[0, 0, *self.size]], dtype=np.float64))[0]
        limits = np.array([*self.shape[::-1], *self.shape[::-1]])
        left, top, right, bottom = (int(v) for v in np.clip(np.ceil(corners - 0.5), 0, limits))
        if left >= right or top >= bottom:
            return (0, 0), np.zeros((0, 0, 3), dtype=np.uint8)
        step, start = 1 / self.scale, np.array(self.window[:2])
        x, y = start + step * np.array([left, top])
        moved = Image.fromarray(image).transform(
            (right - left, bottom - top),
            Image.Transform.AFFINE,
            (step[0], 0.0, x, 0.0, step[1], y),
            Image.Resampling.BILINEAR,
            fillcolor=(GREY, GREY, GREY),
        )
        return (top, left), np.asarray(moved)

    def to_network(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) in pixels of the image as pixels of the network, float64; not cut."""
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        return np.asarray((boxes - np.tile(self.window[:2], 2)) * np.tile(self.scale, 2))

    def to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (n, 4) in pixels of the network as pixels of the image, float64, cut to it."""
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        back = boxes / np.tile(self.scale, 2) + np.tile(self.window[:2], 2)
        return np.asarray(np.clip(back, 0, np.array([*self.size, *self.size], dtype=np.float64)))


def _check(size: tuple[int, int], shape: tuple[int, int]) -> None:
    if min(*size, *shape) < 1:
        raise ConfigError(
            f"images and inputs must be of at least one pixel, not {size[0]} x {size[1]} and {shape[1]} x {shape[0]}"
        )
