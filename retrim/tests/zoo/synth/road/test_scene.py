from itertools import pairwise

import numpy as np
import pytest

from retrim.zoo.synth.road.scene import draw_scene
from retrim.zoo.synth.road.texture import SIDE, lookup, tile
from retrim.zoo.synth.road.traffic import drawn

SIZE = (320, 180)
ROWS = np.arange(40, 180, 4)


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(np.random.default_rng([9, index]), SIZE, ROWS) for index in range(12)]


def test_labels_are_lanes(scenes):
    counts = set()
    for scene in scenes:
        assert scene.image.size == SIZE and scene.image.mode == "RGB"
        counts.add(len(scene.lanes))
        assert scene.lanes.min() == -2 and scene.lanes.max() < SIZE[0]
        for lane in scene.lanes:
            there = np.flatnonzero(lane >= 0)
            assert len(there) >= 3
            assert (np.diff(there) == 1).all(), "a lane goes on behind cars"
        for left, right in zip(scene.lanes[:-1], scene.lanes[1:], strict=True):
            both = (left >= 0) & (right >= 0)
            assert (left[both] <= right[both]).all()
    assert counts <= {1, 2, 3, 4, 5} and len(counts) >= 2


def test_scenes_are_neither_black_nor_white(scenes):
    for scene in scenes:
        pixels = np.asarray(scene.image, dtype=float)
        assert 15 < pixels.mean() < 230
        assert pixels.std() > 12


def test_noise_is_even_and_repeats():
    noise = tile(1.0)
    assert noise.mean() == pytest.approx(0, abs=1e-3) and noise.std() == pytest.approx(1, abs=1e-3)
    rows, columns = np.array([[1.5], [-3.0]]), np.array([[7.9, 600.2]])
    np.testing.assert_array_equal(lookup(noise, rows, columns), noise[np.ix_([1, SIDE - 3], [7, 600 - SIDE])])


def test_cars_keep_their_distance_and_come_from_afar():
    cars = drawn(np.random.default_rng(0), [-3.6, 0.0, 3.6], 0.9)
    assert len(cars) > 3
    assert [car.z for car in cars] == sorted((car.z for car in cars), reverse=True)
    for middle in (-3.6, 0.0, 3.6):
        lane = sorted((car for car in cars if abs(car.s - middle) < 1.5), key=lambda car: car.z)
        for first, second in pairwise(lane):
            assert first.z + first.length < second.z
