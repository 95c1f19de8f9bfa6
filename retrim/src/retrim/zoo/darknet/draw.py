"""A picture of detections: boxes with names and scores, one colour a class."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from retrim.zoo.darknet.detections import Detections

_TURN = 0.618034  # of the circle of colours from one class to the next: neighbours differ


def draw(image: Image.Image | np.ndarray, found: Detections, names: Sequence[str] = ()) -> Image.Image:
    """Draw detections on a copy of an image.

    Parameters
    ----------
    image : Image or ndarray of uint8, shape (height, width, 3)
        The network's input, whose pixels the boxes are in.
    found : Detections
    names : sequence of str
        Of the classes; numbers where there are too few.
    """
    drawn = (Image.fromarray(image) if isinstance(image, np.ndarray) else image).convert("RGB")
    pen = ImageDraw.Draw(drawn)
    unit = max(1, drawn.width // 320)
    for box, score, label in reversed(
        list(zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True))
    ):  # the best one last, on top
        colour = _colour(label)
        left, top, right, bottom = _cut(box, drawn.size)
        pen.rectangle((left, top, right, bottom), outline=colour, width=unit)
        text = f"{names[label] if label < len(names) else label} {score:.2f}"
        around = pen.textbbox((left, top), text, font_size=10 * unit)
        shift = min(0.0, drawn.width - around[2])  # names stay in the picture
        pen.rectangle((around[0] + shift, around[1], around[2] + shift, around[3]), fill=colour)
        pen.text((left + shift, top), text, fill=(0, 0, 0), font_size=10 * unit)
    return drawn


def _cut(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box cut to a picture of `size` (width, height), with its corners in order."""
    width, height = size
    left, top, right, bottom = (
        min(max(value, 0.0), most - 1.0) for value, most in zip(box, (width, height) * 2, strict=True)
    )
    return left, top, max(left, right), max(top, bottom)


def _colour(label: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(label * _TURN % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
