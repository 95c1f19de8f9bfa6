"""Grids and planes against slow oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conebeam.scoring.grids import build_grids, score_line, score_point, score_profile
from conebeam.scoring.planes import Planes, score_planes

REGULAR = (np.linspace(-3.0, 3.0, 13), np.linspace(-2.0, 2.0, 5), np.linspace(0.0, 5.0, 11))
UNEVEN = (
    np.array([-3.0, -2.9, -0.4, 0.0, 0.1, 2.0, 3.0]),
    np.array([-2.0, 2.0]),
    np.array([0.0, 0.25, 0.75, 1.25, 4.0, 5.0]),
)


def oracle(
    edges: tuple[np.ndarray, ...], start: np.ndarray, along: np.ndarray, ends: np.ndarray, rates: np.ndarray
) -> np.ndarray:
    """Sum of rate times length in each voxel, from all crossings sorted."""
    with np.errstate(divide="ignore", invalid="ignore"):
        cuts = np.concatenate([(e - s) / d for e, s, d in zip(edges, start, along, strict=True)])
    cuts = cuts[np.isfinite(cuts) & (cuts > 0.0) & (cuts < ends[-1])]
    t = np.unique(np.concatenate(([0.0], cuts, ends)))
    middle = 0.5 * (t[1:] + t[:-1])
    at = start + middle[:, None] * along
    sums = np.zeros([len(e) - 1 for e in edges])
    for point, length, m in zip(at, np.diff(t), middle, strict=True):
        index = tuple(int(np.searchsorted(e, p)) - 1 for e, p in zip(edges, point, strict=True))
        if all(0 <= i < n for i, n in zip(index, sums.shape, strict=True)):
            sums[index] += rates[np.searchsorted(ends, m)] * length
    return sums


@pytest.mark.parametrize("edges", [REGULAR, UNEVEN])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_walks_agree_with_sorted_crossings(edges: tuple[np.ndarray, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    grids = build_grids([edges], [False], (0.5, 0.0, 0.0))  # type: ignore[list-item]
    start = rng.uniform([-5, -4, -3], [5, 4, 8]).astype(np.float32)
    along = rng.normal(size=3)
    if rng.random() < 0.2:
        along[rng.integers(3)] = 0.0
    along = (along / np.linalg.norm(along)).astype(np.float32)
    ends = np.sort(rng.uniform(0.0, 14.0, 3)).astype(np.float32)
    rates = rng.uniform(0.1, 2.0, 3).astype(np.float32)
    sums = np.zeros(int(grids.sum_first[-1]))
    score_profile(grids, 0, *start, *along, np.float32(2.0), ends, rates, 3, sums)
    world = start.astype(float) + np.array([0.5, 0.0, 0.0])
    expected = oracle(edges, world, along.astype(float), ends.astype(float), 2.0 * rates.astype(float))
    assert sums.reshape(expected.shape) == pytest.approx(expected, abs=5e-5)
    single = np.zeros_like(sums)
    score_line(grids, 0, *start, *along, np.float32(2.0), ends[2], rates[0], single)
    one = oracle(edges, world, along.astype(float), ends[2:].astype(float), 2.0 * rates[:1].astype(float))
    assert single.reshape(one.shape) == pytest.approx(one, abs=5e-5)


@pytest.mark.parametrize("edges", [REGULAR, UNEVEN])
def test_points_fall_into_their_voxels(edges: tuple[np.ndarray, ...]) -> None:
    grids = build_grids([edges], [True], (0.0, 0.0, 0.0))  # type: ignore[list-item]
    sums = np.zeros(int(grids.sum_first[-1]))
    points = np.random.default_rng(1).uniform([-4, -3, -1], [4, 3, 6], (5000, 3)).astype(np.float32)
    for point in points:
        score_point(grids, 0, *point, 1.5, sums)
    expected = 1.5 * np.histogramdd(points.astype(float), edges)[0]
    assert np.array_equal(sums.reshape(expected.shape), expected)


def window(circle: int, scale: float) -> Planes:
    return Planes(
        centre=np.array([[0.0, 0.0, 3.0]]), normal=np.array([[0.0, 0.0, 1.0]]),
        across=np.array([[0.5, 0.0, 0.0]]), along=np.array([[0.0, 0.5, 0.0]]),
        circle=np.array([circle], dtype=np.uint8), area=np.array([16.0]), low=np.array([10.0]),
        scale=np.array([scale]), bins=np.array([4 if scale else 1], dtype=np.int64),
        sum_first=np.array([0, 4 if scale else 1], dtype=np.int64), response=np.array([[2.0, 4.0]]),
    )  # fmt: skip


def hit(
    planes: Planes, x: float, y: float, direction: tuple[float, float, float], length: float, energy: float
) -> np.ndarray:
    sums = np.zeros(int(planes.sum_first[-1]))
    score_planes(planes, x, y, 0.0, *direction, length, energy, 1.0, 0, 0.25, sums)
    return sums


def test_a_plane_scores_the_inverse_cosine_per_area() -> None:
    slanted = (0.6, 0.0, 0.8)
    assert hit(window(0, 0.1), -1.0, 0.0, slanted, 9.0, 25.0).tolist() == pytest.approx(
        [0.0, 1.0 / 16.0 / 0.8, 0.0, 0.0]
    )
    # A kerma window weighs by its response, between the two grid energies.
    assert hit(window(0, 0.0), -1.0, 0.0, slanted, 9.0, 25.0).tolist() == pytest.approx([2.5 / 16.0 / 0.8])


@pytest.mark.parametrize(
    ("circle", "x", "y", "length", "energy", "counts"),
    [
        (0, 1.9, 1.9, 9.0, 25.0, True),
        (1, 1.9, 1.9, 9.0, 25.0, False),
        (0, 2.1, 0.0, 9.0, 25.0, False),
        (0, 0.0, 0.0, 2.9, 25.0, False),
        (0, 0.0, 0.0, 3.0, 25.0, True),
        (0, 0.0, 0.0, 9.0, 9.0, False),
        (0, 0.0, 0.0, 9.0, 51.0, False),
    ],
)
def test_only_what_crosses_the_window_counts(
    circle: int, x: float, y: float, length: float, energy: float, counts: bool
) -> None:
    assert (hit(window(circle, 0.1), x, y, (0.0, 0.0, 1.0), length, energy).sum() > 0.0) == counts


@pytest.mark.parametrize(("energy", "bin_"), [(20.0, 0), (59.99, 3), (60.0, 3), (60.01, None), (19.99, None)])
def test_a_spectrum_holds_both_its_ends(energy: float, bin_: int | None) -> None:
    planes = Planes(
        centre=np.zeros((1, 3)), normal=np.array([[0.0, 0.0, 1.0]]), across=np.array([[1.0, 0.0, 0.0]]),
        along=np.array([[0.0, 1.0, 0.0]]), circle=np.zeros(1, dtype=np.uint8), area=np.ones(1), low=np.array([20.0]),
        scale=np.array([0.1]), bins=np.array([4]), sum_first=np.array([0, 4]), response=np.zeros((1, 2)),
    )  # fmt: skip
    sums = np.zeros(4)
    score_planes(planes, 0.0, 0.0, -1.0, 0.0, 0.0, 1.0, 2.0, energy, 1.0, 0, 0.0, sums)
    assert np.flatnonzero(sums).tolist() == ([] if bin_ is None else [bin_])


def test_grazing_photons_are_bounded() -> None:
    flat = (np.sqrt(1.0 - 1e-6), 0.0, 1e-3)
    found = hit(window(0, 0.1), -3000.0 * flat[0], 0.0, flat, 1e9, 25.0)
    assert found.sum() == pytest.approx(2.0 / 0.01 / 16.0)
