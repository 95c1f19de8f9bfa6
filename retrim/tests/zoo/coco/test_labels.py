"""What damaged labels say."""

import json

import pytest

from retrim.errors import DataError
from retrim.zoo.coco import HELD_OUT, TRAINING, open_coco


def sentence_of_text(tmp_path):
    with pytest.raises(DataError) as raised:
        open_coco(tmp_path, TRAINING)[0]
    return str(raised.value)


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        (
            "0 0.5 0.5 0.5",
            "must have 5 columns, class and centre x, y, width, height, not 4: correct or drop it",
        ),
        (
            "0 0.1 0.1 0.2 0.1 0.2 0.2",
            "must have 5 columns, class and centre x, y, width, height, not 7: correct or drop it",
        ),
        ("0 0.5 x 0.5 0.5", "must hold a number in column 3, not 'x': correct or drop it"),
        ("0 0.5 0.5 0.5 nan", "must hold a number in column 5, not 'nan': correct or drop it"),
        (
            "80 0.5 0.5 0.5 0.5",
            "must begin with a class from 0 to 79, not '80': correct it, or give the names of all classes",
        ),
        (
            "-1 0.5 0.5 0.5 0.5",
            "must begin with a class from 0 to 79, not '-1': correct it, or give the names of all classes",
        ),
        (
            "1.0 0.5 0.5 0.5 0.5",
            "must begin with a class from 0 to 79, not '1.0': correct it, or give the names of all classes",
        ),
        ("0 0.5 0.5 0 0.5", "must have width and height > 0, not 0 0.5: drop it"),
        ("0 0.5 0.5 0.5 -0.1", "must have width and height > 0, not 0.5 -0.1: drop it"),
        (
            "0 32 24 10 10",
            "must hold numbers from 0 to 1, over the image's size, not 32 24 10 10: divide pixels by width and height",
        ),
        (
            "0 0.5 0.5 1.002 0.5",
            "must hold numbers from 0 to 1, over the image's size, not 0.5 0.5 1.002 0.5: divide pixels by width and "
            "height",
        ),
        (
            "0 0.9 0.5 0.24 0.5",
            "must hold a box inside its image of 64 x 48 pixels, not one from (49.9, 12.0) to (65.3, 36.0): correct or "
            "drop it",
        ),
        (
            "0 1 0.5 1e-9 0.5",
            "must hold a box that covers some of its image, not none of it: drop it",
        ),
    ],
)
def test_a_damaged_line_is_named(tmp_path, yolo, line, rest):
    path = yolo(f"0 0.5 0.5 0.5 0.5\n\n{line}\n")
    assert sentence_of_text(tmp_path) == f"label {str(path)!r}, line 3, {rest}"


def test_a_little_excess_is_cut(tmp_path, yolo):
    yolo("0 0.9 0.5 0.23 1.0009\n")
    box = open_coco(tmp_path, TRAINING)[0][1].boxes[0]
    assert box[1:].tolist() == [0, 64, 48]


def test_binary_files_are_no_text(tmp_path, yolo):
    path = yolo("")
    path.write_bytes(b"\xff\xfe\x80")
    assert sentence_of_text(tmp_path) == f"file {str(path)!r} cannot be read: it is no text; copy it again"


