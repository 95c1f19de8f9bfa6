from pathlib import Path

import numpy as np
import pytest

from retrim.zoo.tusimple import Frame
from retrim.zoo.ultrafast.lanes import continued, labels, moved, ordered, sampled

ROWS = np.arange(160.0, 720.0, 10.0)
SIZE = (1280, 720)


def frame(*lanes):
    columns = np.array([np.where((lane >= 0) & (lane < 1280), lane, -2) for lane in lanes])
    return Frame(Path("x"), "x", ROWS, columns.reshape(len(lanes), len(ROWS)))


def towards(bottom, top=640.0):
    """A straight lane from (top, 240) to (bottom, 720); absent above row 260."""
    lane = top + (bottom - top) * (ROWS - 240) / 480
    return np.where(ROWS >= 260, lane, -2)


def where(slots, y=400):
    return [float(np.interp(y, points[:, 1], points[:, 0])) if len(points) else None for points in slots]


def test_lanes_are_ordered_from_left_to_right():
    far_left, left, right = towards(-900), towards(100), towards(1200)
    slots = ordered(frame(right, far_left, left), SIZE, 4)
    found = where(slots, 300)
    assert found[:3] == pytest.approx([448, 572, 710], abs=1) and found[3] is None


def test_one_lane_on_each_side_takes_the_inner_slots():
    assert [len(points) > 0 for points in ordered(frame(towards(1200), towards(100)), SIZE, 4)] == [
        False,
        True,
        True,
        False,
    ]


def test_the_two_nearest_of_a_side_are_kept():
    lanes = [towards(x) for x in (800, 1100, 1900)]
    assert where(ordered(frame(*lanes), SIZE, 4), 300)[2:] == pytest.approx([660, 697.5], abs=1)


def test_short_lanes_have_no_slot():
    short = np.where((ROWS >= 600) & (ROWS < 660), 400.0, -2)
    assert not any(len(points) for points in ordered(frame(short), SIZE, 4))
    assert not any(len(points) for points in ordered(frame(), SIZE, 4))


def test_sampling_an_unmoved_lane_gives_it_back():
    (points,) = [points for points in ordered(frame(towards(1200)), SIZE, 4) if len(points)]
    np.testing.assert_allclose(sampled(points, ROWS, 1280), frame(towards(1200)).lanes[0])
    assert (sampled(np.zeros((0, 2)), ROWS, 1280) == -2).all()


def test_moving_is_of_pixel_centres_and_keeps_rows_increasing():
    points = np.array([[10.0, 20.0], [30.0, 40.0]])
    mirrored = moved(points, np.array([[-1.0, 0, 100], [0, 1, 0]]))
    np.testing.assert_allclose(mirrored, [[89, 20], [69, 40]])
    upside_down = moved(points, np.array([[1.0, 0, 0], [0, -1, 100]]))
    np.testing.assert_allclose(upside_down, [[30, 59], [10, 79]])


def test_a_lane_is_continued_as_far_as_the_image_goes():
    whole = frame(towards(1500)).lanes[0]
    cut = np.where(ROWS <= 450, whole, -2)
    np.testing.assert_allclose(continued(cut, ROWS, 1280), whole, atol=1e-6)
    short = np.where((ROWS >= 300) & (ROWS <= 340), whole, -2)
    np.testing.assert_array_equal(continued(short, ROWS, 1280), short)
    to_the_bottom = frame(towards(900)).lanes[0]
    np.testing.assert_array_equal(continued(to_the_bottom, ROWS, 1280), to_the_bottom)


def test_labels_are_cells():
    found = labels(np.array([[0.0, 12.0, 13.0, 1279.0, -2.0]]), 1280, 100)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found[:, 0], [0, 0, 1, 98, 100])
