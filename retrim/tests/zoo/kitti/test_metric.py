"""Average precision against the benchmark's rules written as loops, on random frames."""

import numpy as np
import pytest

from retrim.zoo.kitti import DIFFICULTIES, average_precision
from retrim.zoo.kitti.metric import KINDS, recall_thresholds
from retrim.zoo.kitti.objects import objects_from_rows
from retrim.zoo.kitti.overlap import bev_overlap, overlap_3d

OVERLAP = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
NEIGHBOUR = {"Car": "Van", "Pedestrian": "Person_sitting", "Cyclist": ""}
HEIGHT, OCCLUSION, TRUNCATION = (40, 25, 25), (0, 1, 2), (0.15, 0.3, 0.5)


def image_overlap(first, second, of_first=False):
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = [(r[2] - r[0]) * (r[3] - r[1]) for r in (first, second)]
    return width * height / (area[0] if of_first else area[0] + area[1] - width * height)


def overlap(found, i, label, j, kind):
    if kind == "image":
        return image_overlap(found.rectangles[i], label.rectangles[j])
    boxes = []
    for objects, k in ((found, i), (label, j)):
        height, width, length = objects.sizes[k]
        x, y, z = objects.locations[k]
        boxes.append(np.array([[x, z, height / 2 - y, length, width, height, -objects.rotations[k]]]))
    if kind == "3d":
        return overlap_3d(*boxes)[0, 0]
    return bev_overlap(*(b[:, [0, 1, 3, 4, 6]] for b in boxes))[0, 0]


def frame_counts(label, found, name, kind, difficulty, threshold):
    """(scores of hits, hits, false alarms) of one frame; threshold None matches by score."""
    level = DIFFICULTIES.index(difficulty)
    state = []
    for j in range(len(label)):
        height = label.rectangles[j, 3] - label.rectangles[j, 1]
        hard = (
            label.occlusion[j] > OCCLUSION[level]
            or label.truncation[j] > TRUNCATION[level]
            or height <= HEIGHT[level]
        )
        own = label.names[j] == name
        state.append(1 if own and not hard else 0 if own or label.names[j] == NEIGHBOUR[name] else -1)
    found_state = []
    for i in range(len(found)):
        low = int(abs(found.rectangles[i, 3] - found.rectangles[i, 1])) < HEIGHT[level]
        found_state.append(0 if low else 1 if found.names[i] == name else -1)
    taken, hits, scores = set(), 0, []
    for j in range(len(label)):
        if state[j] == -1:
            continue
        choice, value, weak = None, -np.inf, False
        for i in range(len(found)):
            if found_state[i] == -1 or i in taken or (threshold is not None and found.scores[i] < threshold):
                continue
            common = overlap(found, i, label, j, kind)
            if common <= OVERLAP[name]:
                continue
            if threshold is None:
                if found.scores[i] > value:
                    choice, value = i, found.scores[i]
            elif found_state[i] == 1 and (weak or common > value):
                choice, value, weak = i, common, False
            elif found_state[i] == 0 and choice is None:
                choice, weak = i, True
        if choice is None:
            continue
        taken.add(choice)
        if state[j] == 1 and found_state[choice] == 1:
            hits += 1
            scores.append(found.scores[choice])
    alarms = 0
    if threshold is not None:
        for i in range(len(found)):
            if i in taken or found_state[i] != 1 or found.scores[i] < threshold:
                continue
            excused = kind == "image" and any(
                label.names[j] == "DontCare"
                and image_overlap(found.rectangles[i], label.rectangles[j], of_first=True) > OVERLAP[name]
                for j in range(len(label))
            )
            alarms += not excused
    return scores, hits, alarms, state.count(1)


def looped(labels, detections, name, kind, difficulty):
    frames = list(zip(labels, detections, strict=True))
    first = [frame_counts(*frame, name, kind, difficulty, None) for frame in frames]
    counted = sum(each[3] for each in first)
    if not counted:
        return float("nan")
    precision = [0.0] * 41
    thresholds = recall_thresholds(np.array([s for each in first for s in each[0]]), counted)
    for index, threshold in enumerate(thresholds):
        counts = [frame_counts(*frame, name, kind, difficulty, threshold) for frame in frames]
        hits, alarms = sum(each[1] for each in counts), sum(each[2] for each in counts)
        precision[index] = hits / (hits + alarms) if hits + alarms else 0.0
    return 100 * sum(max(precision[index:]) for index in range(1, 41)) / 40


