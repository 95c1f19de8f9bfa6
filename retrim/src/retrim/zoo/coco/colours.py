"""Random changes of hue, saturation and value.

Darknet's `hue`, `saturation` and `exposure`; computed here on 8 bits a channel.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def drawn_factor(most: float, generator: np.random.Generator) -> float:
    """A factor from 1 to `most` or, as often, one over it; two numbers are drawn."""
    factor, less = generator.uniform(1, most), generator.random() < 0.5
    return float(1 / factor if less else factor)


def coloured(image: np.ndarray, *, hue: float, saturation: float, exposure: float) -> np.ndarray:
    """An image (h, w, 3) of uint8 with other colours.

    Parameters
    ----------
    hue : float
        Shift, in turns of the circle of colours.
    saturation, exposure : float
        Factors on saturation and value, which are cut at their greatest.
    """
    if not image.size or (hue == 0 and saturation == 1 and exposure == 1):
        return image
    level = np.arange(256)
    table = np.concatenate(
        (
            np.rint(level + 256 * hue).astype(np.int64) % 256,
            np.rint(np.minimum(level * saturation, 255)).astype(np.int64),
            np.rint(np.minimum(level * exposure, 255)).astype(np.int64),
        )
    )
    return np.asarray(Image.fromarray(image).convert("HSV").point(table.tolist()).convert("RGB"))
