"""Tiny folders in both layouts, and COCO's real images where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrim.zoo.coco import Instances


@pytest.fixture
def data() -> Path:
    """128 images of COCO's train2017 and of its val2017."""
    root = os.environ.get("RETRIM_DATA") or Path(__file__).parents[5] / "shared" / "data"
    folder = Path(root) / "coco128"
    if not folder.is_dir():
        pytest.skip(f"COCO's images are not in {folder}; set RETRIM_DATA to the folder of the data")
    return folder


@pytest.fixture
def picture():
    """Write a picture of one colour."""

    def picture(path: Path, size=(64, 48), colour=(200, 30, 90)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)
        return path

    return picture


@pytest.fixture
def yolo(tmp_path, picture):
    """`images/train2017` and `labels/train2017` with one image, labelled by the given text."""

    def yolo(text: str | None) -> Path:
        picture(tmp_path / "images/train2017/a.jpg")
        labels = tmp_path / "labels/train2017"
        labels.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (labels / "a.txt").write_text(text)
        return labels / "a.txt"

    return yolo


@pytest.fixture
def content():
    """What an annotation file of two images and two categories holds."""
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", "width": 64, "height": 48},
            {"id": 4, "file_name": "a.jpg", "width": 64, "height": 48},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 90, "bbox": [2, 3, 10, 20], "area": 150.5, "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 64.4, 48], "area": 900, "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 3, "bbox": [5, 5, 7, 0.0], "area": 0, "iscrowd": 0},
        ],
    }


@pytest.fixture
def annotated(tmp_path, picture):
    """Write an annotation file of val2017 and its images."""

    def annotated(content: dict | str) -> Path:
        for name in ("a.jpg", "b.jpg"):
            picture(tmp_path / "val2017" / name)
        path = tmp_path / "annotations/instances_val2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return annotated


@pytest.fixture
def drawn():
    """An image of coloured rectangles on black that do not meet, and their boxes; labels tell the colours."""

    def drawn(seed: int, size=(320, 240)) -> tuple[np.ndarray, Instances]:
        generator = np.random.default_rng(seed)
        image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
        boxes = []
        for label in range(3):
            left, top = label * 105 + generator.integers(2, 30), generator.integers(2, 150)
            right, bottom = left + generator.integers(30, 70), top + generator.integers(30, 88)
            image[top:bottom, left:right, label] = 255
            boxes.append([left, top, right, bottom])
        return image, Instances.of(np.array(boxes), np.arange(3))

    return drawn
