"""Lanes drawn as instance masks, one grey value for each lane.

The layout of lanenet-lane-detection's examples: `image/` and `gt_instance_image/`
with equal names, and lists of frames whose first column ends in an image's name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from retrim.errors import DataError
from retrim.zoo.tusimple.frame import ABSENT, H_SAMPLES, Frame

IMAGES, MASKS = "image", "gt_instance_image"
_HEIGHT = 720


def read_masks(folder: Path) -> list[Frame]:
    """All frames of a folder, in the order of their names.

    Raises
    ------
    DataError
        If a mask is missing, damaged, or of another size than its image.
    """
    images = sorted(path for path in (folder / IMAGES).iterdir() if path.suffix.lower() in (".png", ".jpg"))
    if not images:
        raise DataError(f"folder {str(folder / IMAGES)!r} must hold images, but holds none")
    return [_frame(image, folder / MASKS / f"{image.stem}.png") for image in images]


def lanes_of_mask(mask: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Column of each lane in each row: the mean over the lane's pixels.

    Parameters
    ----------
    mask : ndarray of uint8, shape (height, width)
        0 where there is no lane.
    rows : ndarray, shape (rows,)

    Returns
    -------
    ndarray of float, shape (lanes, rows)
        In the order of grey values; `ABSENT` where there is none.
    """
    taken = mask[np.asarray(rows, dtype=np.int64)]
    columns = np.arange(mask.shape[1], dtype=np.float64)
    lanes = []
    for grey in np.unique(taken[taken > 0]):
        of_lane = taken == grey
        count = of_lane.sum(1)
        lanes.append(np.where(count > 0, of_lane @ columns / np.maximum(count, 1), ABSENT))
    return np.array(lanes).reshape(len(lanes), len(rows))


def listed(path: Path) -> set[str]:
    """Names, without folder and ending, of the images in a list of frames."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"list {str(path)!r} must be a UTF-8 text file that can be read ({type(error).__name__})"
        ) from error
    return {Path(line.split()[0]).stem for line in lines if line.strip()}


def _frame(image: Path, path: Path) -> Frame:
    if not path.is_file():
        raise DataError(f"image {str(image)!r} must have a mask, {str(path)!r}, which does not exist")
    try:
        with Image.open(path) as opened:
            deep = opened.mode == "I" or opened.mode.startswith("I;16")  # numbers over 255 would become one
            mask = np.asarray(opened if deep else opened.convert("L"))
        with Image.open(image) as opened:
            width, height = opened.size
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(
            f"image {str(image)!r} and mask {str(path)!r} must be whole JPEG or PNG files, but cannot be read "
            f"({type(error).__name__}): copy them again"
        ) from error
    if mask.shape != (height, width):
        raise DataError(
            f"mask {str(path)!r} must be as large as its image, {width} x {height}, not {mask.shape[1]} x {mask.shape[0]}"
        )
    rows = np.array(H_SAMPLES, dtype=np.float64) * height // _HEIGHT
    return Frame(image, image.name, rows, lanes_of_mask(mask, rows))
