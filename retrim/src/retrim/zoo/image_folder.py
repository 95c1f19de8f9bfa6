"""Folders of images, one for each class, as ImageNet is usually unpacked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from retrim.errors import DataError
from retrim.zoo.pixels import rgb

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
MARGIN = 256 / 224
"""The shorter side, over the crop from its centre, where nothing is random."""


class ImageFolder:
    """Images of ``folder/<class>/<name>``, classes numbered in the order of their names.

    Parameters
    ----------
    folder : Path
    size : int
        Pixels of a side of what is given out.

    Raises
    ------
    DataError
        If the folder is missing, or a class holds no image.
    """

    def __init__(self, folder: Path, size: int) -> None:
        if not folder.is_dir():
            raise DataError(f"{str(folder)!r} must be a folder with one folder of images for each class")
        self.size = size
        self.classes = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
        self.files: list[tuple[Path, int]] = []
        for number, name in enumerate(self.classes):
            found = sorted(f for f in (folder / name).iterdir() if f.suffix.lower() in SUFFIXES)
            if not found:
                raise DataError(
                    f"{str(folder / name)!r} must hold images ({', '.join(SUFFIXES)}), but holds none"
                )
            self.files += [(file, number) for file in found]
        if not self.files:
            raise DataError(f"{str(folder)!r} must hold a folder of images for each class, but holds none")

    def __len__(self) -> int:
        return len(self.files)

    def classes_of(self, chosen: Sequence[int]) -> torch.Tensor:
        """Class numbers, shape (n,)."""
        return torch.tensor([self.files[one][1] for one in chosen])

    def plain(self, number: int) -> np.ndarray:
        """The centre of an image, uint8 (3, size, size)."""
        image = self._read(number)
        scale = self.size * MARGIN / min(image.size)
        side = self.size / scale
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return self._cut(image, (left, top, left + side, top + side))

    def augmented(self, number: int, key: Sequence[int]) -> np.ndarray:
        """A crop of random size and shape, flipped half the time; the same for the same key."""
        draw = np.random.default_rng(key)
        image = self._read(number)
        taken = self._cut(image, _crop(image.width, image.height, draw))
        return np.ascontiguousarray(taken[:, :, ::-1]) if draw.random() < 0.5 else taken

    def _read(self, number: int) -> Image.Image:
        file = self.files[number][0]
        try:
            with Image.open(file) as image:
                return rgb(image)
        except Exception as error:
            raise DataError(
                f"{str(file)!r} must be an image, but cannot be read as one: fetch it anew"
            ) from error

    def _cut(self, image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
        size = (self.size, self.size)
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box))
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _crop(width: int, height: int, draw: np.random.Generator) -> tuple[float, float, float, float]:
    """A box of 8 to 100 % of the area and 3:4 to 4:3; the largest centred one if ten trials fail."""
    for _ in range(10):
        area = width * height * draw.uniform(*AREA)
        aspect = math.exp(draw.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left, top = float(draw.integers(0, width - wide + 1)), float(draw.integers(0, height - high + 1))
            return left, top, left + wide, top + high
    aspect = min(max(width / height, ASPECT[0]), ASPECT[1])
    across, down = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down
