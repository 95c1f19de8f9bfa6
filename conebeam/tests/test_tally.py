"""Exact sums: independent of order and partition, and right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conebeam.errors import ResultError
from conebeam.tally import Tally


def tally_of(batches: list[np.ndarray], magnitude: float) -> Tally:
    tally = Tally(batches[0].shape, magnitude)
    for values in batches:
        tally.add(values)
    return tally


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 40), spread=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_any_order_and_partition_gives_the_same_bits(seed: int, count: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    batches = [rng.normal(size=7) * 10.0 ** -rng.uniform(0, spread, 7) for _ in range(count)]
    whole = tally_of(batches, 8.0)
    order = rng.permutation(count)
    cut = int(rng.integers(1, count))
    parts = [tally_of([batches[i] for i in half], 8.0) for half in (order[:cut], order[cut:])]
    parts[1].merge(parts[0])
    assert np.array_equal(parts[1].total(), whole.total())
    assert np.array_equal(parts[1].squares(), whole.squares())
    assert parts[1].batches == whole.batches


def test_plain_floating_point_sums_would_not_do() -> None:
    # The reason for the whole module: the order shows in the last bits of a plain sum.
    values = np.random.default_rng(1).normal(size=(40, 50))
    assert not np.array_equal(sum(values), sum(values[::-1]))


@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_sums_are_right(values: list[float]) -> None:
    tally = tally_of([np.array([v]) for v in values], 1e6)
    resolution = 2.0 ** (20 - 82) * len(values)
    assert tally.total()[0] == pytest.approx(math.fsum(values), rel=1e-15, abs=resolution)
    squares = math.fsum(v * v for v in values)
    assert tally.squares()[0] == pytest.approx(squares, rel=1e-15, abs=2.0**-42 * len(values))


def test_sigma_is_the_standard_error_of_the_sum() -> None:
    batches = np.random.default_rng(2).normal(10.0, 1.0, (50, 3))
    sigma = tally_of(list(batches), 100.0).sigma()
    expected = batches.std(axis=0, ddof=1) * math.sqrt(50) / batches.sum(axis=0)
    assert sigma == pytest.approx(expected, rel=1e-9)


def test_sigma_is_unknown_where_nothing_was_scored() -> None:
    tally = tally_of([np.array([0.0, 1.0]), np.array([0.0, 2.0])], 4.0)
    assert np.isnan(tally.sigma()[0])
    assert np.isfinite(tally.sigma()[1])
    assert np.isnan(tally_of([np.array([1.0])], 4.0).sigma()[0])


def test_sigma_is_unknown_where_squares_are_lost() -> None:
    values = 1e-13 * np.random.default_rng(3).normal(10.0, 1.0, (40, 5))
    assert np.isnan(tally_of(list(values), 1.0).sigma()).all()
    tight = tally_of(list(values), 1e-11).sigma()
    expected = values.std(axis=0, ddof=1) * math.sqrt(40) / values.sum(axis=0)
    assert tight == pytest.approx(expected, rel=1e-9)


def test_rows_are_parts_of_the_whole() -> None:
    tally = tally_of(list(np.random.default_rng(4).random((5, 6, 3, 2))), 2.0)
    for rows in (slice(0, 2), slice(2, 6)):
        assert np.array_equal(tally.total(rows), tally.total()[rows])
        assert np.array_equal(tally.sigma(rows), tally.sigma()[rows])


def test_sigma_of_equal_batches_is_zero() -> None:
    assert tally_of([np.array([2.0])] * 5, 4.0).sigma()[0] == 0.0


def test_small_values_survive_beside_large_ones() -> None:
    tally = Tally((1,), 2.0**30)
    for _ in range(1000):
        tally.add(np.array([2.0**-30 + 2.0**-50]))
    assert tally.total()[0] == 1000 * (2.0**-30 + 2.0**-50)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.0, 2.0]), "a batch must yield an array of shape (1,), not (2,)"),
        (np.array([np.nan]), "a batch's values must be finite and at most 2^3, not nan"),
        (np.array([9.0]), "a batch's values must be finite and at most 2^3, not 9.0"),
        (np.array([-np.inf]), "a batch's values must be finite and at most 2^3, not inf"),
    ],
)
def test_bad_batches_are_refused(values: np.ndarray, message: str) -> None:
    tally = Tally((1,), 7.0)
    with pytest.raises(ResultError) as caught:
        tally.add(values)
    assert str(caught.value) == message
    assert tally.batches == 0


def test_unlike_tallies_are_not_added() -> None:
    with pytest.raises(ResultError, match=r"^tallies must agree in shape and magnitude"):
        Tally((1,), 1.5).merge(Tally((1,), 3.0))
    with pytest.raises(ResultError, match=r"^the magnitude of a tally must be positive, not 0"):
        Tally((1,), 0.0)
