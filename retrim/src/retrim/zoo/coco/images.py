"""Pictures as arrays.

An orientation that a file notes beside its pixels (EXIF) is passed over, as COCO's labels are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from retrim.errors import DataError
from retrim.zoo.pixels import rgb

SUFFIXES = (".jpg", ".jpeg", ".png")


def read_image(path: Path | str) -> np.ndarray:
    """Pixels of a picture; grey, CMYK and palette pictures become RGB.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    DataError
        If it is missing, cut short, or no picture.
    """
    try:
        with Image.open(path) as opened:
            return np.array(rgb(opened))
    except Exception as error:
        raise _unreadable(path, error) from error


def read_size(path: Path | str) -> tuple[int, int]:
    """Width and height of a picture, from its header."""
    try:
        with Image.open(path) as opened:
            return int(opened.width), int(opened.height)
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path | str, error: Exception) -> DataError:
    return DataError(
        f"image {str(path)!r} must be a whole JPEG or PNG file, but cannot be read ({type(error).__name__}): "
        "copy it again"
    )
