import numpy as np
import pytest

from retrim.zoo.synth.road.geometry import FAR, Road, drawn

FLAT = Road(size=(1280, 720), focal=1000.0, horizon=240.0, above=1.5)


def test_flat_ground_is_at_focal_times_height_over_the_row():
    rows = np.array([240.0, 250.0, 390.0, 720.0])
    np.testing.assert_allclose(FLAT.depth(rows), [np.inf, 150, 10, 3.125])


@pytest.mark.parametrize("rising", [-3e-4, 0.0, 2e-4])
def test_depth_undoes_project(rising):
    road = Road(size=(1280, 720), focal=900.0, horizon=250.0, above=1.4, rising=rising)
    crest = np.sqrt(2 * road.above / -rising) if rising < 0 else FAR
    z = np.geomspace(3, min(200, 0.98 * crest), 40)
    rows = road.project(z, np.zeros(40), np.zeros(40))[1]
    np.testing.assert_allclose(road.depth(rows), z, rtol=1e-9)


def test_behind_a_crest_nothing_is_seen():
    road = Road(size=(1280, 720), focal=900.0, horizon=250.0, above=1.4, rising=-3e-4)
    summit = 250 + 900 * np.sqrt(2 * 3e-4 * 1.4)
    depth = road.depth(np.array([summit - 1, summit + 1]))
    assert np.isinf(depth[0]) and depth[1] < np.sqrt(2 * 1.4 / 3e-4)


def test_the_centre_line_is_the_curvatures_double_integral():
    road = Road(
        size=(1280, 720),
        focal=1.0,
        horizon=0.0,
        above=1.0,
        aside=0.4,
        heading=0.02,
        curvature=1e-3,
        bending=-8e-6,
    )
    z = np.linspace(0, 100, 100_001)
    slope = 0.02 + np.concatenate([[0], np.cumsum((1e-3 - 8e-6 * (z[:-1] + 5e-4)) * 1e-3)])
    x = -0.4 + np.concatenate([[0], np.cumsum((slope[:-1] + slope[1:]) / 2 * 1e-3)])
    np.testing.assert_allclose(road.centre(z), x, atol=1e-6)
    assert road.direction(100.0) == pytest.approx(slope[-1], abs=1e-6)


def test_columns_end_with_the_label_and_the_image():
    rows = np.array([241.0, 256.6, 256.7, 390.0, 720.0])
    columns = FLAT.columns(1.8, rows, 90.0)
    np.testing.assert_allclose(columns, [-2, -2, 640 + 1800 * 16.7 / 1500, 820, 1216], atol=0.1)
    assert FLAT.columns(2.5, rows, 90.0)[-1] == -2


def test_drawn_roads_scale_with_the_image():
    large, small = (drawn(np.random.default_rng(3), size) for size in ((1280, 720), (320, 180)))
    assert small.focal == pytest.approx(large.focal / 4)
    assert small.horizon == pytest.approx(large.horizon / 4)
    assert small.curvature == large.curvature
