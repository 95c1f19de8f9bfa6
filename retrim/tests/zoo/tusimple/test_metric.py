import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrim.errors import DataError
from retrim.zoo.tusimple import Score, mean_score, score_frame
from retrim.zoo.tusimple.metric import thresholds

ROWS = np.arange(0.0, 200.0, 10.0)


def slow_angle(lane, rows):
    """Angle of the least-squares line x = a y + b, by the normal equations."""
    points = [(y, x) for x, y in zip(lane, rows, strict=True) if x >= 0]
    if len(points) < 2:
        return 0.0
    count = len(points)
    sy, sx = sum(y for y, _ in points), sum(x for _, x in points)
    syy, sxy = sum(y * y for y, _ in points), sum(y * x for y, x in points)
    return math.atan((count * sxy - sy * sx) / (count * syy - sy * sy))


def slow(predicted, truth, rows):
    """The benchmark's definition, point by point."""
    if len(predicted) > len(truth) + 2:
        return 0.0, 0.0, 1.0
    best_of, found = [], 0
    for lane in truth:
        limit = 20 / math.cos(slow_angle(lane, rows))
        best = 0.0
        for other in predicted:
            right = 0
            for a, b in zip(other, lane, strict=True):
                a, b = (a if a >= 0 else -100), (b if b >= 0 else -100)
                right += abs(a - b) < limit
            best = max(best, right / len(rows))
        best_of.append(best)
        found += best >= 0.85
    missed = len(truth) - found
    total = sum(best_of)
    if len(truth) > 4:
        total -= min(best_of)
        missed = max(0, missed - 1)
    counted = max(1, min(4, len(truth)))
    return total / counted, (len(predicted) - found) / len(predicted) if predicted else 0.0, missed / counted


def close(score, expected):
    assert (score.accuracy, score.false_positives, score.false_negatives) == pytest.approx(
        expected, abs=1e-12
    )


def straight(x, slope=0.0):
    return x + slope * ROWS


def test_perfect_lanes_score_one():
    truth = np.stack([straight(100), straight(300, 1.5)])
    close(score_frame(truth, truth, ROWS), (1, 0, 0))


def test_twenty_pixels_are_too_far_on_a_vertical_lane():
    truth = straight(100)[None]
    close(score_frame(truth + 19.9, truth, ROWS), (1, 0, 0))
    close(score_frame(truth + 20, truth, ROWS), (0, 1, 1))


def test_the_limit_grows_with_the_angle():
    truth = straight(100, 3 / 4)[None]  # 1 / cos = 5 / 4
    assert thresholds(truth, ROWS) == pytest.approx([25])
    close(score_frame(truth + 24.9, truth, ROWS), (1, 0, 0))
    close(score_frame(truth + 25.1, truth, ROWS), (0, 1, 1))


def test_a_lane_is_found_at_85_of_100_points():
    truth = straight(100)[None]
    predicted = truth.copy()
    predicted[0, :3] = 500  # 17 of 20 are right
    close(score_frame(predicted, truth, ROWS), (0.85, 0, 0))
    predicted[0, 3] = 500
    close(score_frame(predicted, truth, ROWS), (0.8, 1, 1))


def test_rows_where_both_are_absent_are_right():
    truth = straight(100)[None].copy()
    truth[0, :10] = -2
    predicted = truth.copy()
    predicted[0, 10:] = -2
    close(score_frame(predicted, truth, ROWS), (0.5, 1, 1))


def test_nothing_predicted_and_nothing_labelled():
    truth = straight(100)[None]
    none = np.zeros((0, 20))
    close(score_frame(none, truth, ROWS), (0, 0, 1))
    close(score_frame(truth, none, ROWS), (0, 1, 0))
    close(score_frame(none, none, ROWS), (0, 0, 0))


def test_three_lanes_too_many_are_worth_nothing():
    truth = straight(100)[None]
    close(score_frame(np.repeat(truth, 3, 0), truth, ROWS), (1, 2 / 3, 0))
    close(score_frame(np.repeat(truth, 4, 0), truth, ROWS), (0, 0, 1))


def test_the_worst_of_five_lanes_is_forgiven():
    truth = np.stack([straight(100 * index) for index in range(1, 6)])
    close(score_frame(truth[:4], truth, ROWS), (1, 0, 0))
    close(score_frame(truth[:3], truth, ROWS), (0.75, 0, 0.25))


def test_one_lane_may_be_the_best_for_two():
    truth = np.stack([straight(100), straight(110)])
    close(score_frame(straight(105)[None], truth, ROWS), (1, -1, 0))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 6))
def test_as_the_slow_oracle(seed, predicted_count, truth_count):
    random = np.random.default_rng(seed)
    truth = random.uniform(0, 400, (truth_count, 1)) + random.uniform(-2, 2, (truth_count, 1)) * ROWS
    truth = np.where((truth >= 0) & (random.uniform(size=truth.shape) < 0.9), truth, -2)
    source = random.integers(0, max(1, truth_count), predicted_count)
    predicted = (truth[source] if truth_count else np.zeros((predicted_count, 20))).copy()
    predicted = np.where(predicted >= 0, predicted + random.normal(0, 12, predicted.shape), predicted)
    close(score_frame(predicted, truth, ROWS), slow(predicted.tolist(), truth.tolist(), ROWS.tolist()))


def test_means_are_over_images():
    mean = mean_score([Score(1, 0, 0), Score(0.5, 0.5, 1)])
    close(mean, (0.75, 0.25, 0.5))
    with pytest.raises(DataError) as raised:
        mean_score([])
    assert str(raised.value) == "scores must be those of at least one image, not of none"


def test_lanes_of_another_length_are_refused():
    with pytest.raises(DataError) as raised:
        score_frame(np.zeros((2, 19)), np.zeros((1, 20)), ROWS)
    assert str(raised.value) == (
        "predicted lanes must have the shape (lanes, 20), one column for each row, not (2, 19)"
    )
    with pytest.raises(DataError, match=r"labelled lanes must have the shape \(lanes, 20\)"):
        score_frame(np.zeros((2, 20)), np.zeros(20), ROWS)
