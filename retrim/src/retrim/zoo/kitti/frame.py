"""One frame: the scan, its labels and its calibration, read when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from retrim.errors import DataError
from retrim.zoo.kitti.boxes import scanner_boxes
from retrim.zoo.kitti.calibration import Calibration, read_calibration
from retrim.zoo.kitti.objects import Objects, read_objects
from retrim.zoo.kitti.points import read_points

IMAGE_SIZE = (1242, 375)
"""Width and height taken where there is no image."""


@dataclass(frozen=True)
class Frame:
    """A frame of the data set.

    Parameters
    ----------
    folder : Path
        That holds `velodyne`, `label_2` and `calib`: `training`.
    name : str
        "000000".
    """

    folder: Path
    name: str

    @cached_property
    def objects(self) -> Objects:
        """All that is labelled, DontCare too."""
        return read_objects(self.folder / "label_2" / f"{self.name}.txt")

    @cached_property
    def calibration(self) -> Calibration:
        """Where scanner and camera are."""
        return read_calibration(self.folder / "calib" / f"{self.name}.txt")

    @cached_property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the image, which need not be there."""
        path = self.image
        if not path.is_file():
            return IMAGE_SIZE
        try:
            with Image.open(path) as image:
                return int(image.width), int(image.height)
        except Exception as error:
            raise DataError(
                f"image {str(path)!r} must be a whole picture ({type(error).__name__}): fetch it again, or remove it"
            ) from error

    @property
    def image(self) -> Path:
        """The camera's picture, if there is one."""
        return self.folder / "image_2" / f"{self.name}.png"

    def boxes(self, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Labelled boxes of some classes.

        Returns
        -------
        boxes : ndarray, shape (n, 7)
            In the scanner's coordinates.
        kinds : ndarray of int, shape (n,)
            Indices into `classes`.
        """
        chosen = self.objects.take(np.isin(self.objects.names, classes))
        kinds = np.array([classes.index(str(name)) for name in chosen.names], dtype=np.int64)
        return scanner_boxes(chosen, self.calibration), kinds

    def points(self) -> np.ndarray:
        """Points that the camera sees, shape (n, 4); read anew at each call."""
        points = read_points(self.folder / "velodyne" / f"{self.name}.bin")
        return np.asarray(points[self.calibration.in_view(points, self.image_size)])
