"""The surgeon's lists: against least squares on the inputs themselves, list by list."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from retrim.errors import ConfigError
from retrim.levels import surgeon_ladder

ROWS, COLUMNS, SAMPLES = 4, 24, 400
COUNTS = (20, 11, 5)


@pytest.fixture(scope="module")
def layer() -> tuple[np.ndarray, np.ndarray]:
    """Weight and correlated inputs."""
    draw = np.random.default_rng(0)
    mixing = draw.normal(size=(COLUMNS, COLUMNS)) * 0.8 ** np.arange(COLUMNS)
    x = draw.normal(size=(SAMPLES, COLUMNS)) @ mixing + 0.3 * draw.normal(size=(SAMPLES, COLUMNS))
    return draw.normal(size=(ROWS, COLUMNS)), x


def laddered(layer: tuple[np.ndarray, np.ndarray], counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    weight, x = (torch.from_numpy(part) for part in layer)
    lists, values = surgeon_ladder(weight[None], (x.T @ x)[None], counts)
    return lists[0].numpy(), values[0].numpy()


def lost(layer: tuple[np.ndarray, np.ndarray], values: np.ndarray, kept: np.ndarray) -> float:
    weight, x = layer
    return float(np.square(x @ (weight - values * kept).T).sum())


def test_lists_lie_in_each_other_and_have_their_counts(layer: tuple[np.ndarray, np.ndarray]) -> None:
    lists, values = laddered(layer, COUNTS)
    assert [int((lists > number).sum()) for number in range(3)] == list(COUNTS)
    assert not values[:, lists == 0].any()


def test_each_column_goes_where_it_costs_least(layer: tuple[np.ndarray, np.ndarray]) -> None:
    weight, x = layer
    lists, _ = laddered(layer, COUNTS)
    left = np.arange(COLUMNS)
    for number, count in enumerate(COUNTS):
        while len(left) > count:

            def error(some: np.ndarray) -> float:
                fit = np.linalg.lstsq(x[:, some], x @ weight.T, rcond=None)[0]
                return float(np.square(x[:, some] @ fit - x @ weight.T).sum())

            left = min((np.delete(left, place) for place in range(len(left))), key=error)
        assert np.flatnonzero(lists > number).tolist() == left.tolist()


def test_values_are_least_squares_with_the_sparser_lists_fixed(layer: tuple[np.ndarray, np.ndarray]) -> None:
    weight, x = layer
    lists, values = laddered(layer, COUNTS)
    known = np.zeros_like(weight)
    for number in (3, 2, 1):
        added = lists == number
        fit = np.linalg.lstsq(x[:, added], x @ (weight - known).T, rcond=None)[0]
        np.testing.assert_allclose(values[:, added], fit.T, rtol=1e-8, atol=1e-10)
        known[:, added] = fit.T


def test_the_sparsest_list_is_best_and_no_denser_one_is_worse(layer: tuple[np.ndarray, np.ndarray]) -> None:
    """Against lists by magnitude, whose values are the weight's own."""
    weight, _ = layer
    lists, values = laddered(layer, COUNTS)
    losses = [lost(layer, values, lists > number) for number in range(3)]
    assert all(dense < sparse for dense, sparse in pairwise(losses))
    largest = np.argsort(-np.square(weight).sum(axis=0))
    plain = [lost(layer, weight, np.isin(np.arange(COLUMNS), largest[:count])) for count in COUNTS]
    assert losses[2] < 0.5 * plain[2]


def test_rounds_of_many_columns(layer: tuple[np.ndarray, np.ndarray]) -> None:
    """From 128 columns on several go at once: the lists have their counts all the same."""
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(600, 300, generator=draw), torch.randn(3, ROWS, 300, generator=draw)
    moment = (x.T @ x)[None]
    depth, values = surgeon_ladder(weight, moment, (299, 200, 131, 7))
    for number, count in enumerate((299, 200, 131, 7)):
        assert (depth > number).sum(dim=1).tolist() == [count] * 3
    assert values.shape == weight.shape


def test_groups_do_not_know_of_each_other() -> None:
    """Each with a moment of its own, or one for all, its inverse given or not."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 300, COLUMNS, generator=draw, dtype=torch.float64)
    weight = torch.randn(3, ROWS, COLUMNS, generator=draw, dtype=torch.float64)
    moments = x.mT @ x
    together = surgeon_ladder(weight, moments, COUNTS, inverse=torch.linalg.inv(moments))
    for place in range(3):
        one = slice(place, place + 1)
        depth, values = surgeon_ladder(weight[one], moments[one], COUNTS)
        assert torch.equal(depth, together[0][one])
        torch.testing.assert_close(values, together[1][one])
    shared = surgeon_ladder(weight, moments[:1], COUNTS)
    torch.testing.assert_close(shared[1][0], together[1][0])
    assert not torch.equal(shared[0][1], together[0][1])


def test_equal_counts_are_one_list(layer: tuple[np.ndarray, np.ndarray]) -> None:
    lists, values = laddered(layer, (11, 11, 5))
    again, same = laddered(layer, (11, 5))
    assert (lists > 0).tolist() == (lists > 1).tolist() == (again > 0).tolist()
    np.testing.assert_array_equal(values, same)


def test_all_columns_leave_the_outputs_nearly_as_they_were(layer: tuple[np.ndarray, np.ndarray]) -> None:
    weight, x = layer
    lists, values = laddered(layer, (COLUMNS, 5))
    assert (lists > 0).all()
    assert lost(layer, values, lists > 0) < 0.05 * np.square(x @ weight.T).sum()


def test_large_groups_in_two_threads(two_threads: None) -> None:
    """Where LAPACK's LU of a batch fails."""
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(4, 1024, 512, generator=draw), torch.randn(4, ROWS, 512, generator=draw)
    moments = x.mT @ x / 1024 + 0.01 * torch.eye(512)
    for _ in range(3):
        depth, values = surgeon_ladder(weight, moments, (500, 300, 90))
        for number, count in enumerate((500, 300, 90)):
            assert (depth > number).sum(dim=1).tolist() == [count] * 4
        assert bool(torch.isfinite(values).all())


def test_a_moment_that_is_none(layer: tuple[np.ndarray, np.ndarray]) -> None:
    weight = torch.from_numpy(layer[0])[None]
    with pytest.raises(ConfigError, match="must be positive definite to prune by them: raise damping"):
        surgeon_ladder(weight, torch.zeros(1, COLUMNS, COLUMNS, dtype=torch.float64), COUNTS)


@pytest.mark.parametrize("counts", [(), (5, 11), (COLUMNS + 1, 5), (5, 0)])
def test_counts_that_are_none(layer: tuple[np.ndarray, np.ndarray], counts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=rf"counts must not rise, from at most {COLUMNS} to at least 1"):
        laddered(layer, counts)
