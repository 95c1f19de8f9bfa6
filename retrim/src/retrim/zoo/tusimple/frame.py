"""One labelled image: where its lanes are, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from retrim.errors import DataError
from retrim.zoo.pixels import rgb

ABSENT = -2.0
"""Column of a lane in a row that it does not reach."""

H_SAMPLES = tuple(range(160, 720, 10))
"""Rows of the labels in images of 1280 x 720 (those of some clips begin at 240)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """An image and its lanes.

    Attributes
    ----------
    image : Path
    name : str
        `raw_file` of the label, or the image's name.
    rows : ndarray of float, shape (rows,)
        Image rows of the labels, increasing.
    lanes : ndarray of float, shape (lanes, rows)
        Column of each lane in each row, in pixels; negative where it is absent.
    """

    image: Path
    name: str
    rows: np.ndarray
    lanes: np.ndarray

    def read(self) -> Image.Image:
        """The image, RGB.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        try:
            with Image.open(self.image) as opened:
                return rgb(opened)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(
                f"image {str(self.image)!r} must be a whole JPEG or PNG file, but cannot be read "
                f"({type(error).__name__}): copy it again"
            ) from error
