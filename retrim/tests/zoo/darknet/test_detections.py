"""Against loops over cells and boxes."""

import math

import pytest
import torch

from retrim.zoo.darknet import Head, detections_of
from retrim.zoo.darknet.boxes import complete_overlap, corners, overlap, shape_overlap
from retrim.zoo.darknet.detections import suppress

HEADS = (
    Head(anchors=((30, 40), (60, 20)), classes=3, stride=32, scale_x_y=1.2),
    Head(anchors=((8, 8), (12, 20), (20, 9)), classes=3, stride=16),
)


@pytest.fixture
def maps():
    torch.manual_seed(0)
    return [
        torch.randn(2, len(head.anchors), 8, size, size + 1) for head, size in zip(HEADS, (2, 4), strict=True)
    ]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def ratio(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def slow(maps, heads, image, least, most, limit):
    """Boxes, scores and labels in tuples, best first."""
    found = []
    for seen, head in zip(maps, heads, strict=True):
        for a, (width, height) in enumerate(head.anchors):
            for row in range(seen.shape[3]):
                for column in range(seen.shape[4]):
                    t = seen[image, a, :, row, column].tolist()
                    s = head.scale_x_y
                    x = (sigmoid(t[0]) * s - (s - 1) / 2 + column) * head.stride
                    y = (sigmoid(t[1]) * s - (s - 1) / 2 + row) * head.stride
                    w, h = math.exp(t[2]) * width, math.exp(t[3]) * height
                    for label in range(head.classes):
                        score = sigmoid(t[4]) * sigmoid(t[5 + label])
                        if score > least:
                            found.append(((x - w / 2, y - h / 2, x + w / 2, y + h / 2), score, label))
    found.sort(key=lambda entry: -entry[1])
    kept = []
    for box, score, label in found:
        if all(other[2] != label or ratio(box, other[0]) <= most for other in kept):
            kept.append((box, score, label))
    return kept[:limit]


@pytest.mark.parametrize(("score", "most", "limit"), [(0.25, 0.45, 100), (0.0, 0.1, 1000), (0.1, 0.45, 7)])
def test_against_loops(maps, score, most, limit):
    found = detections_of(maps, HEADS, score=score, overlap=most, limit=limit)
    for image in range(2):
        expected = slow(maps, HEADS, image, score, most, limit)
        assert len(found[image]) == len(expected) > 0
        torch.testing.assert_close(
            found[image].boxes, torch.tensor([entry[0] for entry in expected]), rtol=1e-4, atol=1e-3
        )
        torch.testing.assert_close(found[image].scores, torch.tensor([entry[1] for entry in expected]))
        assert found[image].labels.tolist() == [entry[2] for entry in expected]


def test_nothing_is_found(maps):
    found = detections_of(maps, HEADS, score=0.9999)[0]
    assert (tuple(found.boxes.shape), len(found), found.labels.dtype) == ((0, 4), 0, torch.int64)


def test_huge_codes_stay_finite(maps):
    huge = [torch.full_like(seen, 3e38) for seen in maps]
    for found in detections_of(huge, HEADS, score=0.5):
        assert len(found) and found.boxes.isfinite().all() and (found.scores == 1).all()
    halves = [seen.to(torch.bfloat16) for seen in maps]
    assert detections_of(halves, HEADS)[0].boxes.dtype == torch.float32


def test_suppression_against_loops():
    torch.manual_seed(0)
    centre, size = 40 * torch.rand(300, 2), 5 + 20 * torch.rand(300, 2)
    boxes, labels = corners(torch.cat((centre, size), 1)), torch.randint(0, 3, (300,))
    kept: list[int] = []
    for index in range(300):
        if all(
            labels[index] != labels[other] or ratio(boxes[index].tolist(), boxes[other].tolist()) <= 0.4
            for other in kept
        ):
            kept.append(index)
    assert suppress(boxes, labels, 0.4).nonzero()[:, 0].tolist() == kept


def test_a_dropped_box_drops_none():
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])  # each overlaps the next by 3/7
    assert suppress(boxes, torch.zeros(3), 0.4).tolist() == [True, False, True]
    assert suppress(boxes, torch.tensor([0, 1, 1]), 0.4).tolist() == [True, True, False]
    assert suppress(boxes[:0], torch.zeros(0), 0.4).tolist() == []


def test_overlaps():
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [10, 10, 12, 12]])
    expected = torch.tensor([[ratio(a, b) for b in boxes.tolist()] for a in boxes.tolist()])
    torch.testing.assert_close(overlap(boxes, boxes), expected)
    shapes = torch.tensor([[4.0, 2], [2, 4]])
    torch.testing.assert_close(shape_overlap(shapes, shapes), torch.tensor([[1, 1 / 3], [1 / 3, 1]]))


def test_complete_overlap_by_hand():
    first, second = torch.tensor([[2.0, 2, 4, 4]]), torch.tensor([[5.0, 4, 2, 4]])
    v = 4 / math.pi**2 * (math.atan(2 / 4) - math.atan(1)) ** 2
    expected = 0 - (9 + 4) / (36 + 36) - v / (1 + v) * v
    assert complete_overlap(first, second).item() == pytest.approx(expected, abs=1e-6)
    assert complete_overlap(first, first).item() == pytest.approx(1, abs=1e-6)
