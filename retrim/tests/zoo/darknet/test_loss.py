"""Targets and loss against loops over cells, and what descent on the loss does."""

import math

import pytest
import torch

from retrim.errors import ConfigError, DataError
from retrim.zoo.darknet import DetectionLoss, Head, detections_of, targets_of
from retrim.zoo.darknet.loss import near, parts

HEADS = (
    Head(
        anchors=((60, 40), (30, 50)), classes=3, stride=16, ignore_thresh=0.3, iou_thresh=0.4, scale_x_y=1.1
    ),
    Head(anchors=((8, 8), (12, 20), (30, 50)), classes=3, stride=8, ignore_thresh=0.5),
)
SIZES = ((4, 5), (8, 10))
TRUTHS = [
    torch.tensor(
        [
            [0, 20.0, 30, 12, 18],
            [2, 20.5, 31, 11, 21],  # the same cell and anchor
            [1, 80, 64, 28, 47],  # on the corner of the input; of an anchor that both heads have
            [1, 0, 12, 9, 7],
        ]
    ),
    torch.zeros(0, 5),
    torch.tensor([[2, 41.0, 33, 55, 42]]),
]


@pytest.fixture
def maps():
    torch.manual_seed(0)
    return [
        0.7 * torch.randn(3, len(head.anchors), 8, *size, dtype=torch.float64)
        for head, size in zip(HEADS, SIZES, strict=True)
    ]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def crossed(logit, wanted):
    return -math.log(sigmoid(logit)) if wanted else -math.log(1 - sigmoid(logit))


def alike(a, b):
    common = min(a[0], b[0]) * min(a[1], b[1])
    return common / (a[0] * a[1] + b[0] * b[1] - common)


