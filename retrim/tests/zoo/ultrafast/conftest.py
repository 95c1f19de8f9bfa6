"""Where the real data is, and tiny folders in its layouts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def data() -> Path:
    root = os.environ.get("RETRIM_DATA") or Path(__file__).parents[5] / "shared" / "data"
    folder = Path(root) / "tusimple"
    if not folder.is_dir():
        pytest.skip(f"TuSimple's frames are not in {folder}; set RETRIM_DATA to the folder of the data")
    return folder


@pytest.fixture
def write():
    """Write a label file and the images that it names."""

    def write(path: Path, labels: list[dict], size=(128, 72)) -> Path:
        for label in labels:
            image = path.parent / label["raw_file"]
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (90, 90, 90)).save(image)
        path.write_text("".join(json.dumps(label) + "\n" for label in labels))
        return path

    return write


@pytest.fixture
def label():
    """A label of two straight lanes, at rows 20, 30, …, 70."""

    def label(name="clips/a/20.jpg"):
        rows = np.arange(20, 72, 10)
        return {
            "lanes": [[-2, *(60 - rows[1:] // 2).tolist()], (64 + rows // 2).tolist()],
            "h_samples": rows.tolist(),
            "raw_file": name,
        }

    return label
