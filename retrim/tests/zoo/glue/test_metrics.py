import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrim.errors import DataError
from retrim.zoo.glue import TASKS, accuracy, f1, matthews, pearson, score, spearman
from retrim.zoo.glue.metrics import METRICS, ranks

pairs = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, 1), min_size=n, max_size=n) for _ in "ab"))
)
numbers = st.integers(-6, 6).map(lambda number: number / 4) | st.floats(-1e3, 1e3, width=32)
scores = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*(st.lists(numbers, min_size=n, max_size=n) for _ in "ab"))
)


def slow_f1(predicted, labels):
    found = [label for guess, label in zip(predicted, labels, strict=True) if guess == 1]
    true = [guess for guess, label in zip(predicted, labels, strict=True) if label == 1]
    if not sum(found):
        return 0.0
    precision, recall = sum(found) / len(found), sum(true) / len(true)
    return 100 * 2 * precision * recall / (precision + recall)


def slow_pearson(x, y):
    n = len(x)
    mean_x, mean_y = math.fsum(x) / n, math.fsum(y) / n
    xy = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    xx, yy = math.fsum((a - mean_x) ** 2 for a in x), math.fsum((b - mean_y) ** 2 for b in y)
    return 100 * xy / math.sqrt(xx * yy) if len(set(x)) > 1 and len(set(y)) > 1 else 0.0


def slow_ranks(values):
    """One more than the number of smaller values, and half of the other equal ones."""
    return [1 + sum(a < b for a in values) + (sum(a == b for a in values) - 1) / 2 for b in values]


@settings(max_examples=50, deadline=None)
@given(pairs)
def test_classes_as_the_slow_oracles(both):
    predicted, labels = both
    arrays = np.array(predicted), np.array(labels)
    right = sum(guess == label for guess, label in zip(predicted, labels, strict=True))
    assert accuracy(*arrays) == pytest.approx(100 * right / len(labels))
    assert f1(*arrays) == pytest.approx(slow_f1(predicted, labels))
    # Matthews' correlation is Pearson's of the two classes
    assert matthews(*arrays) == pytest.approx(slow_pearson(predicted, labels), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(scores)
@example(([0.1] * 3, [1.0, 2.0, 3.0]))
def test_scores_as_the_slow_oracles(both):
    x, y = both
    arrays = np.array(x), np.array(y)
    assert ranks(arrays[0]).tolist() == slow_ranks(x)
    assert spearman(*arrays) == pytest.approx(slow_pearson(slow_ranks(x), slow_ranks(y)), abs=1e-9)
    if all(len(set(values)) == 1 or np.ptp(values) > 1e-3 for values in both):
        assert pearson(*arrays) == pytest.approx(slow_pearson(x, y), abs=1e-6)


@pytest.mark.parametrize(
    ("predicted", "labels", "f", "m"),
    [
        ([1, 1, 1], [1, 1, 1], 100, 0),
        ([0, 0, 0], [0, 0, 0], 0, 0),
        ([1, 1, 1], [0, 0, 0], 0, 0),
        ([0, 0, 0], [0, 1, 1], 0, 0),
        ([1, 1, 1], [0, 1, 1], 80, 0),
        ([1, 0], [0, 1], 0, -100),
        ([0, 1], [0, 1], 100, 100),
    ],
)
def test_one_class_alone(predicted, labels, f, m):
    arrays = np.array(predicted), np.array(labels)
    assert f1(*arrays) == pytest.approx(f)
    assert matthews(*arrays) == pytest.approx(m)


@pytest.mark.parametrize("metric", [pearson, spearman])
def test_constants_and_extremes(metric):
    rising = np.array([1.0, 2.0, 4.0])
    assert metric(np.full(3, 0.1), rising) == metric(rising, np.full(3, 0.1)) == 0
    assert metric(np.array([2.0]), np.array([3.0])) == 0
    assert metric(rising * 1e300, rising * 1e-300) == pytest.approx(100)
    assert metric(-rising, rising) == pytest.approx(-100)
    assert abs(metric(rising / 3, rising)) <= 100


def test_many_examples_do_not_overflow():
    labels = np.arange(400_000) % 2
    assert matthews(labels, labels) == pytest.approx(100)


def test_a_tasks_score_is_the_mean_of_its_metrics():
    logits = np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 1.0], [3.0, 3.0]])  # 1, 0, 1, 0
    labels = np.array([1, 0, 0, 0])
    assert score(TASKS["mrpc"], logits, labels) == pytest.approx(
        {"score": (75 + 200 / 3) / 2, "accuracy": 75, "f1": 200 / 3}
    )
    assert score(TASKS["sst2"], logits, labels) == {"score": 75, "accuracy": 75}
    assert score(TASKS["cola"], logits, labels) == pytest.approx(
        {"score": 200 / math.sqrt(12), "matthews": 200 / math.sqrt(12)}
    )
    assert score(TASKS["mnli"], np.eye(3), np.array([0, 1, 1]))["accuracy"] == pytest.approx(200 / 3)
    found = score(TASKS["stsb"], np.array([[1.0], [2.0], [9.0]], dtype=np.float32), np.array([1.0, 2.0, 3.0]))
    assert found["spearman"] == pytest.approx(100)
    assert found["score"] == pytest.approx((found["pearson"] + 100) / 2)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(DataError) as raised:
        score(TASKS["mnli"], np.zeros((2, 2)), np.zeros(2))
    assert str(raised.value) == "outputs for MNLI must have the shape (2, 3), not (2, 2)"
    with pytest.raises(DataError) as raised:
        score(TASKS["rte"], np.array([[0, np.nan]]), np.zeros(1))
    assert str(raised.value) == "outputs must be finite, but are not: the network diverged"
    with pytest.raises(DataError) as raised:
        f1(np.array([0, 2]), np.array([0, 1]))
    assert str(raised.value) == "classes must be 0 or 1 for this metric, but there are others"
    for metric in METRICS.values():
        with pytest.raises(DataError) as raised:
            metric(np.zeros(0), np.zeros(0))
        assert str(raised.value) == (
            "predictions must be one for each label, at least one, not of shape (0,) for (0,)"
        )
        with pytest.raises(DataError, match=r"not of shape \(2,\) for \(3,\)"):
            metric(np.zeros(2), np.zeros(3))
        with pytest.raises(DataError, match="predictions and labels must be finite"):
            metric(np.array([np.nan, 1]), np.array([0, 1]))