def ratio(a, b):
    """IoU of boxes of centre and size."""
    common = 1.0
    for k in (0, 1):
        low = max(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2)
        high = min(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2)
        common *= max(high - low, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def complete(a, b):
    spans = [
        max(a[k] + a[k + 2] / 2, b[k] + b[k + 2] / 2) - min(a[k] - a[k + 2] / 2, b[k] - b[k + 2] / 2)
        for k in (0, 1)
    ]
    v = 4 / math.pi**2 * (math.atan(b[2] / b[3]) - math.atan(a[2] / a[3])) ** 2
    iou = ratio(a, b)
    distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
    return iou - distance / (spans[0] ** 2 + spans[1] ** 2) - v * v / (1 - iou + v)


def box_of(t, head, anchor, row, column):
    s = head.scale_x_y
    x, y = (sigmoid(t[k]) * s - (s - 1) / 2 + cell for k, cell in ((0, column), (1, row)))
    width, height = head.anchors[anchor]
    return x * head.stride, y * head.stride, math.exp(t[2]) * width, math.exp(t[3]) * height


def slow_targets(truths, heads, sizes):
    """Of each head a dictionary from (image, anchor, row, column) to (box, classes)."""
    found = [{} for _ in heads]
    for image, rows in enumerate(truths):
        for label, x, y, w, h in rows.tolist():
            best = max(alike((w, h), anchor) for head in heads for anchor in head.anchors)
            for head, (height, width), targets in zip(heads, sizes, found, strict=True):
                for a, anchor in enumerate(head.anchors):
                    like = alike((w, h), anchor)
                    if math.isclose(like, best, rel_tol=1e-9) or like > head.iou_thresh:
                        row, column = (
                            min(int(v // head.stride), most - 1) for v, most in ((y, height), (x, width))
                        )
                        key = image, a, row, column
                        labels = targets.get(key, (None, set()))[1] | {int(label)}
                        targets[key] = (x, y, w, h), labels
    return found


def slow_parts(maps, truths, heads):
    boxes = objectness = classes = 0.0
    sizes = [tuple(seen.shape[3:]) for seen in maps]
    for seen, head, targets in zip(maps, heads, slow_targets(truths, heads, sizes), strict=True):
        images, anchors, _, height, width = seen.shape
        for key in [
            (i, a, r, c)
            for i in range(images)
            for a in range(anchors)
            for r in range(height)
            for c in range(width)
        ]:
            image, anchor, row, column = key
            t = seen[image, anchor, :, row, column].tolist()
            box = box_of(t, head, anchor, row, column)
            if key in targets:
                truth, labels = targets[key]
                area = truth[2] * truth[3] / (width * height * head.stride**2)
                boxes += (2 - area) * (1 - complete(box, truth))
                objectness += crossed(t[4], True)
                classes += sum(crossed(t[5 + label], label in labels) for label in range(head.classes))
            elif all(ratio(box, truth[1:]) <= head.ignore_thresh for truth in truths[image].tolist()):
                objectness += crossed(t[4], False)
    return [part / len(truths) for part in (boxes, objectness, classes)]


def test_targets_against_loops():
    for head, found, expected in zip(
        HEADS, targets_of(TRUTHS, HEADS, SIZES), slow_targets(TRUTHS, HEADS, SIZES), strict=True
    ):
        assert [tuple(place) for place in found.places.tolist()] == sorted(expected)
        for place, box, classes in zip(
            found.places.tolist(), found.boxes.tolist(), found.classes.tolist(), strict=True
        ):
            assert (tuple(box), {k for k in range(3) if classes[k]}) == expected[tuple(place)]
        assert found.classes.shape[1] == head.classes


def test_two_truths_in_one_place():
    _, fine = targets_of(TRUTHS, HEADS, SIZES)
    place = fine.places.tolist().index([0, 1, 3, 2])
    assert fine.boxes[place].tolist() == [20.5, 31, 11, 21]
    assert fine.classes[place].tolist() == [1, 0, 1]


def test_loss_against_loops(maps):
    found = parts(maps, TRUTHS, HEADS)
    expected = slow_parts(maps, TRUTHS, HEADS)
    assert [part.item() for part in found] == pytest.approx(expected, rel=1e-4)
    ignored = [near(seen, TRUTHS, head).sum().item() for seen, head in zip(maps, HEADS, strict=True)]
    assert min(ignored) > 0  # the rule is put to the test
    loss = DetectionLoss(boxes=0.5, objectness=2.0, classes=3.0)(maps, TRUTHS, HEADS)
    weighted = sum(weight * part for weight, part in zip((0.5, 2.0, 3.0), expected, strict=True))
    assert loss.item() == pytest.approx(weighted, rel=1e-4)
    assert loss.dtype == torch.float32


def test_random_truths_against_loops(maps):
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        truths = []
        for count in (5, 1, 9):
            share = torch.rand(count, 5, generator=generator)
            size = 3 + 60 * share[:, 3:] ** 2
            truths.append(
                torch.cat(((3 * share[:, :1]).floor(), share[:, 1:3] * torch.tensor([80, 64]), size), 1)
            )
        assert [part.item() for part in parts(maps, truths, HEADS)] == pytest.approx(
            slow_parts(maps, truths, HEADS), rel=1e-4
        )


def test_a_batch_without_truths(maps):
    none = [torch.zeros(0, 5)] * 3
    leaves = [seen.requires_grad_() for seen in maps]
    boxes, objectness, classes = parts(leaves, none, HEADS)
    assert (boxes.item(), classes.item()) == (0, 0)
    assert objectness.item() == pytest.approx(slow_parts(maps, none, HEADS)[1], rel=1e-5)
    DetectionLoss()(leaves, none, HEADS).backward()
    assert all(seen.grad.isfinite().all() for seen in leaves)


def test_huge_codes_give_finite_gradients():
    for value in (1e30, -1e30):
        maps = [
            torch.full((3, len(head.anchors), 8, *size), value, requires_grad=True)
            for head, size in zip(HEADS, SIZES, strict=True)
        ]
        DetectionLoss(objectness=0, classes=0)(maps, TRUTHS, HEADS).backward()
        assert all(seen.grad.isfinite().all() for seen in maps)


@pytest.mark.parametrize("truth", [[1, 30, 40, 10, 18], [2, 40.5, 22, 70, 30], [0, 79, 1, 20, 12]])
def test_descent_finds_the_truth(truth):
    torch.manual_seed(0)
    maps = [
        (0.1 * torch.randn(1, len(head.anchors), 8, *size)).requires_grad_()
        for head, size in zip(HEADS, SIZES, strict=True)
    ]
    optimiser = torch.optim.Adam(maps, lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        DetectionLoss()(maps, [torch.tensor([truth])], HEADS).backward()
        optimiser.step()
    found = detections_of(maps, HEADS, score=0.5)[0]
    assert found.labels.tolist() == [truth[0]]
    left, top, right, bottom = found.boxes[0].tolist()
    box = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    assert ratio(box, truth[1:]) > 0.9


@pytest.mark.parametrize(
    ("truth", "sentence"),
    [
        (torch.zeros(2, 4), "truths must have the shape (m, 5), not (2, 4)"),
        (
            torch.tensor([[0.0, 5, 5, 0, 3]]),
            "truths must be finite boxes with a width and height > 0, but some are not: drop them",
        ),
        (
            torch.tensor([[0, math.nan, 5, 2, 3]]),
            "truths must be finite boxes with a width and height > 0, but some are not: drop them",
        ),
        (
            torch.tensor([[3.0, 5, 5, 2, 3]]),
            "truths must be of classes from 0 to 2, but one is of class 3: choose a network for these classes",
        ),
    ],
)
def test_truths_are_checked(maps, truth, sentence):
    with pytest.raises(DataError) as raised:
        DetectionLoss()(maps, [truth, *TRUTHS[1:]], HEADS)
    assert str(raised.value) == sentence


def test_truths_are_of_the_batch(maps):
    with pytest.raises(DataError) as raised:
        DetectionLoss()(maps, TRUTHS[:2], HEADS)
    assert str(raised.value) == "truths must be of the 3 images of the batch, not of 2"


def test_weights_are_checked():
    with pytest.raises(ConfigError) as raised:
        DetectionLoss(boxes=-1.0)
    assert str(raised.value) == "boxes must be a number >= 0, not -1.0"
