"""Batch plans and sets of batches."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conebeam.batches import BatchPlan, BatchSet, parse_range
from conebeam.errors import ConfigError


@given(histories=st.integers(1, 10**7), share=st.floats(0.0, 1.0))
def test_batches_hold_every_history_once(histories: int, share: float) -> None:
    batches = max(1, min(200, int(share * histories)))
    plan = BatchPlan(histories=histories, batches=batches)
    tasks = list(plan.tasks(range(batches)))
    assert tasks[0][1] == 0
    assert tasks[-1][2] == histories
    assert all(a[2] == b[1] for a, b in itertools.pairwise(tasks))
    sizes = {stop - first for _, first, stop in tasks}
    assert max(sizes) - min(sizes) <= 1


@given(a=st.sets(st.integers(0, 60)), b=st.sets(st.integers(0, 60)))
def test_sets_of_batches_are_sets(a: set[int], b: set[int]) -> None:
    first, second = BatchSet.of(a), BatchSet.of(b)
    assert list(first) == sorted(a)
    assert len(first) == len(a)
    assert first | second == BatchSet.of(a | b)
    assert first & second == BatchSet.of(a & b)
    assert all((n in first) == (n in a) for n in range(62))


def test_ranges_read_well() -> None:
    assert str(BatchSet.of([5, 3, 4, 9])) == "3:6, 9:10"
    assert str(BatchSet()) == "none"
    assert parse_range("2:16") == (2, 16)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BatchPlan(histories=0), "histories must be at least 1, not 0"),
        (
            lambda: BatchPlan(histories=5, batches=6),
            "batches must lie in 1..5 (the histories), not 6",
        ),
        (
            lambda: BatchPlan(histories=50, batches=6).bounds(6),
            "a batch must lie in 0..5, not 6",
        ),
        (lambda: parse_range("4"), "batches must read A:B with whole numbers, not '4'"),
        (lambda: parse_range("4:4"), "batches A:B must have A below B, not '4:4'"),
        (
            lambda: BatchSet(ranges=((3, 5), (5, 6))),
            "batch ranges must be sorted and apart, not ((3, 5), (5, 6))",
        ),
    ],
)
def test_bad_batches_are_refused(build: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()  # type: ignore[operator]
    assert str(caught.value) == message
