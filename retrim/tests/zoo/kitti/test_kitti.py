"""KITTI: files, coordinates, overlaps and average precision, on made and on real frames."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from retrim.errors import DataError
from retrim.zoo.kitti import (
    TRAINING,
    average_precision,
    read_calibration,
    read_frames,
    read_objects,
    read_points,
)
from retrim.zoo.kitti.boxes import corners, inside, scanner_boxes
from retrim.zoo.kitti.metric import recall_thresholds
from retrim.zoo.kitti.objects import Objects, objects_from_rows
from retrim.zoo.kitti.overlap import bev_overlap, overlap_3d

LINE = "Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57"


@pytest.fixture
def real() -> Path:
    folder = Path(os.environ.get("RETRIM_DATA", Path(__file__).parents[5] / "shared" / "data")) / "kitti"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: real frames of KITTI")
    return folder


# --- files -----------------------------------------------------------------------------------


def test_labels_and_points_are_read(tmp_path: Path) -> None:
    label = tmp_path / "1.txt"
    label.write_text(
        LINE + "\nDontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10\n"
    )
    found = read_objects(label)
    assert found.names.tolist() == ["Car", "DontCare"]
    assert found.sizes[0].tolist() == [1.67, 1.87, 3.69]
    assert found.locations[0].tolist() == [-16.53, 2.39, 58.49]
    assert found.take(np.array([0])).text() == LINE + "\n"
    scan = np.arange(12, dtype=np.float32).reshape(3, 4)
    (tmp_path / "1.bin").write_bytes(scan.tobytes())
    np.testing.assert_array_equal(read_points(tmp_path / "1.bin"), scan)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (LINE[:-5], "must have 15 or 16 columns, not 14: fetch the file again"),
        (LINE.replace("58.49", "far"), "must hold a number in column 14, not 'far': fetch the file again"),
        (
            LINE.replace("3.69", "0"),
            "must have height, width and length > 0, not 1.67 1.87 0: correct the line, or name the object DontCare",
        ),
    ],
)
def test_a_bad_label_is_named_with_its_line(line: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "7.txt"
    path.write_text(LINE + "\n" + line + "\n")
    with pytest.raises(DataError) as caught:
        read_objects(path)
    assert str(caught.value) == f"label {str(path)!r}, line 2, {sentence}"


@pytest.mark.parametrize("content", [b"", b"12345"])
def test_a_bad_scan_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "7.bin"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_points(path)
    assert str(path) in str(caught.value)


def test_a_calibration_without_a_key_is_named(real: Path, tmp_path: Path) -> None:
    whole = next((real / "training" / "calib").glob("*.txt"))
    cut = tmp_path / "c.txt"
    cut.write_text("\n".join(line for line in whole.read_text().splitlines() if "Tr_velo" not in line))
    with pytest.raises(DataError) as caught:
        read_calibration(cut)
    assert "Tr_velo_to_cam" in str(caught.value)


# --- coordinates -------------------------------------------------------------------------------


def test_points_lie_in_the_boxes_of_real_frames(real: Path) -> None:
    """Proves the calibration: of everything visible near by, the box holds points of the scan."""
    seen = 0
    for frame in read_frames(real, TRAINING):
        objects = frame.objects
        near = (objects.names != "DontCare") & (objects.occlusion == 0) & (objects.locations[:, 2] < 40)
        for box in scanner_boxes(objects.take(near), frame.calibration):
            assert inside(frame.points(), box[None]).sum() > 20
            seen += 1
    assert seen > 2


def test_the_scanner_and_the_camera_agree(real: Path) -> None:
    calibration = read_calibration(next((real / "training" / "calib").glob("*.txt")))
    points = np.random.default_rng(0).normal(0, 10, (50, 3))
    np.testing.assert_allclose(calibration.to_scanner(calibration.to_camera(points)), points, atol=1e-9)


def test_corners_and_inside_agree() -> None:
    box = np.array([[3.0, -2.0, 0.5, 4.0, 1.6, 1.5, 0.7]])
    found = corners(box)[0]
    np.testing.assert_allclose(found.mean(axis=0), box[0, :3], atol=1e-12)
    towards = box[0, :3] + 0.999 * (found - box[0, :3])
    beyond = box[0, :3] + 1.001 * (found - box[0, :3])
    assert inside(towards, box).all()
    assert not inside(beyond, box).any()


# --- overlaps ------------------------------------------------------------------------------------


def rasterised(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union from above, by counting points of a fine grid."""
    axis = np.linspace(-6, 6, 1201)
    x, y = np.meshgrid(axis, axis)

    def covers(box: np.ndarray) -> np.ndarray:
        cos, sin = np.cos(box[4]), np.sin(box[4])
        along = cos * (x - box[0]) + sin * (y - box[1])
        across = -sin * (x - box[0]) + cos * (y - box[1])
        return (np.abs(along) <= box[2] / 2) & (np.abs(across) <= box[3] / 2)

    one, other = covers(first), covers(second)
    return float((one & other).sum() / (one | other).sum())


