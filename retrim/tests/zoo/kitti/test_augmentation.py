"""Scans moved as a whole, and objects put in: points stay in their boxes."""

import numpy as np
import pytest

from retrim.errors import ConfigError
from retrim.zoo.kitti import TRAINING, Augmentation, read_frames
from retrim.zoo.kitti.augmentation import transformed
from retrim.zoo.kitti.bank import LEAST_POINTS, Bank
from retrim.zoo.kitti.boxes import corners, inside
from retrim.zoo.kitti.overlap import intersections
from retrim.zoo.synth.kitti import synthesise

CLASSES = ("Car", "Pedestrian", "Cyclist")


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = synthesise(tmp_path_factory.mktemp("data") / "kitti", training=4, validation=1, seed=2)
    return read_frames(folder, TRAINING)


def box(generator):
    return np.array([[8.0, 3.0, -1.0, 4.0, 1.6, 1.5, float(generator.uniform(-3, 3))]])


@pytest.mark.parametrize("mirrored", [False, True])
def test_points_keep_to_their_box(mirrored):
    generator = np.random.default_rng(0)
    boxes = box(generator)
    points = np.column_stack((boxes[0, :3] + generator.uniform(-3, 3, (500, 3)), generator.random(500)))
    moved, turned = transformed(points, boxes, mirrored=mirrored, angle=0.4, scale=1.03)
    np.testing.assert_array_equal(inside(moved, turned), inside(points, boxes))
    np.testing.assert_array_equal(moved[:, 3], points[:, 3])


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_front_stays_the_front(mirrored):
    """Corners of the moved box are the moved corners; mirroring swaps left and right."""
    boxes = box(np.random.default_rng(1))
    ends = corners(boxes)[0]
    padded = np.column_stack((ends, np.zeros(8)))
    moved, turned = transformed(padded, boxes, mirrored=mirrored, angle=-0.7, scale=0.96)
    order = [1, 0, 3, 2, 5, 4, 7, 6] if mirrored else list(range(8))
    np.testing.assert_allclose(moved[order, :3], corners(turned)[0], atol=1e-12)


def test_nothing_changes_without_ranges():
    still = Augmentation(mirror=0.0, rotation=0.0, scale=(1.0, 1.0))
    generator = np.random.default_rng(0)
    points, boxes = generator.normal(size=(20, 4)).astype(np.float32), box(generator)
    moved, turned = still.moved(points, boxes, np.random.default_rng(1))
    np.testing.assert_array_equal(moved, points)
    np.testing.assert_allclose(turned, boxes, atol=1e-12)


def test_ranges_are_kept_and_what_is_given_is_not_changed():
    generator = np.random.default_rng(0)
    points = np.array([[10.0, 0.0, -1.0, 0.5]])
    boxes = np.array([[10.0, 0.0, -1.0, 4.0, 1.6, 1.5, 0.0]])
    before = points.copy(), boxes.copy()
    angles, scales = [], []
    for _ in range(300):
        moved, turned = Augmentation().moved(points, boxes, generator)
        angles.append(np.arctan2(moved[0, 1], moved[0, 0]))
        scales.append(turned[0, 3] / 4)
    assert np.max(np.abs(angles)) == pytest.approx(np.pi / 4, rel=0.05)
    assert (np.min(scales), np.max(scales)) == (
        pytest.approx(0.95, abs=0.005),
        pytest.approx(1.05, abs=0.005),
    )
    np.testing.assert_array_equal(points, before[0])
    np.testing.assert_array_equal(boxes, before[1])


def test_the_bank_holds_all_objects_with_points(frames):
    bank = Bank.of(frames, CLASSES)
    count = 0
    for frame in frames:
        boxes, _ = frame.boxes(CLASSES)
        count += int((inside(frame.points(), boxes).sum(axis=1) >= LEAST_POINTS).sum())
    assert len(bank.boxes) == len(bank.kinds) == len(bank.points) == count > 10
    for one, points in zip(bank.boxes, bank.points, strict=True):
        assert inside(points, one[None]).all()


def test_a_scan_is_filled_up_with_objects_that_meet_no_other(frames):
    bank = Bank.of(frames, CLASSES)
    points = frames[0].points()
    boxes, kinds = frames[0].boxes(CLASSES)
    full, placed, named = bank.filled(points, boxes, kinds, 12, np.random.default_rng(0))
    np.testing.assert_array_equal(placed[: len(boxes)], boxes)
    assert len(placed) == len(named) > len(boxes)
    assert all((named == kind).sum() <= max(12, (kinds == kind).sum()) for kind in range(3))
    flat = placed[:, [0, 1, 3, 4, 6]]
    common = intersections(flat, flat)
    common[: len(boxes), : len(boxes)] = 0
    np.fill_diagonal(common, 0)
    assert not common.any()
    for one in placed[len(boxes) :]:  # the box holds the object's points and none of the scan's
        source = next(p for b, p in zip(bank.boxes, bank.points, strict=True) if (b == one).all())
        np.testing.assert_array_equal(full[inside(full, one[None])[0]], source)
    again = bank.filled(points, boxes, kinds, 12, np.random.default_rng(0))
    np.testing.assert_array_equal(again[0], full)


def test_nothing_is_put_in_where_nothing_is_missing(frames):
    bank = Bank.of(frames, CLASSES)
    points = frames[0].points()
    boxes, kinds = frames[0].boxes(CLASSES)
    same = bank.filled(points, boxes, kinds, 0, np.random.default_rng(0))
    assert same[0] is points
    assert same[1] is boxes


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mirror": 1.5}, "mirror must be a probability, not 1.5"),
        ({"rotation": -1}, "rotation must be an angle from 0 to pi, not -1"),
        ({"scale": (1.1, 0.9)}, "scale must be two rising numbers > 0, not (1.1, 0.9)"),
        ({"objects": -1}, "objects must be a whole number >= 0, not -1"),
    ],
)
def test_options_are_checked(options, sentence):
    with pytest.raises(ConfigError) as raised:
        Augmentation(**options)
    assert str(raised.value) == sentence
