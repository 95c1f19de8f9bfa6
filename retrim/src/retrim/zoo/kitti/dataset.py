"""The frames of a folder, to train on and held out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from retrim.errors import DataError
from retrim.zoo.kitti.frame import Frame

Part = Literal["training", "held out"]
TRAINING: Part = "training"
HELD_OUT: Part = "held out"

HELD_OUT_ONE_IN = 5
"""Where no lists say which frames are held out."""

_LISTS: dict[Part, str] = {TRAINING: "train.txt", HELD_OUT: "val.txt"}


def read_frames(folder: Path | str, part: Part) -> list[Frame]:
    """Frames of one part of a data set.

    Parameters
    ----------
    folder : Path
        With `training/velodyne`, `training/label_2`, `training/calib`, and perhaps
        `ImageSets/train.txt` and `ImageSets/val.txt`; see docs/retrim/zoo/kitti.md.
    part : {"training", "held out"}

    Raises
    ------
    DataError
        If there is nothing of the kind, or a list names a frame that is missing.
    """
    folder = Path(folder)
    training = folder / "training"
    if not (training / "velodyne").is_dir():
        raise DataError(
            f"data folder {str(folder)!r} must hold training/velodyne, training/label_2 and training/calib: unpack "
            "KITTI's object data there, or make scans by `retrim data synth-kitti`"
        )
    listed = folder / "ImageSets" / _LISTS[part]
    if (folder / "ImageSets").is_dir():
        return [Frame(training, name) for name in _listed(listed, training)]
    names = sorted(path.stem for path in (training / "velodyne").glob("*.bin"))
    chosen = [
        name
        for index, name in enumerate(names)
        if (index % HELD_OUT_ONE_IN == HELD_OUT_ONE_IN - 1) == (part == HELD_OUT)
    ]
    if not chosen:
        raise DataError(
            f"data folder {str(folder)!r} must hold at least {HELD_OUT_ONE_IN} scans where no lists divide them, "
            f"not {len(names)}: add scans, or name frames in ImageSets/train.txt and ImageSets/val.txt"
        )
    return [Frame(training, name) for name in chosen]


def _listed(path: Path, training: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise DataError(f"list {str(path)!r} cannot be read: {why}; name frames there, one a line") from error
    names = []
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        if not (training / "velodyne" / f"{name}.bin").is_file():
            raise DataError(
                f"list {str(path)!r}, line {number}, must name a scan that exists, not {name!r}: unpack the scan, "
                "or remove the line"
            )
        names.append(name)
    if not names:
        raise DataError(f"list {str(path)!r} must name at least one frame: name frames there, one a line")
    return names
