"""Average precision against its definition written as loops, on random boxes."""

import numpy as np
import pytest

from retrim.errors import DataError
from retrim.zoo.coco import HELD_OUT, Detections, Instances, average_precision, open_coco


def overlap(found, truth, crowd):
    """Common area over that of the union, or of the detection where the truth is a crowd."""
    width = min(found[2], truth[2]) - max(found[0], truth[0])
    height = min(found[3], truth[3]) - max(found[1], truth[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (found, truth)]
    return width * height / (areas[0] if crowd else sum(areas) - width * height)


def judged(truth, found, label, least):
    """(score, right) of the counted detections of one image and class, in falling order of scores."""
    objects = [i for i in range(len(truth)) if truth.labels[i] == label]
    single, crowds = ([i for i in objects if truth.crowd[i] == crowd] for crowd in (False, True))
    order = sorted((i for i in range(len(found)) if found.labels[i] == label), key=lambda i: -found.scores[i])
    taken, result = set(), []
    for i in order[:100]:
        box = found.boxes[i].astype(float)
        free = [(overlap(box, truth.boxes[j].astype(float), False), j) for j in single if j not in taken]
        near = [(value, j) for value, j in free if value >= least]
        if near:
            taken.add(max(near)[1])
            result.append((found.scores[i], True))
        elif not any(overlap(box, truth.boxes[j].astype(float), True) >= least for j in crowds):
            result.append((found.scores[i], False))
    return result, len(single)


def slow(truths, detections, least):
    """Mean over classes of the precision at recalls 0, 0.01, …, 1, each the best at that recall or above."""
    values = []
    for label in sorted({int(label) for truth in truths for label in truth.labels}):
        pairs = [judged(*pair, label, least) for pair in zip(truths, detections, strict=True)]
        count = sum(pair[1] for pair in pairs)
        if not count:
            continue
        ranked = sorted((entry for pair in pairs for entry in pair[0]), key=lambda entry: -entry[0])
        right = np.cumsum([entry[1] for entry in ranked])
        curve = [(hits / count, hits / (rank + 1)) for rank, hits in enumerate(right)]
        points = [max((p for r, p in curve if r >= wanted), default=0.0) for wanted in np.linspace(0, 1, 101)]
        values.append(np.mean(points))
    return 100 * float(np.mean(values)) if values else float("nan")


def drawn_image(generator, classes=4):
    """Truths, some of them crowds, and detections near them, some twice, some of another class, and alarms."""
    count = int(generator.integers(0, 8))
    corners, sides = generator.uniform(0, 150, (count, 2)), generator.uniform(10, 60, (count, 2))
    boxes, labels = np.hstack((corners, corners + sides)), generator.integers(0, classes, count)
    truth = Instances.of(boxes, labels, generator.random(count) < 0.15)
    near = np.repeat(np.arange(count), generator.integers(0, 4, count))
    found = boxes[near] + generator.normal(0, 3, (len(near), 4))
    other = generator.random(len(near)) < 0.1
    kinds = np.where(other, generator.integers(0, classes + 1, len(near)), labels[near])
    alarms = generator.uniform(0, 150, (3, 2))
    every = np.vstack((found, np.hstack((alarms, alarms + generator.uniform(5, 50, (3, 2))))))
    return truth, Detections(
        boxes=every,
        scores=generator.random(len(every)),
        labels=np.concatenate((kinds, generator.integers(0, classes + 1, 3))),
    )


@pytest.mark.parametrize("seed", range(4))
def test_against_loops(seed, capfd):
    generator = np.random.default_rng(seed)
    truths, detections = zip(*(drawn_image(generator) for _ in range(15)), strict=True)
    found = average_precision(truths, detections)
    assert capfd.readouterr().out == ""
    assert found["AP50"] == pytest.approx(slow(truths, detections, 0.5))
    assert found["AP75"] == pytest.approx(slow(truths, detections, 0.75))
    every = [slow(truths, detections, least) for least in np.linspace(0.5, 0.95, 10)]
    assert found["AP"] == pytest.approx(np.mean(every))
    assert 5 < found["AP"] < found["AP50"] < 95


def nothing():
    return Detections(boxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0, dtype=np.int64))


