"""Images with their boxes, read when asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrim.errors import DataError
from retrim.zoo.coco.images import read_image
from retrim.zoo.coco.instances import Instances


@dataclass(frozen=True, eq=False)
class Frame(ABC):
    """An image on file; the layouts differ in where its labels are."""

    image: Path

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Width and height of the image, without decoding it."""

    @property
    @abstractmethod
    def instances(self) -> Instances:
        """Its objects."""


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """One split of a data set.

    Attributes
    ----------
    frames : sequence of Frame
        In the order of their names, or of the ids in a json.
    names : tuple of str
        Of the classes.
    """

    frames: Sequence[Frame]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[np.ndarray, Instances]:
        """Image and objects.

        Returns
        -------
        image : ndarray of uint8, shape (height, width, 3)
            RGB.
        instances : Instances

        Raises
        ------
        DataError
            If the image or its labels are damaged, or they are of another size.
        """
        frame = self.frames[index]
        instances, image = frame.instances, read_image(frame.image)
        width, height = frame.size
        if image.shape[:2] != (height, width):
            raise DataError(
                f"image {str(frame.image)!r} must be as large as its labels say, {width} x {height}, not "
                f"{image.shape[1]} x {image.shape[0]}: copy it again"
            )
        return image, instances

    def truths(self) -> list[Instances]:
        """Objects of all images, which are not decoded: what a metric compares with."""
        return [frame.instances for frame in self.frames]
