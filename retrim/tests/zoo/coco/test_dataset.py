"""Both layouts, and pictures of all kinds."""

import numpy as np
import pytest
from PIL import Image

from retrim.errors import DataError
from retrim.zoo.coco import (
    HELD_OUT,
    NAMES,
    TRAINING,
    CocoDataset,
    Instances,
    open_coco,
    read_image,
    read_yolo,
)
from retrim.zoo.coco.yolo import YoloFrame


def test_the_names_are_80_of_their_own():
    assert len(NAMES) == len(set(NAMES)) == 80
    assert (NAMES[0], NAMES[37], NAMES[-1]) == ("person", "surfboard", "toothbrush")


def test_text_files_give_boxes_in_pixels(tmp_path, yolo, picture):
    yolo("2 0.5 0.25 0.5 0.5\n\n79 0.9 0.5 0.2004 1\n")
    picture(tmp_path / "images/train2017/b.jpg")
    dataset = open_coco(tmp_path, TRAINING)
    assert isinstance(dataset, CocoDataset)
    assert (len(dataset), dataset.names) == (2, NAMES)
    image, instances = dataset[0]
    assert (image.shape, image.dtype) == ((48, 64, 3), np.uint8)
    np.testing.assert_allclose(instances.boxes, [[16, 0, 48, 24], [51.1872, 0, 64, 48]], rtol=1e-6)
    assert instances.boxes.dtype == np.float32
    assert instances.labels.tolist() == [2, 79]
    assert instances.labels.dtype == np.int64
    assert instances.crowd.tolist() == [False, False]
    np.testing.assert_allclose(instances.area, [32 * 24, 12.8128 * 48], rtol=1e-5)
    assert len(dataset[1][1]) == 0  # no text file, no objects
    assert [len(truth) for truth in dataset.truths()] == [2, 0]


@pytest.mark.parametrize(
    "layout", ["images/{}|labels/{}", "{}/images|{}/labels", "images/{}2014|labels/{}2014"]
)
def test_folders_of_text_files_are_found(tmp_path, picture, layout):
    for split, count in ((TRAINING, 3), (HELD_OUT, 2)):
        images, labels = layout.replace("{}", split).split("|")
        (tmp_path / labels).mkdir(parents=True)
        for index in range(count):
            picture(tmp_path / images / f"{index}.jpg")
    assert [len(open_coco(tmp_path, split)) for split in (TRAINING, HELD_OUT)] == [3, 2]


def test_labels_that_are_of_no_image(tmp_path, yolo, picture):
    yolo(None)
    (tmp_path / "labels/train2017/a.jpg.txt").write_text("2 0.5 0.25 0.5 0.5\n")
    with pytest.raises(DataError) as raised:
        open_coco(tmp_path, TRAINING)
    assert str(raised.value) == (
        f"labels of {str(tmp_path / 'labels/train2017')!r} must be called as their images, 'a.txt', but are called like "
        "'a.jpg.txt': rename them"
    )


def test_pictures_of_16_bits_are_scaled(tmp_path):
    ramp = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    found = read_image(tmp_path / "deep.png")
    assert (found.shape, found.dtype) == ((48, 64, 3), np.uint8)
    np.testing.assert_array_equal(found[..., 1], np.round(ramp / 257))


def test_names_of_classes_lie_beside(tmp_path, yolo):
    yolo("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n\n")
    assert open_coco(tmp_path, TRAINING).names == ("cat", "dog")
    folders = tmp_path / "images/train2017", tmp_path / "labels/train2017"
    assert read_yolo(*folders, ["x", "y"])[0][1].labels.tolist() == [1]
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(DataError) as raised:
        open_coco(tmp_path, TRAINING)
    assert str(raised.value) == "names must be those of at least one class, but are none: give one a line"


@pytest.mark.parametrize("split", ["val", "val2017"])
def test_a_json_gives_boxes_in_order_of_ids(tmp_path, annotated, content, split):
    annotated(content)
    dataset = open_coco(tmp_path, split)
    assert dataset.names == ("car", "toothbrush")
    assert [frame.image.name for frame in dataset.frames] == ["a.jpg", "b.jpg"]
    assert len(dataset[0][1]) == 0
    image, instances = dataset[1]
    assert image.shape == (48, 64, 3)
    np.testing.assert_array_equal(instances.boxes, np.float32([[2, 3, 12, 23], [0, 0, 64, 48]]))
    assert instances.labels.tolist() == [1, 0]
    assert instances.crowd.tolist() == [False, True]
    assert instances.area.tolist() == [150.5, 900]
    assert instances.single().labels.tolist() == [1]


def test_a_json_goes_first(tmp_path, annotated, content, picture):
    annotated(content)
    picture(tmp_path / "images/val2017/z.jpg")
    (tmp_path / "labels/val2017").mkdir(parents=True)
    assert len(open_coco(tmp_path, HELD_OUT)) == 2


def test_a_folder_without_a_layout_is_named(tmp_path):
    with pytest.raises(DataError) as raised:
        open_coco(tmp_path, "val")
    assert str(raised.value) == (
        f"data folder {str(tmp_path)!r} must hold annotations/instances_val.json and val/, or images/val/ and "
        "labels/val/, or val/images/ and val/labels/ (or val2017, val2014), but holds none of them: unpack COCO there"
    )
    with pytest.raises(DataError) as raised:
        open_coco(tmp_path / "none", "val")
    assert str(raised.value) == f"data folder {str(tmp_path / 'none')!r} must be a folder that exists"
    for name in ("images", "labels"):
        (tmp_path / name / "val").mkdir(parents=True)
    with pytest.raises(DataError) as raised:
        open_coco(tmp_path, "val")
    assert str(raised.value) == (
        f"data folder {str(tmp_path / 'images/val')!r} must hold images (.jpg, .jpeg, .png), but holds none"
    )
    with pytest.raises(DataError) as raised:
        read_yolo(tmp_path / "images/val", tmp_path / "none")
    assert str(raised.value) == f"data folder {str(tmp_path / 'none')!r} must be a folder that exists"


@pytest.mark.parametrize(("mode", "colour"), [("L", 120), ("CMYK", (0, 0, 0, 135)), ("RGB", (120, 120, 120))])
def test_pictures_of_all_kinds_become_rgb(tmp_path, mode, colour):
    path = tmp_path / "a.jpg"
    Image.new(mode, (9, 5), colour).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((5, 9, 3), np.uint8)
    assert np.abs(image.astype(int) - 120).max() <= 2
    assert image.flags.writeable


def test_damaged_pictures_are_named(tmp_path):
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    for damaged, why in ((path, "OSError"), (tmp_path / "none.jpg", "FileNotFoundError")):
        with pytest.raises(DataError) as raised:
            read_image(damaged)
        assert str(raised.value) == (
            f"image {str(damaged)!r} must be a whole JPEG or PNG file, but cannot be read ({why}): copy it again"
        )
    path.write_text("no picture")
    frame = YoloFrame(path, tmp_path / "a.txt", 80)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 1 1")
    with pytest.raises(DataError, match="UnidentifiedImageError"):
        frame.instances  # noqa: B018


def test_an_image_of_another_size_is_named(tmp_path, annotated, content, picture):
    annotated(content)
    path = picture(tmp_path / "val2017/a.jpg", (48, 64))
    with pytest.raises(DataError) as raised:
        open_coco(tmp_path, HELD_OUT)[0]
    assert str(raised.value) == (
        f"image {str(path)!r} must be as large as its labels say, 64 x 48, not 48 x 64: copy it again"
    )


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            ([[5, 5, 5, 9]], [0]),
            "boxes must be finite, with right > left and bottom > top: drop those that are not",
        ),
        (([[1, 1, 5, 9]], [0, 1]), "labels must be one for each of the 1 boxes, not 2"),
        (([[1, 1, 5, 9]], [0], [True, False]), "crowd must be one for each of the 1 boxes, not 2"),
    ],
)
def test_instances_are_checked(columns, sentence):
    with pytest.raises(DataError) as raised:
        Instances.of(*(np.array(column) for column in columns))
    assert str(raised.value) == sentence


def test_real_images(data):
    training, held_out = open_coco(data, TRAINING), open_coco(data, HELD_OUT)
    assert (len(training), len(held_out)) == (128, 128)
    assert [sum(len(t) for t in d.truths()) for d in (training, held_out)] == [929, 898]
    image, instances = training[0]
    assert image.shape == (480, 640, 3)
    np.testing.assert_allclose(instances.boxes[0], [1.08, 187.69, 612.67, 473.53], atol=0.01)
    assert [training.names[label] for label in instances.labels[:3]] == ["bowl", "bowl", "broccoli"]
    grey = []
    for index, frame in enumerate(held_out.frames):
        with Image.open(frame.image) as opened:
            if opened.mode == "L":
                grey.append(index)
    assert len(grey) == 1
    assert held_out[grey[0]][0].shape[2] == 3