def drawn_frame(generator):
    """Labels of all kinds and detections near them, some twice, some low, some of another class."""
    names, rows, found_names, found_rows = [], [], [], []
    for _ in range(generator.integers(0, 9)):
        name = str(generator.choice(["Car", "Van", "Pedestrian", "Person_sitting", "Cyclist"]))
        x, z, height = generator.uniform(-15, 15), generator.uniform(8, 40), generator.uniform(15, 90)
        left, top = 600 + 20 * x, 150.0
        row = [float(generator.choice([0, 0.2, 0.4, 0.6])), int(generator.integers(0, 4)), 0.0]
        row += [left, top, left + height, top + height, 1.6, 1.7, 3.9, x, 1.6, z, generator.uniform(-3, 3)]
        names.append(name)
        rows.append(row)
        for _ in range(generator.choice([0, 1, 2])):
            moved = np.array(row)
            moved[3:7] += generator.normal(0, 2, 4)
            moved[[10, 12]] += generator.normal(0, 0.25, 2)
            moved[13] += generator.normal(0, 0.05)
            other = str(generator.choice(["Car", "Pedestrian", "Cyclist"]))
            found_names.append(name if name in OVERLAP and generator.random() < 0.85 else other)
            found_rows.append([*moved, generator.random()])
    for _ in range(generator.integers(0, 4)):  # areas, and alarms that lie in some of them
        left = generator.uniform(0, 1000)
        names.append("DontCare")
        rows.append([-1, -1, -10, left, 100, left + 120, 220, -1, -1, -1, -1000, -1000, -1000, -10])
        inner = [
            0,
            0,
            0,
            left + 5,
            105,
            left + generator.uniform(60, 200),
            200,
            1.6,
            1.7,
            3.9,
            60,
            1.6,
            60,
            0,
        ]
        found_names.append(str(generator.choice(list(OVERLAP))))
        found_rows.append([*inner, generator.random()])
    return objects_from_rows(names, rows), objects_from_rows(found_names, found_rows)


@pytest.mark.parametrize("seed", range(2))
def test_against_loops(seed):
    generator = np.random.default_rng(seed)
    labels, detections = zip(*(drawn_frame(generator) for _ in range(12)), strict=True)
    values = []
    for name in OVERLAP:
        for kind in KINDS:
            for difficulty in ("easy", "moderate", "hard"):
                found = average_precision(labels, detections, name, kind, difficulty)
                assert found == pytest.approx(looped(labels, detections, name, kind, difficulty), nan_ok=True)
                values.append(found)
    assert len({round(value, 3) for value in values}) > 6


def test_a_list_worked_by_hand():
    """Two of four cars, an alarm between them: precisions 1 at recall to 1/4, 2/3 to 1/2.

    With four cars, right scores are thresholds of the recall points 0, 10 and 20 (by
    the benchmark's rule each score serves one point), so that points 1 and 2 remain.
    """
    cars = [
        [0, 0, 0, 100 * n, 100, 100 * n + 60, 160, 1.5, 1.6, 4.0, 6.0 * n, 1.6, 20, 0.0] for n in range(4)
    ]
    alarm = [*cars[0][:10], 200.0, 1.6, 20, 0.0]
    labels = objects_from_rows(["Car"] * 4, cars)
    found = objects_from_rows(["Car"] * 3, [[*cars[0], 0.9], [*alarm, 0.8], [*cars[1], 0.7]])
    # thresholds 0.9 and 0.7: precisions 1, 2/3, 0, …; AP = 100 / 40 * (2/3)
    assert recall_thresholds(np.array([0.9, 0.7]), 4).tolist() == [0.9, 0.7]
    assert average_precision([labels], [found], "Car") == pytest.approx(100 / 40 * 2 / 3)
