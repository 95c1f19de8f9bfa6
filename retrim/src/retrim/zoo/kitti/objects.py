"""Objects as KITTI's label files list them, in the camera's coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from retrim.errors import DataError

DONT_CARE = "DontCare"

_COLUMNS = (15, 16)


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """The objects of a frame, labelled or detected.

    Attributes
    ----------
    names : ndarray of str, shape (n,)
        "Car", "Van", "Pedestrian", …, "DontCare".
    truncation : ndarray, shape (n,)
        Part outside the image, 0 to 1.
    occlusion : ndarray, shape (n,)
        0 visible, 1 partly, 2 largely hidden, 3 unknown.
    alpha : ndarray, shape (n,)
        Angle of observation in radians.
    rectangles : ndarray, shape (n, 4)
        Left, top, right, bottom in pixels.
    sizes : ndarray, shape (n, 3)
        Height, width, length in metres.
    locations : ndarray, shape (n, 3)
        Middle of the bottom face in metres.
    rotations : ndarray, shape (n,)
        About the camera's y axis in radians.
    scores : ndarray, shape (n,)
        Of detections; 1 for labels.
    """

    names: np.ndarray
    truncation: np.ndarray
    occlusion: np.ndarray
    alpha: np.ndarray
    rectangles: np.ndarray
    sizes: np.ndarray
    locations: np.ndarray
    rotations: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def take(self, chosen: np.ndarray) -> Objects:
        """Some of the objects: `chosen` is a mask, or indices."""
        return Objects(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def text(self, *, scores: bool = False) -> str:
        """The same as a label file, in hundredths; with a 16th column for detections."""
        lines = []
        for i, name in enumerate(self.names):
            numbers = [
                self.alpha[i],
                *self.rectangles[i],
                *self.sizes[i],
                *self.locations[i],
                self.rotations[i],
            ]
            words = [f"{number:.2f}" for number in numbers]
            if scores:
                words.append(f"{self.scores[i]:.4f}")
            lines.append(f"{name} {self.truncation[i]:.2f} {int(self.occlusion[i])} {' '.join(words)}\n")
        return "".join(lines)


def objects_from_rows(names: list[str], rows: list[list[float]]) -> Objects:
    """Objects of names and the 14 columns that follow them, or 15 with a score."""
    table = np.array([[*row, 1.0][:15] for row in rows], dtype=np.float64).reshape(-1, 15)
    return Objects(
        names=np.array(names, dtype=np.str_),
        truncation=table[:, 0],
        occlusion=table[:, 1],
        alpha=table[:, 2],
        rectangles=table[:, 3:7],
        sizes=table[:, 7:10],
        locations=table[:, 10:13],
        rotations=table[:, 13],
        scores=table[:, 14],
    )


def read_objects(path: Path | str) -> Objects:
    """Read a label file; an empty one has no objects.

    Raises
    ------
    DataError
        If it is missing, or a line is short, holds no numbers, or a box without size.
    """
    path = Path(path)
    names, rows = [], []
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words:
            continue
        names.append(words[0])
        rows.append(_row(path, number, words))
    return objects_from_rows(names, rows)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise DataError(
            f"label {str(path)!r} cannot be read: {why}; unpack KITTI's label_2 files there"
        ) from error


def _row(path: Path, number: int, words: list[str]) -> list[float]:
    where = f"label {str(path)!r}, line {number},"
    if len(words) not in _COLUMNS:
        raise DataError(f"{where} must have 15 or 16 columns, not {len(words)}: fetch the file again")
    row = []
    for column, word in enumerate(words[1:], 2):
        try:
            row.append(float(word))
        except ValueError:
            row.append(math.nan)
        if not math.isfinite(row[-1]):
            raise DataError(
                f"{where} must hold a number in column {column}, not {word!r}: fetch the file again"
            )
    if words[0] != DONT_CARE and min(row[7:10]) <= 0:
        raise DataError(
            f"{where} must have height, width and length > 0, not {' '.join(words[8:11])}: "
            f"correct the line, or name the object {DONT_CARE}"
        )
    return row
