"""What pictures have in common, whoever reads them."""

from __future__ import annotations

import numpy as np
from PIL import Image


def rgb(image: Image.Image) -> Image.Image:
    """Red, green and blue of 8 bits each; grey of 16 bits is scaled, not clipped.

    Raises
    ------
    ValueError
        If it holds floating-point numbers.
    """
    if image.mode == "F":
        raise ValueError("a picture must hold whole numbers")
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
    return image.convert("RGB")
