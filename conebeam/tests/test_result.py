"""Results: means, merges, refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import toy

from conebeam.batches import BatchPlan
from conebeam.errors import ResultError
from conebeam.result import Axis, BatchSums, Result, Scored, merge


@pytest.fixture(scope="module")
def whole() -> Result:
    return toy.result()


def test_means_and_sigma_are_those_of_the_batches(whole: Result) -> None:
    runner = toy.ToyRunner()
    batches = np.array([runner.one(*task).sums["depth"] for task in toy.PLAN.tasks(range(toy.PLAN.batches))])
    quantity = whole["depth"]
    assert quantity.values == pytest.approx(batches.sum(axis=0) * 2e-13 / 4000, rel=1e-14)
    expected = batches.std(axis=0, ddof=1) * math.sqrt(40) / batches.sum(axis=0)
    assert quantity.sigma == pytest.approx(expected, rel=1e-9)


def test_the_answer_is_the_analytic_one_within_sigma(whole: Result) -> None:
    # A quarter of the photons fall into the column; they stop in bin i with
    # probability exp(-mu i) (1 - exp(-mu)).
    quantity = whole["depth"]
    expected = 0.25 * np.exp(-toy.MU * np.arange(10)) * (1.0 - math.exp(-toy.MU)) * 2e-13
    pulls = (quantity.values - expected) / (quantity.sigma * quantity.values)
    assert np.abs(pulls).max() < 3.5
    assert 0.3 < np.sqrt((pulls**2).mean()) < 1.7


def test_merged_parts_are_bit_for_bit_one_run(whole: Result) -> None:
    spans = ((0, 7), (7, 20), (20, 40))
    parts = [toy.result(batches=span) for span in spans]
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = merge([parts[i] for i in order])
        assert merged.digest() == whole.digest()
        assert merged.is_complete
        for name in whole.names:
            assert np.array_equal(merged[name].values, whole[name].values)
            assert np.array_equal(merged[name].sigma, whole[name].sigma, equal_nan=True)


def test_another_seed_is_another_result(whole: Result) -> None:
    assert toy.result(runner=toy.ToyRunner(seed=4)).digest() != whole.digest()


def test_merging_leaves_the_parts_alone() -> None:
    part, other = toy.result(batches=(0, 2)), toy.result(batches=(2, 4))
    before = part.digest()
    merge([part, other])
    assert part.digest() == before


def test_merging_remembers_all_processors() -> None:
    part = toy.result(batches=(0, 2))
    other = toy.result(batches=(2, 4), provenance=replace(toy.PROVENANCE, processors=("Other CPU",)))
    assert merge([part, other]).provenance.processors == ("Other CPU", "Test CPU")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"provenance": replace(toy.PROVENANCE, seed=9)},
            "parts of one run must have the same seed, not 3 and 9; run them again alike",
        ),
        (
            {"provenance": replace(toy.PROVENANCE, versions={"toy": "2"})},
            "parts of one run must have the same version of toy, not 1 and 2; run them again alike",
        ),
        (
            {"provenance": replace(toy.PROVENANCE, scene="")},
            "parts of one run must have the same scene; run them again alike",
        ),
        (
            {"plan": BatchPlan(histories=4000, batches=41)},
            "parts of one run must have the same batch plan, not "
            "4,000 histories in 40 batches and 4,000 histories in 41 batches; "
            "run them again alike",
        ),
        (
            {"batches": (1, 5)},
            "parts must have disjoint batches, not batches 1:2 twice; leave one part out",
        ),
    ],
)
def test_parts_that_do_not_belong_together(changes: dict[str, object], message: str) -> None:
    part = toy.result(batches=(0, 2))
    other = toy.result(**{"batches": (2, 4), **changes})
    with pytest.raises(ResultError) as caught:
        merge([part, other])
    assert str(caught.value) == message


def test_a_batch_counts_once() -> None:
    part = toy.result(batches=(0, 2))
    with pytest.raises(ResultError, match=r"^batch 1 must be added once, not again$"):
        part.add(toy.ToyRunner().one(*next(iter(toy.PLAN.tasks([1])))))


def test_a_batch_yields_what_was_planned() -> None:
    part = toy.result(batches=(0, 2))
    sums = BatchSums(batch=3, histories=1, sums={"other": np.zeros(3)}, cpu_seconds=0.0)
    with pytest.raises(ResultError) as caught:
        part.add(sums)
    assert str(caught.value) == "a batch must yield dose, depth, parts, not other"


def test_names_that_are_not_there(whole: Result) -> None:
    with pytest.raises(ResultError) as caught:
        whole["doze"]
    assert str(caught.value) == "'doze' must be one of what was scored: dose, depth, parts"


def test_efficiency_is_one_over_variance_and_time(whole: Result) -> None:
    efficiency = whole.efficiency("depth")
    assert efficiency == pytest.approx(1.0 / (whole["depth"].sigma ** 2 * 0.4), rel=1e-12)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Axis(name="x"), "axis 'x' must have either edges or labels"),
        (
            lambda: Axis(name="x", edges=np.array([1.0, 1.0])),
            "the edges of axis 'x' must rise from bin to bin",
        ),
        (
            lambda: Scored(
                name="a/b", axes=(), quantity="", unit="", per="", factor=1.0, magnitude=1.0
            ),
            "a scorer's name must be a word without '/' or '.', not 'a/b'",
        ),
        (
            lambda: Scored(
                name="a", axes=(Axis(name="x", labels=("1", "2")),), quantity="", unit="", per="",
                factor=np.ones(3), magnitude=1.0,
            ),
            "the factor of 'a' must fit the shape (2,), not (3,)",
        ),
    ],
)  # fmt: skip
def test_bad_descriptions_are_refused(build: object, message: str) -> None:
    with pytest.raises(ResultError) as caught:
        build()  # type: ignore[operator]
    assert str(caught.value) == message
