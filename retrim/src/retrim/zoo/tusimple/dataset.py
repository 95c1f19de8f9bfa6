"""The frames of a folder, to train on and held out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from retrim.errors import DataError
from retrim.zoo.tusimple.frame import Frame
from retrim.zoo.tusimple.labels import read_labels
from retrim.zoo.tusimple.masks import IMAGES, MASKS, listed, read_masks

Part = Literal["training", "held out"]
TRAINING: Part = "training"
HELD_OUT: Part = "held out"


def read_frames(folder: Path | str, part: Part) -> list[Frame]:
    """Frames of one part of a data set.

    Parameters
    ----------
    folder : Path
        Either with TuSimple's label files (`label_data*.json` to train on,
        `label_data*_val.json` or else `test_label.json` held out), or with masks
        (`image/`, `gt_instance_image/`, and `val.txt` that lists the frames held
        out), there or in `train/`.
    part : {"training", "held out"}

    Raises
    ------
    DataError
        If there is nothing of the kind, or it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"data folder {str(folder)!r} must be a folder that exists")
    labels = sorted(folder.glob("label_data*.json"))
    if labels:
        return _labelled(folder, labels, part)
    for place in (folder, folder / "train"):
        if (place / IMAGES).is_dir() and (place / MASKS).is_dir():
            return _masked(place, part)
    raise DataError(
        f"data folder {str(folder)!r} must hold label_data*.json, or {IMAGES}/ and {MASKS}/, but holds neither: "
        "unpack TuSimple's lanes there, or draw scenes by `retrim data synth-tusimple`"
    )


def _labelled(folder: Path, labels: list[Path], part: Part) -> list[Frame]:
    held_out = [path for path in labels if path.stem.endswith("_val")]
    if part == TRAINING:
        chosen = [path for path in labels if path not in held_out]
    else:
        chosen = held_out or [path for path in [folder / "test_label.json"] if path.is_file()]
    if not chosen:
        wanted = "label_data*.json" if part == TRAINING else "label_data*_val.json or test_label.json"
        raise DataError(
            f"data folder {str(folder)!r} must hold {wanted} for the frames {_words(part)}, but holds none"
        )
    return [frame for path in chosen for frame in read_labels(path)]


def _masked(folder: Path, part: Part) -> list[Frame]:
    frames = read_masks(folder)
    held_out = listed(folder / "val.txt")
    chosen = [frame for frame in frames if (Path(frame.name).stem in held_out) == (part == HELD_OUT)]
    if not chosen:
        raise DataError(
            f"list {str(folder / 'val.txt')!r} must leave frames {_words(part)}, but of {len(frames)} none is left: "
            "name the images held out, one a line"
        )
    return chosen


def _words(part: Part) -> str:
    return "to train on" if part == TRAINING else part