def test_overlap_from_above_against_a_raster() -> None:
    draw = np.random.default_rng(1)
    boxes = np.concatenate(
        [draw.uniform(-2, 2, (12, 2)), draw.uniform(0.5, 4, (12, 2)), draw.uniform(-4, 4, (12, 1))], axis=1
    )
    found = bev_overlap(boxes[:6], boxes[6:])
    for i in range(6):
        for j in range(6):
            assert found[i, j] == pytest.approx(rasterised(boxes[i], boxes[6 + j]), abs=0.01)


def test_overlaps_that_are_known() -> None:
    square = np.array([[0.0, 0, 2, 2, 0]])
    turned = np.array([[0.0, 0, 2, 2, np.pi / 4]])
    octagon = 8 * (np.sqrt(2) - 1)
    assert bev_overlap(square, turned)[0, 0] == pytest.approx(octagon / (8 - octagon))
    assert bev_overlap(square, np.array([[1.0, 0, 2, 2, np.pi / 2]]))[0, 0] == pytest.approx(1 / 3)
    assert bev_overlap(square, np.array([[5.0, 0, 2, 2, 0]]))[0, 0] == 0
    box = np.array([[0.0, 0, 0, 2, 2, 2, 0.3]])
    assert overlap_3d(box, box)[0, 0] == pytest.approx(1)
    assert overlap_3d(box, box + np.eye(7)[[2]])[0, 0] == pytest.approx(1 / 3)
    assert overlap_3d(box, box + 3 * np.eye(7)[[2]])[0, 0] == 0


# --- average precision ----------------------------------------------------------------------------


def cars(places: list[float], scores: list[float] | None = None, occlusion: int = 0) -> Objects:
    """Cars 100 pixels high, side by side."""
    rows = [
        [0, occlusion, 0, 100 + 10 * x, 100, 150 + 10 * x, 200, 1.5, 1.6, 4.0, x, 1.6, 20, 0.0]
        for x in places
    ]
    if scores is not None:
        rows = [[*row, score] for row, score in zip(rows, scores, strict=True)]
    return objects_from_rows(["Car"] * len(rows), rows)


def test_perfect_detections() -> None:
    """With 100 cars every recall point is reached."""
    places = [6.0 * n for n in range(100)]
    scores = np.linspace(0.9, 0.1, 100).tolist()
    for kind in ("3d", "bev", "image"):
        found = average_precision([cars(places)], [cars(places, scores)], "Car", kind)
        assert found == pytest.approx(100.0)


def test_an_alarm_before_everything_else_costs_its_share_everywhere() -> None:
    """Precision rises with recall up to 100 / 101, and counts with its maximum from there on."""
    places = [6.0 * n for n in range(100)]
    scores = np.linspace(0.8, 0.1, 100).tolist()
    found = average_precision([cars(places)], [cars([*places, -300.0], [*scores, 0.9])], "Car")
    assert found == pytest.approx(100 * 100 / 101)


def test_half_of_the_cars_found() -> None:
    places = [6.0 * n for n in range(80)]
    some = places[:40]
    found = average_precision([cars(places)], [cars(some, np.linspace(0.9, 0.1, 40).tolist())], "Car")
    assert found == pytest.approx(50.0, abs=1.3)


def test_hidden_cars_neither_count_nor_harm() -> None:
    seen, hidden = cars([0.0, 6.0]), cars([30.0], occlusion=2)
    both = Objects(
        **{k: np.concatenate([getattr(seen, k), getattr(hidden, k)]) for k in seen.__dataclass_fields__}
    )
    detections = cars([0.0, 6.0, 30.0], [0.9, 0.8, 0.95])
    alone = average_precision([seen], [cars([0.0, 6.0], [0.9, 0.8])], "Car", difficulty="moderate")
    assert average_precision([both], [detections], "Car", difficulty="moderate") == alone
    assert average_precision([hidden], [detections], "Car", difficulty="moderate") != alone


def test_thresholds_are_the_scores_nearest_to_each_recall() -> None:
    scores = np.random.default_rng(3).permutation(np.linspace(0.9, 0.1, 100))
    falling = np.sort(scores)[::-1]
    whole = recall_thresholds(scores, 100)
    assert len(whole) == 41
    for point, threshold in enumerate(whole[1:], 1):
        recall = (np.nonzero(falling == threshold)[0][0] + 1) / 100
        assert abs(recall - point / 40) <= 0.005 + 1e-9
    half = recall_thresholds(scores, 200)
    assert len(half) == 21
    assert half[-1] == falling[-1]


def test_nothing_to_find_is_no_number() -> None:
    assert np.isnan(average_precision([cars([])], [cars([0.0], [0.5])], "Car"))
    with pytest.raises(DataError) as caught:
        average_precision([cars([0.0])], [], "Car")
    assert str(caught.value) == "detections must be of the 1 frames that are labelled, not of 0"
