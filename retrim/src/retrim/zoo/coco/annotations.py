"""Labels in one json for all images, as COCO publishes them.

What is read: `images` (id, file_name, width, height), `categories` (id, name),
`annotations` (image_id, category_id, bbox as left, top, width, height in pixels,
area, iscrowd).  Outlines are passed over.

References
----------
cocodataset.org, "Data format", sections 0 and 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from retrim.errors import DataError
from retrim.zoo.coco.dataset import CocoDataset, Frame
from retrim.zoo.coco.instances import Instances, clipped

_IMAGE = ("id", "file_name", "width", "height")
_CATEGORY = ("id", "name")
_ANNOTATION = ("image_id", "category_id", "bbox")

_LARGE = 2**63  # no number of a json is; NaN is not below it either

Row = tuple[tuple[float, float, float, float], int, bool, float]
"""Box, class, crowd, area."""


@dataclass(frozen=True, eq=False)
class JsonFrame(Frame):
    """An image that a json lists.

    Attributes
    ----------
    image : Path
    stated : (width, height)
    listed : Instances
    """

    stated: tuple[int, int]
    listed: Instances

    @property
    def size(self) -> tuple[int, int]:
        return self.stated

    @property
    def instances(self) -> Instances:
        return self.listed


def read_json(path: Path | str, images: Path | str) -> CocoDataset:
    """All images of an annotation file, in the order of their ids.

    Categories become classes 0, 1, … in the order of their ids. Boxes that have no
    width or no height are left out: COCO's train2017 has two.

    Parameters
    ----------
    path : Path
        `instances_val2017.json`.
    images : Path
        Folder that `file_name` is relative to.

    Raises
    ------
    DataError
        If the file or an entry is damaged, an id is unknown, or an image is missing; names the entry.
    """
    path, images = Path(path), Path(images)
    content = _parsed(path)
    classes = _classes(content["categories"], path)
    sizes, files = _images(content["images"], path, images)
    rows: dict[int, list[Row]] = {identity: [] for identity in files}
    for number, entry in enumerate(content["annotations"]):
        place = f"annotations {str(path)!r}, annotations[{number}],"
        _require(entry, _ANNOTATION, place)
        image = _known(entry["image_id"], sizes, "image_id", place)
        row = _row(entry, sizes[image], classes, place)
        if row is not None:
            rows[image].append(row)
    frames = [JsonFrame(files[key], sizes[key], _instances(rows[key])) for key in sorted(files)]
    return CocoDataset(frames, tuple(_category_names(content["categories"])))


def _parsed(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"annotations {str(path)!r} cannot be read: {error.strerror or error}; unpack COCO's annotations there"
        ) from error
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(
            f"annotations {str(path)!r} must be JSON, but are none{where}: copy the file again"
        ) from error
    keys = ("images", "annotations", "categories")
    absent = [key for key in keys if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if absent:
        raise DataError(
            f"annotations {str(path)!r} must be an object with lists {', '.join(keys)}, but lack {', '.join(absent)}: "
            "take a file like instances_val2017.json"
        )
    if not content["images"]:
        raise DataError(f"annotations {str(path)!r} must list at least one image, but list none")
    return {key: content[key] for key in keys}


def _classes(categories: list[Any], path: Path) -> dict[int, int]:
    """Class of each category id."""
    for number, entry in enumerate(categories):
        place = f"annotations {str(path)!r}, categories[{number}],"
        _require(entry, _CATEGORY, place)
        _whole(entry["id"], "id", place)
    ids = sorted(entry["id"] for entry in categories)
    if not ids or len(set(ids)) < len(ids):
        raise DataError(
            f"annotations {str(path)!r} must list categories with ids of their own, but list {len(ids)} with "
            f"{len(set(ids))} ids: number them apart"
        )
    return {identity: index for index, identity in enumerate(ids)}


def _category_names(categories: list[Any]) -> list[str]:
    return [str(entry["name"]) for entry in sorted(categories, key=lambda entry: int(entry["id"]))]


def _images(
    entries: list[Any], path: Path, folder: Path
) -> tuple[dict[int, tuple[int, int]], dict[int, Path]]:
    """Size and file of each image id."""
    sizes: dict[int, tuple[int, int]] = {}
    files: dict[int, Path] = {}
    for number, entry in enumerate(entries):
        place = f"annotations {str(path)!r}, images[{number}],"
        _require(entry, _IMAGE, place)
        identity, width, height = (_whole(entry[key], key, place) for key in ("id", "width", "height"))
        if identity in files:
            raise DataError(f"{place} must have an id of its own, not {identity} again: number it apart")
        if width < 1 or height < 1:
            raise DataError(f"{place} must have width and height > 0, not {width} x {height}: correct it")
        sizes[identity], files[identity] = (width, height), _file(entry["file_name"], folder, place)
    return sizes, files


def _file(name: Any, folder: Path, place: str) -> Path:
    parts = PurePosixPath(name) if isinstance(name, str) and name else None
    if parts is None or parts.is_absolute() or ".." in parts.parts:
        raise DataError(f"{place} must name an image below {str(folder)!r} in file_name, not {name!r}")
    if not _exists(folder / parts):
        raise DataError(
            f"{place} must name an image that exists, not {str(folder / parts)!r}: unpack COCO's images there"
        )
    return folder / parts


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _row(entry: dict[str, Any], size: tuple[int, int], classes: dict[int, int], place: str) -> Row | None:
    """One annotation; None where its box has no size."""
    kind = classes[_known(entry["category_id"], classes, "category_id", place)]
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(_finite(value) for value in box):
        raise DataError(f"{place} must have four finite numbers in bbox, not {box!r}: correct or drop it")
    left, top, width, height = (float(value) for value in box)
    if width < 0 or height < 0:
        raise DataError(f"{place} must have width and height >= 0 in bbox, not {box!r}: correct or drop it")
    crowd, area = entry.get("iscrowd", 0), entry.get("area", width * height)
    if crowd not in (0, 1):
        raise DataError(f"{place} must have 0 or 1 in iscrowd, not {crowd!r}: correct it")
    if not _finite(area) or area < 0:
        raise DataError(f"{place} must have a number >= 0 in area, not {area!r}: correct it")
    if width == 0 or height == 0:
        return None
    return clipped((left, top, left + width, top + height), size, place), kind, bool(crowd), float(area)


def _instances(rows: list[Row]) -> Instances:
    if not rows:
        return Instances.none()
    boxes, labels, crowd, area = zip(*rows, strict=True)
    return Instances.of(np.array(boxes), np.array(labels), np.array(crowd), np.array(area))


def _require(entry: Any, keys: tuple[str, ...], place: str) -> None:
    absent = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if absent:
        raise DataError(f"{place} must be an object with {', '.join(keys)}, but lacks {', '.join(absent)}")


def _known(identity: Any, known: dict[int, Any], key: str, place: str) -> int:
    if _whole(identity, key, place) not in known:
        raise DataError(
            f"{place} must have a {key} that the file lists, not {identity}: list it, or drop the entry"
        )
    return int(identity)


def _whole(value: Any, key: str, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= _LARGE:
        raise DataError(f"{place} must have a whole number in {key}, not {value!r}: correct it")
    return value


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGE
