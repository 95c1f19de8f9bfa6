"""Lists of frames, calibrations and images: what damaged ones say."""

import re

import numpy as np
import pytest
from PIL import Image

from retrim.errors import DataError
from retrim.zoo.kitti import (
    HELD_OUT,
    TRAINING,
    Calibration,
    Frame,
    read_calibration,
    read_frames,
    read_points,
)

P2 = "P2: 700 0 600 40 0 700 180 0.2 0 0 1 0.003"
R0 = "R0_rect: 1 0 0 0 1 0 0 0 1"
TR = "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "training/velodyne").mkdir(parents=True)
    for index in range(11):
        (tmp_path / f"training/velodyne/{index:06d}.bin").write_bytes(bytes(16))
    return tmp_path


def names(frames):
    return [int(frame.name) for frame in frames]


def test_without_lists_every_fifth_is_held_out(folder):
    assert names(read_frames(folder, TRAINING)) == [0, 1, 2, 3, 5, 6, 7, 8, 10]
    assert names(read_frames(folder, HELD_OUT)) == [4, 9]


def test_lists_name_the_frames(folder):
    (folder / "ImageSets").mkdir()
    (folder / "ImageSets/train.txt").write_text("000007\n\n000001\n")
    (folder / "ImageSets/val.txt").write_text("000003\n")
    assert names(read_frames(folder, TRAINING)) == [7, 1]
    assert names(read_frames(folder, HELD_OUT)) == [3]


def test_damaged_lists_are_named(folder):
    (folder / "ImageSets").mkdir()
    path = folder / "ImageSets/train.txt"
    with pytest.raises(DataError) as raised:
        read_frames(folder, TRAINING)
    assert str(raised.value) == (
        f"list {str(path)!r} cannot be read: No such file or directory; name frames there, one a line"
    )
    path.write_text("000001\n000099\n")
    with pytest.raises(DataError) as raised:
        read_frames(folder, TRAINING)
    assert str(raised.value) == (
        f"list {str(path)!r}, line 2, must name a scan that exists, not '000099': unpack the scan, or remove the line"
    )
    path.write_text("\n")
    with pytest.raises(DataError) as raised:
        read_frames(folder, TRAINING)
    assert (
        str(raised.value) == f"list {str(path)!r} must name at least one frame: name frames there, one a line"
    )


def test_too_few_scans_and_none_are_named(folder, tmp_path):
    for index in range(2, 11):
        (folder / f"training/velodyne/{index:06d}.bin").unlink()
    with pytest.raises(DataError) as raised:
        read_frames(folder, HELD_OUT)
    assert str(raised.value) == (
        f"data folder {str(folder)!r} must hold at least 5 scans where no lists divide them, not 2: add scans, or name "
        "frames in ImageSets/train.txt and ImageSets/val.txt"
    )
    with pytest.raises(DataError) as raised:
        read_frames(tmp_path / "nowhere", TRAINING)
    assert str(raised.value) == (
        f"data folder {str(tmp_path / 'nowhere')!r} must hold training/velodyne, training/label_2 and training/calib: "
        "unpack KITTI's object data there, or make scans by `retrim data synth-kitti`"
    )


def test_a_calibration_is_read_and_written(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text(f"P0: 1 2\n{P2}\n{R0}\n{TR}\n")
    found = read_calibration(path)
    np.testing.assert_array_equal(found.to_camera(np.array([[10.0, 2.0, 1.0]])), [[-2.0, -1.08, 9.73]])
    path.write_text(found.text())
    again = read_calibration(path)
    np.testing.assert_allclose(again.matrix, found.matrix, atol=1e-12)
    np.testing.assert_allclose(again.projection, found.projection, atol=1e-12)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([P2, R0], " must hold Tr_velo_to_cam: fetch it again"),
        (["P2: 1 2 3", R0, TR], ", line 1, must hold 12 numbers after P2: fetch it again"),
        (
            [P2, R0.replace("0 1 0", "0 x 0"), TR],
            ", line 2, must hold 9 numbers after R0_rect: fetch it again",
        ),
        (
            [P2, R0, TR.replace("1 0 0 -0.27", "nan 0 0 1")],
            ", line 3, must hold 12 numbers after Tr_velo_to_cam: ",
        ),
        (
            [P2, "R0_rect: 1 0 0 1 0 0 0 0 1", TR],
            ", line 2, must hold a matrix R0_rect that can be inverted: ",
        ),
        ([], " must hold P2, R0_rect, Tr_velo_to_cam: fetch it again"),
    ],
)
def test_a_damaged_calibration_is_named(lines, sentence, tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=re.escape(f"calibration {str(path)!r}{sentence}")):
        read_calibration(path)


def test_binary_files_are_no_text(tmp_path):
    path = tmp_path / "c.txt"
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(DataError) as raised:
        read_calibration(path)
    assert str(raised.value) == (
        f"calibration {str(path)!r} cannot be read: it is no text; unpack KITTI's calib files there"
    )


def test_numbers_of_a_scan_are_finite(tmp_path):
    points = np.zeros((3, 4), dtype=np.float32)
    points[1, 2] = np.nan
    path = tmp_path / "s.bin"
    path.write_bytes(points.tobytes())
    with pytest.raises(DataError) as raised:
        read_points(path)
    assert (
        str(raised.value)
        == f"scan {str(path)!r} must hold finite numbers, but point 1 does not: fetch it again"
    )


def test_the_image_gives_its_size_and_need_not_be_there(folder):
    frame = Frame(folder / "training", "000000")
    assert frame.image_size == (1242, 375)
    frame = Frame(folder / "training", "000001")
    frame.image.parent.mkdir()
    Image.new("L", (60, 20)).save(frame.image)
    assert frame.image_size == (60, 20)
    frame = Frame(folder / "training", "000002")
    frame.image.write_bytes(b"no picture")
    with pytest.raises(DataError) as raised:
        frame.image_size  # noqa: B018
    assert str(raised.value) == (
        f"image {str(frame.image)!r} must be a whole picture (UnidentifiedImageError): fetch it again, or remove it"
    )


def test_points_out_of_the_picture_are_not_seen():
    calibration = Calibration(
        projection=np.array([[100.0, 0, 50, 0], [0, 100, 20, 0], [0, 0, 1, 0]]),
        rectification=np.eye(3),
        transformation=np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]),
    )
    points = np.array([[10.0, 0, 0, 0], [-10, 0, 0, 0], [10, 4.9, 0, 0], [10, 5.1, 0, 0], [10, 0, 2.1, 0]])
    assert calibration.in_view(points, (100, 40)).tolist() == [True, False, True, False, False]
