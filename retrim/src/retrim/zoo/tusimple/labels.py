"""TuSimple's label files: one JSON object a line.

References
----------
TuSimple/tusimple-benchmark, doc/lane_detection, "Label Data Format".
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from retrim.errors import DataError
from retrim.zoo.tusimple.frame import Frame

_FIELDS = ("lanes", "h_samples", "raw_file")


def read_labels(path: Path, root: Path | None = None) -> list[Frame]:
    """All frames of a label file.

    Parameters
    ----------
    path : Path
        `label_data_*.json` or `test_label.json`.
    root : Path, optional
        Folder that `raw_file` is relative to; that of the file by default.

    Raises
    ------
    DataError
        If the file or a line of it is damaged, or an image is missing; names file and line.
    """
    root = path.parent if root is None else root
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"labels {str(path)!r} must be a UTF-8 text file that can be read ({type(error).__name__}): copy it again"
        ) from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"labels {str(path)!r} must hold one JSON object a line, but hold none")
    return [_frame(line, f"{str(path)!r}, line {number},", root) for number, line in lines]


def _frame(line: str, place: str, root: Path) -> Frame:
    try:
        label = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"labels {place} must be a JSON object, but are no JSON: copy the file again"
        ) from error
    absent = [name for name in _FIELDS if not isinstance(label, dict) or name not in label]
    if absent:
        raise DataError(
            f"labels {place} must be an object with {', '.join(_FIELDS)}, but lack {', '.join(absent)}"
        )
    rows = _numbers(label["h_samples"], "h_samples", place)
    if len(rows) < 2 or bool((np.diff(rows) <= 0).any()):
        raise DataError(f"labels {place} must have at least two h_samples, increasing: mend or drop the line")
    return Frame(
        _image(label["raw_file"], place, root), label["raw_file"], rows, _lanes(label["lanes"], rows, place)
    )


def _lanes(given: Any, rows: np.ndarray, place: str) -> np.ndarray:
    if not isinstance(given, list):
        raise DataError(f"labels {place} must have a list of lanes, not {type(given).__name__}")
    lanes = [_numbers(lane, f"lane {number}", place) for number, lane in enumerate(given, 1)]
    for number, lane in enumerate(lanes, 1):
        if len(lane) != len(rows):
            raise DataError(
                f"labels {place} must have as many columns in each lane as h_samples, {len(rows)}, not {len(lane)} in "
                f"lane {number}: mend or drop the line"
            )
    present = [lane for lane in lanes if (lane >= 0).any()]  # some labels hold lanes without a point
    return np.array(present).reshape(len(present), len(rows))


def _numbers(given: Any, what: str, place: str) -> np.ndarray:
    if not isinstance(given, list) or not all(_finite(value) for value in given):
        raise DataError(f"labels {place} must have finite numbers in {what}: mend or drop the line")
    return np.array(given, dtype=np.float64)


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _image(raw_file: Any, place: str, root: Path) -> Path:
    if not isinstance(raw_file, str) or not raw_file:
        raise DataError(f"labels {place} must name their image in raw_file, not {raw_file!r}")
    image = root / raw_file
    if not image.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"labels {place} must name an image below {str(root)!r} in raw_file, not {raw_file!r}"
        )
    if not image.is_file():
        raise DataError(
            f"labels {place} must name an image that exists, not {str(image)!r}: unpack the clips beside them"
        )
    return image
