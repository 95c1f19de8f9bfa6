"""Curves and regions as linear maps of a grid."""

from __future__ import annotations

import numpy as np
import pytest

from conebeam.errors import ConfigError
from conebeam.extracts import box_edges, curve, regions

X = np.linspace(-3.0, 3.0, 7)
Z = np.array([0.0, 0.25, 0.75, 1.25])
EDGES = (X, X, Z)
GRID = np.random.default_rng(8).random((6, 6, 3))


def test_a_depth_curve_is_a_column_sum() -> None:
    depth = curve(name="d", edges=EDGES, along=2, ranges=((-1.0, 1.0), (-2.0, 2.0), None))
    assert depth.take(GRID) == pytest.approx(GRID[2:4, 1:5].sum(axis=(0, 1)))
    assert depth.axis.edges is not None
    assert np.array_equal(depth.axis.edges, Z)


def test_a_profile_is_a_strip_sum_on_its_own_range() -> None:
    profile = curve(name="p", edges=EDGES, along=0, ranges=((-2.0, 3.0), (-1.0, 1.0), (0.25, 0.75)))
    assert profile.take(GRID) == pytest.approx(GRID[1:6, 2:4, 1].sum(axis=1))
    assert profile.axis.centres().tolist() == [-1.5, -0.5, 0.5, 1.5, 2.5]


def test_folding_twice_and_four_times() -> None:
    ranges = (None, (-1.0, 1.0), (0.75, 1.25))
    along_x = GRID[:, 2:4, 2].sum(axis=1)
    along_y = GRID[2:4, :, 2].sum(axis=0)
    twice = curve(name="p", edges=EDGES, along=0, ranges=ranges, fold=2)
    assert twice.take(GRID) == pytest.approx(along_x[3:] + along_x[:3][::-1])
    four = curve(name="p", edges=EDGES, along=0, ranges=ranges, fold=4)
    expected = along_x[3:] + along_x[:3][::-1] + along_y[3:] + along_y[:3][::-1]
    assert four.take(GRID) == pytest.approx(expected)
    assert four.axis.centres().tolist() == [0.5, 1.5, 2.5]


def test_a_uniform_grid_gives_equal_means_in_every_map() -> None:
    # Energy over mass: the same map on both gives the mean dose of the region.
    energy, masses = 3.0 * np.ones((6, 6, 3)), np.ones((6, 6, 3))
    for fold in (0, 2, 4):
        profile = curve(name="p", edges=EDGES, along=1, ranges=((-1.0, 1.0), None, None), fold=fold)
        assert profile.take(energy) / profile.take(masses) == pytest.approx(3.0)


def test_regions_are_box_sums() -> None:
    boxes = {"a": ((-1.0, 1.0), (-1.0, 1.0), (0.25, 0.75)), "all": ((-3, 3), (-3, 3), (0, 1.25))}
    found = regions(name="r", edges=EDGES, boxes=boxes)
    assert found.axis.labels == ("a", "all")
    assert found.take(GRID) == pytest.approx([GRID[2:4, 2:4, 1].sum(), GRID.sum()])


def test_box_edges_are_the_faces() -> None:
    boxes = {
        "a": ((-1.0, 1.0), (0.0, 1.0), (0.0, 2.0)),
        "b": ((1.0 + 1e-9, 4.0), (0.0, 3.0), (2.0, 5.0)),
    }
    x, y, z = box_edges(boxes)
    assert x.tolist() == [-1.0, 1.0, 4.0]
    assert y.tolist() == [0.0, 1.0, 3.0]
    assert z.tolist() == [0.0, 2.0, 5.0]
    regions(name="r", edges=(x, y, z), boxes=boxes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"along": 2, "ranges": ((-0.9, 1.0), None, None)},
            "the x limits of 'c' must lie on grid edges, not at -0.9 cm; the nearest edge is -1 cm",
        ),
        (
            {"along": 2, "ranges": ((1.0, 1.0), None, None)},
            "the x limits of 'c' must enclose a bin, not be 1 to 1 cm",
        ),
        (
            {"along": 2, "ranges": (None, None, None), "fold": 2},
            "curve 'c' must have z edges symmetric about 0, with one at 0, to be folded",
        ),
        (
            {"along": 2, "ranges": (None, None, None), "fold": 4},
            "curve 'c' must run along x or y to be folded four times, not z",
        ),
    ],
)
def test_bad_curves_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        curve(name="c", edges=EDGES, **arguments)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_folding_four_times_needs_equal_edges() -> None:
    edges = (X, np.linspace(-2.0, 2.0, 7), Z)
    with pytest.raises(ConfigError) as caught:
        curve(name="c", edges=edges, along=0, ranges=(None, None, None), fold=4)
    assert str(caught.value) == "curve 'c' must have equal x and y edges to be folded four times"
