"""PointPillars: pillars, anchors, targets, losses, suppression, and learning from real frames."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from retrim.zoo.kitti.overlap import bev_overlap
from retrim.zoo.pointpillars.anchors import anchors, decode, encode
from retrim.zoo.pointpillars.config import PAPER, SMALL
from retrim.zoo.pointpillars.decoding import suppress
from retrim.zoo.pointpillars.directions import facing, half
from retrim.zoo.pointpillars.loss import focal
from retrim.zoo.pointpillars.network import PointPillars
from retrim.zoo.pointpillars.pillars import pillars_of
from retrim.zoo.pointpillars.targets import assign
from retrim.zoo.pointpillars.task import PointPillarsTask

DRAW = np.random.default_rng(0)


def test_pillars_against_a_loop() -> None:
    config = replace(SMALL, pillars=5000)
    scan = np.column_stack(
        [
            DRAW.uniform(-5, 50, 4000),
            DRAW.uniform(-25, 25, 4000),
            DRAW.uniform(-4, 2, 4000),
            DRAW.random(4000),
        ]
    ).astype(np.float32)
    points, counts, cells = pillars_of(scan, config)
    rows, columns = config.grid
    held: dict[int, list[np.ndarray]] = {}
    for point in scan:
        if all(config.low[k] <= point[k] < config.high[k] for k in range(3)):
            column = int((point[0] - np.float32(config.low[0])) / np.float32(config.pillar))
            row = int((point[1] - np.float32(config.low[1])) / np.float32(config.pillar))
            held.setdefault(row * columns + column, []).append(point)
    assert rows * columns > max(held)
    assert sorted(held) == cells.tolist()
    for at, cell in enumerate(cells):
        assert counts[at] == min(len(held[cell]), config.points)
        np.testing.assert_array_equal(points[at, : counts[at]], np.array(held[cell])[: config.points])
        assert (points[at, counts[at] :] == 0).all()


def test_more_than_there_is_room_for_is_spread() -> None:
    config = replace(SMALL, pillars=50, points=4)
    scan = np.column_stack(
        [DRAW.uniform(0, 46, 9000), DRAW.uniform(-23, 23, 9000), np.zeros(9000), DRAW.random(9000)]
    ).astype(np.float32)
    points, counts, cells = pillars_of(scan, config)
    assert len(cells) == 50
    assert counts.max() <= 4
    assert points.shape == (50, 4, 4)
    assert np.ptp(cells // config.grid[1]) > 100  # from all over the scan
    again = pillars_of(scan, config)
    np.testing.assert_array_equal(again[0], points)


def test_codes_are_undone() -> None:
    base = anchors(SMALL).reshape(-1, 7)[DRAW.integers(0, 5000, 30)].astype(np.float64)
    boxes = base + DRAW.normal(0, 0.2, base.shape)
    np.testing.assert_allclose(decode(encode(boxes, base), base), boxes, rtol=1e-12, atol=1e-12)


def test_directions_are_undone() -> None:
    yaw = DRAW.uniform(-np.pi, np.pi, 100)
    turned = facing(yaw + np.pi * DRAW.integers(0, 2, 100), half(yaw))
    np.testing.assert_allclose(np.cos(turned - yaw), 1, atol=1e-9)


def test_targets_take_the_boxes_that_are_there() -> None:
    boxes = np.array([[20.0, 3.0, -0.9, 3.9, 1.6, 1.56, 0.1], [10.0, -6.0, -0.8, 0.8, 0.6, 1.73, 1.0]])
    labels, taken = assign(boxes, np.array([0, 1]), SMALL)
    positive = np.nonzero(labels > 0)[0]
    assert set(labels[positive]) == {1, 2}
    assert len(taken) == len(positive)
    grid = anchors(SMALL).reshape(-1, 7)
    for at, box in zip(positive, taken, strict=True):
        assert np.hypot(*(grid[at, :2] - box[:2])) < 1.5
        wanted = boxes[0] if labels[at] == 1 else boxes[1]
        np.testing.assert_array_equal(box, wanted)
    nothing, none = assign(np.zeros((0, 7)), np.zeros(0, dtype=np.int64), SMALL)
    assert (nothing == 0).all()
    assert len(none) == 0


def test_suppression_against_a_loop() -> None:
    boxes = np.column_stack(
        [
            DRAW.uniform(0, 12, (40, 2)),
            np.zeros(40),
            np.tile([3.9, 1.6, 1.5], (40, 1)),
            DRAW.uniform(-3, 3, 40),
        ]
    )
    scores = DRAW.random(40)
    kept: list[int] = []
    flat = boxes[:, [0, 1, 3, 4, 6]]
    for index in np.argsort(-scores):
        if all(bev_overlap(flat[[index]], flat[[other]])[0, 0] <= 0.1 for other in kept):
            kept.append(int(index))
    assert suppress(boxes, scores, 0.1, 100).tolist() == kept
    assert suppress(boxes, scores, 0.1, 3).tolist() == kept[:3]


def test_the_focal_loss_is_the_papers() -> None:
    logits = torch.randn(2, 5, 3, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 3, -1, 2], [0, 0, 0, 2, -1]])
    found = focal(logits, labels)
    for scan in range(2):
        for anchor in range(5):
            label, total = int(labels[scan, anchor]), 0.0
            for kind in range(3):
                p = float(torch.sigmoid(logits[scan, anchor, kind]))
                right = label == kind + 1
                pt, alpha = (p, 0.25) if right else (1 - p, 0.75)
                total -= alpha * (1 - pt) ** 2 * np.log(pt)
            assert float(found[scan, anchor]) == pytest.approx(0 if label < 0 else total, rel=1e-9)


def test_names_and_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        state = PointPillars(PAPER).state_dict()
    for name, shape in {
        "vfe.pfn_layers.0.linear.weight": None,
        "backbone_2d.blocks.0.1.weight": None,
        "dense_head.conv_cls.weight": None,
        "dense_head.conv_box.weight": None,
        "dense_head.conv_dir_cls.weight": None,
    }.items():
        assert name in state, (name, shape)
    assert tuple(state["dense_head.conv_cls.weight"].shape) == (18, 384, 1, 1)
    assert tuple(state["dense_head.conv_box.weight"].shape) == (42, 384, 1, 1)


def test_learns_from_real_frames() -> None:
    folder = Path(os.environ.get("RETRIM_DATA", Path(__file__).parents[5] / "shared" / "data")) / "kitti"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: real frames of KITTI")
    task = PointPillarsTask(folder=folder, config=SMALL, batch=1, augmentation=None)
    model = task.build(0)
    batch = next(iter(task.batches(0, 0)))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    one, other = next(iter(task.batches(0, 0))), next(iter(task.batches(0, 0)))
    assert torch.equal(one.pillars.points, other.pillars.points)
    assert functional.mse_loss(one.pillars.points, batch.pillars.points) == 0
