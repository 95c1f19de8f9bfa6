"""Which of the layouts a folder has."""

from __future__ import annotations

from pathlib import Path

from retrim.errors import DataError
from retrim.zoo.coco.annotations import read_json
from retrim.zoo.coco.dataset import CocoDataset
from retrim.zoo.coco.yolo import read_yolo

TRAINING = "train"
HELD_OUT = "val"

_YEARS = ("", "2017", "2014")
_NAMES = ("coco.names", "classes.txt")


def open_coco(root: Path | str, split: str) -> CocoDataset:
    """One split of a folder, with labels in a json or in text files.

    Tried in this order, first for the split as it is called, then with 2017 and 2014 added:
    `annotations/instances_<split>.json` with `<split>/` or `images/<split>/`;
    `images/<split>/` with `labels/<split>/`; `<split>/images/` with `<split>/labels/`.
    Text files take the names of classes from `coco.names` or `classes.txt` in `root`,
    where there is one.

    Parameters
    ----------
    root : Path
    split : str
        `TRAINING` ("train"), `HELD_OUT` ("val"), or what else the folders are called.

    Raises
    ------
    DataError
        If there is nothing of the kind, or it is damaged.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data folder {str(root)!r} must be a folder that exists")
    for name in (split + year for year in _YEARS):
        found = _json(root, name) or _yolo(root, name)
        if found is not None:
            return found
    raise DataError(
        f"data folder {str(root)!r} must hold annotations/instances_{split}.json and {split}/, or images/{split}/ and "
        f"labels/{split}/, or {split}/images/ and {split}/labels/ (or {split}2017, {split}2014), but holds none of "
        "them: unpack COCO there"
    )


def _json(root: Path, name: str) -> CocoDataset | None:
    path = root / "annotations" / f"instances_{name}.json"
    for images in (root / name, root / "images" / name):
        if path.is_file() and images.is_dir():
            return read_json(path, images)
    return None


def _yolo(root: Path, name: str) -> CocoDataset | None:
    for images, labels in (
        (root / "images" / name, root / "labels" / name),
        (root / name / "images", root / name / "labels"),
    ):
        if images.is_dir() and labels.is_dir():
            listed = next((root / file for file in _NAMES if (root / file).is_file()), None)
            return read_yolo(images, labels, listed)
    return None
