"""Choosing options under a budget, against trying all of them."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrim.errors import ConfigError, DensityError
from retrim.prune.allocation import allocate

ITEMS = st.lists(
    st.lists(st.tuples(st.integers(0, 30), st.floats(-2, 2, allow_nan=False)), min_size=1, max_size=4),
    min_size=1,
    max_size=5,
)


def brute_force(options, budget):
    """Least cost over all choices that the budget holds."""
    return min(
        math.fsum(cost for _, cost in chosen)
        for chosen in itertools.product(*options)
        if sum(size for size, _ in chosen) <= budget
    )


def chosen_of(options, budget, **more):
    chosen = [
        choices[place] for place, choices in zip(allocate(options, budget, **more), options, strict=True)
    ]
    return sum(size for size, _ in chosen), math.fsum(cost for _, cost in chosen)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(options=ITEMS, room=st.integers(0, 80))
def test_no_choice_is_better(options, room):
    budget = sum(min(size for size, _ in choices) for choices in options) + room
    size, cost = chosen_of(options, budget)
    assert size <= budget
    assert cost == pytest.approx(brute_force(options, budget), abs=1e-12)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(options=ITEMS, room=st.integers(10, 80), units=st.integers(8, 16))
def test_coarse_units_cost_at_most_a_unit_for_each_item(options, room, units):
    least = sum(min(size for size, _ in choices) for choices in options)
    budget = least + room
    size, cost = chosen_of(options, budget, units=units)
    assert size <= budget
    most = sum(max(size for size, _ in choices) for choices in options) - least
    unit = -(-min(room, most) // units)
    smaller = max(least, min(budget, least + most) - unit * (len(options) + 1))
    assert cost <= brute_force(options, smaller) + 1e-12


def test_large_sizes_of_one_divisor_are_exact():
    unit = 384 * 32
    options = [[(unit * (k + 1), 1 / (k + 1 + place)) for k in range(4)] for place in range(5)]
    _, cost = chosen_of(options, 11 * unit)
    assert cost == pytest.approx(brute_force(options, 11 * unit), abs=1e-12)


def test_equal_costs_fill_the_budget():
    options = [[(4, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)], [(5, 0.0), (1, 0.0)]]
    assert allocate(options, 100) == [0, 0]
    assert allocate(options, 8) == [2, 0]
    assert allocate(options, 7) == [1, 0]


@pytest.mark.parametrize(
    ("options", "budget", "kind", "sentence"),
    [
        ([[(1, 0.0)], []], 9, ConfigError, "item 1 must have an option to choose from, but has none"),
        ([[(1, math.nan)]], 9, ConfigError, "costs of item 0 must be finite, not [nan]"),
        (
            [[(4, 0.0), (6, 0.0)], [(5, 0.0)]],
            8,
            DensityError,
            "the budget must hold the smallest options, 9 together, not 8",
        ),
    ],
)
def test_what_cannot_be_chosen_from(options, budget, kind, sentence):
    with pytest.raises(kind) as caught:
        allocate(options, budget)
    assert str(caught.value) == sentence
