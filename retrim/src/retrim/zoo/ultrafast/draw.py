"""A picture of lanes: labels as green lines, predictions as red points."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

_TRUTH, _FOUND = (60, 220, 90), (255, 60, 50)


def draw(
    image: Image.Image, rows: np.ndarray, truth: np.ndarray | None, predicted: np.ndarray | None = None
) -> Image.Image:
    """Draw lanes on a copy of an image.

    Parameters
    ----------
    rows : ndarray, shape (rows,)
        In pixels.
    truth, predicted : ndarray, shape (lanes, rows)
        Columns in pixels; negative where absent.
    """
    drawn = image.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    unit = max(1, drawn.width // 640)
    for lane in [] if truth is None else truth:
        pen.line(_points(lane, rows), fill=_TRUTH, width=2 * unit)
    for lane in [] if predicted is None else predicted:
        for x, y in _points(lane, rows):
            pen.ellipse((x - 2 * unit, y - 2 * unit, x + 2 * unit, y + 2 * unit), fill=_FOUND)
    return drawn


def _points(lane: np.ndarray, rows: np.ndarray) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(lane, rows, strict=True) if x >= 0]
