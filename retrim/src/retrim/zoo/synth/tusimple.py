"""Road scenes in TuSimple's layout.

Not modelled: junctions, rain and night, several frames of a clip, a camera that
rolls; see docs/retrim/zoo/ultrafast.md.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from retrim.errors import ConfigError, DataError
from retrim.zoo.synth.road.scene import Scene, draw_scene
from retrim.zoo.tusimple.frame import H_SAMPLES

Progress = Callable[[int, int], None]

_PARTS = ("train", "val")
_QUALITY = 90


def scene(seed: int, part: str, index: int, size: tuple[int, int] = (1280, 720)) -> Scene:
    """Scene `index` of "train" or "val": a function of these arguments alone."""
    rows = np.array(H_SAMPLES) * size[1] // 720
    return draw_scene(np.random.default_rng([seed, _PARTS.index(part), index]), size, rows)


def synthesise(
    out: Path | str,
    *,
    training: int = 600,
    validation: int = 200,
    seed: int = 0,
    size: tuple[int, int] = (1280, 720),
    progress: Progress | None = None,
) -> Path:
    """Draw road scenes and write them as TuSimple's data set.

    Parameters
    ----------
    out : Path
        Folder to make; it is there in whole or not at all.
    training, validation : int
        Images to train on and held out.
    seed : int
        >= 0.
    size : (width, height)
        Of the images in pixels.
    progress : callable, optional
        Called with (images done, images in all).

    Returns
    -------
    Path
        `out`, with `label_data_synth_train.json`, `label_data_synth_val.json`,
        `test_label.json` (the same as the latter) and `clips/`.

    Raises
    ------
    ConfigError
        If an option is out of range.
    DataError
        If the folder is not empty, or cannot be written.
    """
    out = Path(out)
    _check(training, validation, seed, size)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"folder {str(out)!r} must be empty or new: remove it, or choose another")
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    done, total = 0, training + validation
    try:
        beside.mkdir(parents=True)
        for part, count in zip(_PARTS, (training, validation), strict=True):
            lines = []
            for index in range(count):
                lines.append(_write(beside, part, index, scene(seed, part, index, size)))
                done += 1
                if progress is not None:
                    progress(done, total)
            (beside / f"label_data_synth_{part}.json").write_text("".join(lines), encoding="utf-8")
        shutil.copyfile(beside / "label_data_synth_val.json", beside / "test_label.json")
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


def _write(root: Path, part: str, index: int, made: Scene) -> str:
    """Write the image; give the line of its label."""
    name = f"clips/synth_{part}/{index:05d}/20.jpg"
    path = root / name
    path.parent.mkdir(parents=True)
    made.image.save(path, quality=_QUALITY)
    label = {"lanes": made.lanes.tolist(), "h_samples": made.rows.tolist(), "raw_file": name}
    return json.dumps(label) + "\n"


def _check(training: int, validation: int, seed: int, size: tuple[int, int]) -> None:
    for name, value in (("training", training), ("validation", validation)):
        if value < 1:
            raise ConfigError(f"{name} must be a whole number >= 1, not {value}")
    if seed < 0:
        raise ConfigError(f"seed must be a whole number >= 0, not {seed}")
    if size[0] < 160 or size[1] < 90:
        raise ConfigError(f"size must be at least 160 x 90, not {size[0]} x {size[1]}")