def one(*box, label=0, crowd=False):
    return Instances.of(np.array([box]), np.array([label]), np.array([crowd]))


def found_one(*box, label=0, score=0.5):
    return Detections(boxes=np.array([box]), scores=np.array([score]), labels=np.array([label]))


def test_a_list_worked_by_hand():
    """Two objects, one found with the second score of three: precision 1/2 up to recall 1/2, at 51 of 101 points."""
    truth = Instances.of(np.array([[0, 0, 10, 10], [50, 50, 60, 60]]), np.array([0, 0]))
    found = Detections(
        boxes=np.array([[20, 20, 30, 30], [0, 0, 10, 10], [80, 80, 90, 90.0]]),
        scores=np.array([0.9, 0.8, 0.7]),
        labels=np.array([0, 0, 0]),
    )
    expected = pytest.approx(100 * 51 / 101 / 2)
    assert average_precision([truth], [found]) == {"AP": expected, "AP50": expected, "AP75": expected}


def test_classes_without_objects_do_not_count():
    truth = one(0, 0, 10, 10, label=7)
    both = Detections(
        boxes=np.array([[0, 0, 10, 10], [0, 0, 10, 10.0]]),
        scores=np.array([0.9, 0.8]),
        labels=np.array([7, 3]),
    )
    assert average_precision([truth], [both])["AP"] == pytest.approx(100)


def test_what_lies_in_a_crowd_is_no_alarm():
    truth = Instances.of(
        np.array([[0, 0, 10, 10], [20, 20, 90, 90]]), np.array([0, 0]), np.array([False, True])
    )
    found = Detections(
        boxes=np.array([[30, 30, 40, 40], [50, 50, 60, 60], [0, 0, 10, 10.0]]),
        scores=np.array([0.9, 0.8, 0.7]),
        labels=np.array([0, 0, 0]),
    )
    assert average_precision([truth], [found])["AP"] == pytest.approx(100)


def test_nothing_found_scores_nothing():
    truth = one(0, 0, 10, 10)
    assert average_precision([truth, Instances.none()], [nothing(), nothing()])["AP"] == 0
    assert average_precision([truth], [found_one(0, 0, 10, 10, label=5)])["AP"] == 0
    assert average_precision([truth], [found_one(5, 5, 5, 5)])["AP"] == 0


@pytest.mark.parametrize("truth", [Instances.none(), one(0, 0, 9, 9, crowd=True)])
def test_without_objects_there_is_no_score(truth):
    for found in (nothing(), found_one(0, 0, 10, 10)):
        assert np.isnan(list(average_precision([truth], [found]).values())).all()


def test_detections_are_checked():
    with pytest.raises(DataError) as raised:
        average_precision([Instances.none()], [])
    assert str(raised.value) == "detections must be of the 1 images that are labelled, not of 0"
    good = {"boxes": np.zeros((2, 4)), "scores": np.zeros(2), "labels": np.zeros(2, dtype=int)}
    for change, sentence in (
        ({"boxes": np.zeros((2, 5))}, "boxes must have the shape (n, 4), not (2, 5)"),
        ({"scores": np.zeros(3)}, "scores must be one for each of the 2 boxes, not of shape (3,)"),
        ({"labels": np.zeros(2)}, "labels must be whole numbers, not of type float64"),
        (
            {"scores": np.array([0, np.nan])},
            "boxes and scores must be finite, but are not: the network diverged",
        ),
    ):
        with pytest.raises(DataError) as raised:
            Detections(**{**good, **change})
        assert str(raised.value) == sentence


def test_real_labels_score_in_full(data):
    truths = open_coco(data, HELD_OUT).truths()
    found = [
        Detections(boxes=truth.boxes, scores=np.ones(len(truth)), labels=truth.labels) for truth in truths
    ]
    assert average_precision(truths, found)["AP"] == pytest.approx(100)
