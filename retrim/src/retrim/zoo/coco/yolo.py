"""Labels in text files, one box a line: class, centre x and y, width, height over the image's size.

References
----------
Darknet's format, as pjreddie.com/darknet/yolo describes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from retrim.errors import DataError
from retrim.zoo.coco.dataset import CocoDataset, Frame
from retrim.zoo.coco.images import SUFFIXES, read_size
from retrim.zoo.coco.instances import Instances, clipped
from retrim.zoo.coco.names import NAMES

OUTSIDE = 1e-3
"""How far a number may lie outside of 0 to 1: what rounding does."""


@dataclass(frozen=True, eq=False)
class YoloFrame(Frame):
    """An image with a text file.

    Attributes
    ----------
    image : Path
    labels : Path
        Need not exist: an image without it has no objects.
    classes : int
    """

    labels: Path
    classes: int

    @cached_property
    def size(self) -> tuple[int, int]:
        return read_size(self.image)

    @cached_property
    def instances(self) -> Instances:
        if not self.labels.is_file():
            return Instances.none()
        rows = [
            (f"label {str(self.labels)!r}, line {number},", line.split())
            for number, line in enumerate(_lines(self.labels), 1)
            if line.strip()
        ]
        boxes = [_box(words, self.size, place) for place, words in rows]
        labels = [_class(words[0], self.classes, place) for place, words in rows]
        return Instances.of(np.array(boxes), np.array(labels))


def read_yolo(
    images: Path | str, labels: Path | str, names: Sequence[str] | Path | str | None = None
) -> CocoDataset:
    """All images of a folder, with text files of the same names in another.

    Parameters
    ----------
    images, labels : Path
        Folders. Text files without an image are passed over.
    names : sequence of str or Path, optional
        Of the classes, or a file with one a line; COCO's by default.

    Raises
    ------
    DataError
        If a folder is missing, or holds no images, or labels of none of them. Labels are read and checked with their image.
    """
    images, labels = Path(images), Path(labels)
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"data folder {str(folder)!r} must be a folder that exists")
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(
            f"data folder {str(images)!r} must hold images ({', '.join(SUFFIXES)}), but holds none"
        )
    listed = _names(names)
    frames = [YoloFrame(path, labels / f"{path.stem}.txt", len(listed)) for path in paths]
    there = [path.name for path in labels.glob("*.txt") if path.name != "classes.txt"]
    if there and not {path.stem for path in paths} & {name.removesuffix(".txt") for name in there}:
        raise DataError(
            f"labels of {str(labels)!r} must be called as their images, {paths[0].stem + '.txt'!r}, but are called like "
            f"{min(there)!r}: rename them"
        )
    return CocoDataset(frames, listed)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise DataError(f"file {str(path)!r} cannot be read: {why}; copy it again") from error


def _box(words: list[str], size: tuple[int, int], place: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom in pixels."""
    if len(words) != 5:
        raise DataError(
            f"{place} must have 5 columns, class and centre x, y, width, height, not {len(words)}: correct or drop it"
        )
    x, y, width, height = (_number(word, column, place) for column, word in enumerate(words[1:], 2))
    if width <= 0 or height <= 0:
        raise DataError(f"{place} must have width and height > 0, not {words[3]} {words[4]}: drop it")
    if not all(-OUTSIDE <= value <= 1 + OUTSIDE for value in (x, y, width, height)):
        raise DataError(
            f"{place} must hold numbers from 0 to 1, over the image's size, not {' '.join(words[1:])}: "
            "divide pixels by width and height"
        )
    columns, rows = size
    box = (
        (x - width / 2) * columns,
        (y - height / 2) * rows,
        (x + width / 2) * columns,
        (y + height / 2) * rows,
    )
    return clipped(box, size, place)


def _number(word: str, column: int, place: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{place} must hold a number in column {column}, not {word!r}: correct or drop it")
    return value


def _class(word: str, classes: int, place: str) -> int:
    value = int(word) if word.isascii() and word.isdigit() and len(word) < 10 else -1
    if not 0 <= value < classes:
        raise DataError(
            f"{place} must begin with a class from 0 to {classes - 1}, not {word!r}: correct it, or give the names "
            "of all classes"
        )
    return value


def _names(names: Sequence[str] | Path | str | None) -> tuple[str, ...]:
    if names is None:
        return NAMES
    if isinstance(names, (str, Path)):
        names = [line.strip() for line in _lines(Path(names)) if line.strip()]
    if not names:
        raise DataError("names must be those of at least one class, but are none: give one a line")
    return tuple(names)