def sentence_of_json(tmp_path):
    with pytest.raises(DataError) as raised:
        open_coco(tmp_path, HELD_OUT)
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "rest"),
    [
        ({"image_id": 5}, "must have a image_id that the file lists, not 5: list it, or drop the entry"),
        (
            {"category_id": 1},
            "must have a category_id that the file lists, not 1: list it, or drop the entry",
        ),
        ({"category_id": "3"}, "must have a whole number in category_id, not '3': correct it"),
        ({"bbox": [1, 2, 3]}, "must have four finite numbers in bbox, not [1, 2, 3]: correct or drop it"),
        (
            {"bbox": [1, 2, 3, float("nan")]},
            "must have four finite numbers in bbox, not [1, 2, 3, nan]: correct or drop it",
        ),
        ({"bbox": [1, 2, 10**30, 4]}, f"must have four finite numbers in bbox, not [1, 2, {10**30}, 4]: "),
        (
            {"bbox": [5, 5, -1, 4]},
            "must have width and height >= 0 in bbox, not [5, 5, -1, 4]: correct or drop it",
        ),
        (
            {"bbox": [60, 5, 6, 4]},
            "must hold a box inside its image of 64 x 48 pixels, not one from (60.0, 5.0) to (66.0, 9.0): correct or "
            "drop it",
        ),
        ({"iscrowd": 2}, "must have 0 or 1 in iscrowd, not 2: correct it"),
        ({"area": -1}, "must have a number >= 0 in area, not -1: correct it"),
    ],
)
def test_a_damaged_annotation_is_named(tmp_path, annotated, content, change, rest):
    content["annotations"][1].update(change)
    path = annotated(content)
    assert sentence_of_json(tmp_path).startswith(f"annotations {str(path)!r}, annotations[1], {rest}")


@pytest.mark.parametrize(
    ("change", "rest"),
    [
        ({"id": 9}, "must have an id of its own, not 9 again: number it apart"),
        ({"width": 0}, "must have width and height > 0, not 0 x 48: correct it"),
        ({"height": True}, "must have a whole number in height, not True: correct it"),
        ({"file_name": "../a.jpg"}, "must name an image below {folder} in file_name, not '../a.jpg'"),
        ({"file_name": "/a.jpg"}, "must name an image below {folder} in file_name, not '/a.jpg'"),
        ({"file_name": 7}, "must name an image below {folder} in file_name, not 7"),
        ({"file_name": "x" * 300}, "must name an image that exists, not "),
        ({"file_name": "c.jpg"}, "must name an image that exists, not {image}: unpack COCO's images there"),
    ],
)
def test_a_damaged_image_entry_is_named(tmp_path, annotated, content, change, rest):
    content["images"][1].update(change)
    path, folder = annotated(content), tmp_path / "val2017"
    rest = rest.format(folder=repr(str(folder)), image=repr(str(folder / "c.jpg")))
    assert sentence_of_json(tmp_path).startswith(f"annotations {str(path)!r}, images[1], {rest}")


@pytest.mark.parametrize(
    ("changed", "rest"),
    [
        ('{"images": [', " must be JSON, but are none (line 1): copy the file again"),
        ("[" * 100_000, " must be JSON, but are none: copy the file again"),
        (
            "[]",
            " must be an object with lists images, annotations, categories, but lack images, annotations, categories: "
            "take a file like instances_val2017.json",
        ),
        (
            {"annotations": {}},
            " must be an object with lists images, annotations, categories, but lack annotations: take a file like "
            "instances_val2017.json",
        ),
        ({"images": []}, " must list at least one image, but list none"),
        (
            {"images": [{"id": 1}]},
            ", images[0], must be an object with id, file_name, width, height, but lacks file_name, width, height",
        ),
        (
            {"annotations": [7]},
            ", annotations[0], must be an object with image_id, category_id, bbox, but lacks image_id, category_id, "
            "bbox",
        ),
        (
            {"categories": [{"id": 3, "name": "a"}, {"id": 3, "name": "b"}]},
            " must list categories with ids of their own, but list 2 with 1 ids: number them apart",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path, annotated, content, changed, rest):
    path = annotated(changed if isinstance(changed, str) else {**content, **changed})
    assert sentence_of_json(tmp_path) == f"annotations {str(path)!r}{rest}"


def test_what_else_a_file_holds_is_passed_over(tmp_path, annotated, content):
    content["info"] = {"year": 2017}
    content["annotations"][0]["segmentation"] = [[1, 2, 3]]
    del content["annotations"][0]["iscrowd"], content["annotations"][0]["area"]
    path = annotated(json.dumps(content))
    assert path.is_file()
    instances = open_coco(tmp_path, HELD_OUT)[1][1]
    assert instances.area[0] == 200
    assert not instances.crowd[0]
