"""Laser scans of streets in KITTI's layout.

Not modelled: motion during a turn, several returns of a beam, its width, rain;
see docs/retrim/zoo/kitti.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrim.errors import ConfigError, DataError
from retrim.zoo.kitti.boxes import objects_of
from retrim.zoo.kitti.calibration import Calibration
from retrim.zoo.kitti.frame import IMAGE_SIZE
from retrim.zoo.kitti.objects import DONT_CARE, Objects
from retrim.zoo.synth.scan.bodies import Thing
from retrim.zoo.synth.scan.scanner import Scan, scanned
from retrim.zoo.synth.scan.street import drawn_street

Progress = Callable[[int, int], None]

LEAST_POINTS = 5
"""On an object that is labelled by its class."""

_PARTS = ("train", "val")
_VISIBLE, _PARTLY = 0.8, 0.4  # parts of an object's rays, above which occlusion is 0 and 1
_MOST_TRUNCATION = 0.9
_PROJECTION = np.array(
    [
        [721.5377, 0.0, 609.5593, 44.85728],
        [0.0, 721.5377, 172.854, 0.2163791],
        [0.0, 0.0, 1.0, 0.002745884],
    ]
)
_AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # camera's of scanner's
_OFFSET = np.array([-0.004, -0.076, -0.272])
_TILT = np.deg2rad(0.3)  # standard deviation of the scanner's angles to the camera


@dataclass(frozen=True, eq=False)
class SyntheticFrame:
    """A scan with what belongs to it.

    Attributes
    ----------
    scan : Scan
    things : list of Thing
        All that stands in the street.
    calibration : Calibration
    labels : str
        Lines of the label file.
    """

    scan: Scan
    things: list[Thing]
    calibration: Calibration
    labels: str


def frame(seed: int, part: str, index: int) -> SyntheticFrame:
    """Frame `index` of "train" or "val": a function of these arguments alone."""
    generator = np.random.default_rng([seed, _PARTS.index(part), index])
    street = drawn_street(generator)
    calibration = _calibration(generator)
    scan = scanned(street, generator)
    return SyntheticFrame(scan, street.things, calibration, _labels(street.things, scan, calibration))


def synthesise(
    out: Path | str,
    *,
    training: int = 300,
    validation: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """Scan streets and write them as KITTI's object data.

    Parameters
    ----------
    out : Path
        Folder to make; it is there in whole or not at all.
    training, validation : int
        Scans to train on and held out.
    seed : int
        >= 0.
    progress : callable, optional
        Called with (scans done, scans in all).

    Returns
    -------
    Path
        `out`, with `training/velodyne`, `label_2` and `calib`, and
        `ImageSets/train.txt` and `val.txt`; no images.

    Raises
    ------
    ConfigError
        If an option is out of range.
    DataError
        If the folder is not empty, or cannot be written.
    """
    out = Path(out)
    _check(training, validation, seed)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"folder {str(out)!r} must be empty or new: remove it, or choose another")
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        _write_all(beside, (training, validation), seed, progress)
        os.replace(beside, out)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise DataError(
            f"folder {str(out)!r} cannot be written: {error.strerror or error}; free some space or choose another"
        ) from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return out


def _write_all(root: Path, counts: tuple[int, int], seed: int, progress: Progress | None) -> None:
    for name in ("training/velodyne", "training/label_2", "training/calib", "ImageSets"):
        (root / name).mkdir(parents=True)
    done = 0
    for part, count in zip(_PARTS, counts, strict=True):
        names = []
        for index in range(count):
            names.append(f"{done:06d}")
            _write(root / "training", names[-1], frame(seed, part, index))
            done += 1
            if progress is not None:
                progress(done, sum(counts))
        (root / "ImageSets" / f"{part}.txt").write_text("".join(f"{n}\n" for n in names), encoding="utf-8")


def _write(folder: Path, name: str, made: SyntheticFrame) -> None:
    (folder / "velodyne" / f"{name}.bin").write_bytes(made.scan.points.astype("<f4").tobytes())
    (folder / "label_2" / f"{name}.txt").write_text(made.labels, encoding="utf-8")
    (folder / "calib" / f"{name}.txt").write_text(made.calibration.text(), encoding="utf-8")


def _labels(things: list[Thing], scan: Scan, calibration: Calibration) -> str:
    returns = np.bincount(scan.owners[scan.owners >= 0], minlength=len(things))
    lines = []
    for number, thing in enumerate(things):
        if not thing.name or not scan.seen[number]:
            continue
        found = objects_of(thing.box[None], np.array([thing.name]), np.ones(1), calibration, IMAGE_SIZE)
        if not len(found) or found.truncation[0] > _MOST_TRUNCATION:
            continue
        share = scan.seen[number] / scan.alone[number]
        level = 0 if share > _VISIBLE else 1 if share > _PARTLY else 2
        found = replace(found, occlusion=np.array([level]))
        lines.append((found if returns[number] >= LEAST_POINTS else _dont_care(found)).text())
    return "".join(lines)


def _dont_care(found: Objects) -> Objects:
    """As KITTI writes what is there but too little seen: a rectangle, no place."""
    count = len(found)
    return replace(
        found,
        names=np.full(count, DONT_CARE),
        truncation=np.full(count, -1.0),
        occlusion=np.full(count, -1),
        alpha=np.full(count, -10.0),
        sizes=np.full((count, 3), -1.0),
        locations=np.full((count, 3), -1000.0),
        rotations=np.full(count, -10.0),
    )


def _calibration(generator: np.random.Generator) -> Calibration:
    """KITTI's camera, the scanner's axes off by some tenths of a degree."""
    roll, pitch, yaw = generator.normal(0, _TILT, 3)
    turn = _about(0, roll) @ _about(1, pitch) @ _about(2, yaw)
    return Calibration(
        projection=_PROJECTION,
        rectification=np.eye(3),
        transformation=np.column_stack((_AXES @ turn, _OFFSET)),
    )


def _about(axis: int, angle: float) -> np.ndarray:
    """Rotation about the x, y or z axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def _check(training: int, validation: int, seed: int) -> None:
    for name, value in (("training", training), ("validation", validation)):
        if value < 1:
            raise ConfigError(f"{name} must be a whole number >= 1, not {value}")
    if seed < 0:
        raise ConfigError(f"seed must be a whole number >= 0, not {seed}")
