from pathlib import Path

import numpy as np
import pytest
import torch

from retrim.zoo.tusimple import Frame
from retrim.zoo.ultrafast import Config
from retrim.zoo.ultrafast.decoding import at_rows, columns, decode
from retrim.zoo.ultrafast.lanes import labels


def certain(cells, count):
    """Logits that choose these cells, shape (1, count + 1, anchors, lanes)."""
    logits = torch.full((1, count + 1, *cells.shape), -40.0)
    return logits.scatter(1, torch.from_numpy(cells)[None, None], 40.0)


def test_certain_logits_give_the_middle_of_their_cell():
    x = columns(certain(np.array([[0], [49], [98], [100]]), 100), 1280)
    np.testing.assert_allclose(x[0, 0], [0.5 * 1280 / 99, 49.5 * 1280 / 99, 98.5 * 1280 / 99, -2])


def test_labels_and_decoding_are_inverse_to_half_a_cell():
    x = np.array([[0.0, 100, 640, 1279, -2]])
    found = columns(certain(labels(x, 1280, 100), 100), 1280)[0]
    assert np.abs(found - x)[0, :4].max() <= 0.5 * 1280 / 99
    assert found[0, 4] == -2


def test_an_expectation_lies_between_cells():
    logits = certain(np.array([[4]]), 100)
    logits[0, 5] = 40.0
    assert columns(logits, 99)[0, 0, 0] == pytest.approx(5.0)


def slow(lane, anchors, row):
    """A row between two anchors, both there; or on one that is."""
    for anchor, x in zip(anchors, lane, strict=True):
        if row == anchor:
            return x
    for first, second, x, y in zip(anchors, anchors[1:], lane, lane[1:], strict=False):
        if first < row < second and x >= 0 and y >= 0:
            return x + (row - first) / (second - first) * (y - x)
    return -2


def test_rows_between_anchors_are_interpolated():
    random = np.random.default_rng(0)
    anchors = np.arange(10.0, 80.0, 10.0)
    rows = np.array([0.0, 5, 10, 12, 20, 25, 33, 40, 69, 70, 75])
    lanes = random.uniform(0, 100, (20, 7))
    lanes[random.uniform(size=lanes.shape) < 0.3] = -2
    expected = [[slow(lane, anchors, row) for row in rows] for lane in lanes]
    np.testing.assert_allclose(at_rows(lanes, anchors, rows), expected)


def test_lanes_of_two_points_are_left_out():
    config = Config(height=32, width=32, cells=10, anchors=(0.2, 0.4, 0.6, 0.8), lanes=2)
    cells = np.array([[10, 3], [10, 4], [5, 5], [5, 10]])
    rows = np.array([20.0, 30, 40, 60, 80])
    frame = Frame(Path("x"), "x", rows, np.zeros((0, 5)))
    (lanes,) = decode(certain(cells, 10), config, [frame], [(90, 100)])
    np.testing.assert_allclose(lanes, [[35, 40, 45, 55, -2]])
