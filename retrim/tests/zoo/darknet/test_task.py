"""The task: batches, loss, predictions in the image's pixels, scores."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from retrim.errors import ConfigError, DataError
from retrim.zoo import coco
from retrim.zoo.darknet import save_weights
from retrim.zoo.darknet.task import DarknetTask, truth_of
from retrim.zoo.fit import Stage, fit

COLOURS = ((230, 30, 30), (30, 220, 30), (40, 40, 230))


@pytest.fixture
def folder(tmp_path: Path, small_cfg: str) -> Path:
    """Rectangles on grey, each class of its colour; one training image is empty."""
    random = np.random.default_rng(0)
    for part, count in (("train", 9), ("val", 4)):
        for kind in ("images", "labels"):
            (tmp_path / part / kind).mkdir(parents=True)
        for number in range(count):
            image = np.full((90, 120, 3), 120, dtype=np.uint8)
            lines = []
            for label in range(3 if number else 0):
                width, height = random.integers(20, 36, 2)
                left, top = 40 * label + int(random.integers(0, 5)), int(random.integers(0, 90 - height))
                image[top : top + height, left : left + width] = COLOURS[label]
                centre = (left + width / 2) / 120, (top + height / 2) / 90
                lines.append(f"{label} {centre[0]:.6f} {centre[1]:.6f} {width / 120:.6f} {height / 90:.6f}")
            Image.fromarray(image).save(tmp_path / part / "images" / f"{number}.png")
            (tmp_path / part / "labels" / f"{number}.txt").write_text("\n".join(lines))
    (tmp_path / "a.cfg").write_text(small_cfg)
    return tmp_path


@pytest.fixture
def task(folder: Path) -> DarknetTask:
    return DarknetTask(folder=folder, cfg=folder / "a.cfg", batch=4, workers=2)


def test_batches_are_a_function_of_seed_epoch_and_place(task: DarknetTask) -> None:
    assert task.steps == 2
    whole = list(task.batches(3, 1))
    assert whole[0].images.shape == (4, 3, 64, 64)
    assert 0 <= float(whole[0].images.min()) < float(whole[0].images.max()) <= 1
    (late,) = task.batches(3, 1, start=1)
    assert torch.equal(late.images, whole[1].images)
    assert all(torch.equal(a, b) for a, b in zip(late.truths, whole[1].truths, strict=True))
    assert not torch.equal(next(task.batches(3, 2)).images, whole[0].images)
    alone = replace(task, workers=1)
    assert torch.equal(next(alone.batches(3, 1)).images, whole[0].images)


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_truths_lie_on_the_pixels(task: DarknetTask, keep_aspect: bool) -> None:
    """The mean colour inside a box is that of its class, however the image was moved."""
    still = coco.Augmentation(jitter=0.1, hue=0, saturation=1, exposure=1)
    task = replace(task, keep_aspect=keep_aspect, augmentation=still)
    seen = 0
    for batch in task.batches(0, 0):
        for image, truth in zip(batch.images, batch.truths, strict=True):
            for label, x, y, width, height in truth.tolist():
                part = image[
                    :,
                    round(y - height / 4) : round(y + height / 4),
                    round(x - width / 4) : round(x + width / 4),
                ]
                mean = 255 * part.mean(dim=(1, 2))
                assert mean.sub(torch.tensor(COLOURS[int(label)], dtype=torch.float32)).abs().max() < 30
                seen += 1
    assert seen > 12


def test_the_probe_is_not_augmented(task: DarknetTask) -> None:
    probe = task.probe()
    assert [len(batch.truths) for batch in probe] == [4, 4, 1]
    plain = replace(task, augmentation=None).probe()
    assert all(torch.equal(a.images, b.images) for a, b in zip(probe, plain, strict=True))


def test_crowds_are_not_learnt() -> None:
    found = coco.Instances.of(
        np.array([[0, 0, 10, 20], [5, 5, 9, 9]]), np.array([1, 2]), crowd=np.array([False, True])
    )
    assert truth_of(found.single()).tolist() == [[1, 5, 10, 10, 20]]


class Knowing(nn.Module):
    """Heads that say just what the labels are: objectness and class sure, boxes by the inverse of decoding."""

    def __init__(self, task: DarknetTask) -> None:
        super().__init__()
        self.heads = task.build(0).heads
        self.task, self.first = task, 0

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = []
        for head in self.heads:
            side = 64 // head.stride
            maps.append(torch.full((len(images), len(head.anchors), 5 + head.classes, side, side), -20.0))
        head, seen = self.heads[-1], maps[-1]
        for index in range(len(images)):
            frame = self.task.held_out.frames[self.first + index]
            box = coco.Letterbox.fit(frame.size, (64, 64), keep_aspect=self.task.keep_aspect)
            for label, (x, y, width, height) in zip(
                frame.instances.labels, centres(box.to_network(frame.instances.boxes)), strict=True
            ):
                column, row = int(x / head.stride), int(y / head.stride)
                cell = seen[index, 0, :, row, column]
                share = torch.tensor([x / head.stride - column, y / head.stride - row])
                cell[:2] = torch.logit((share + (head.scale_x_y - 1) / 2) / head.scale_x_y)
                cell[2:4] = torch.log(torch.tensor([width, height]) / torch.tensor(head.anchors[0]))
                cell[4] = cell[5 + int(label)] = 20
        self.first += len(images)
        return tuple(maps)


def centres(boxes: np.ndarray) -> np.ndarray:
    return np.column_stack(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]))


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_a_network_that_knows_the_answer_scores_all_there_is(task: DarknetTask, keep_aspect: bool) -> None:
    task = replace(task, keep_aspect=keep_aspect, batch=3)
    model = Knowing(task).train()
    scores = task.score(model)
    assert scores["ap50"] == pytest.approx(100)
    assert scores["ap"] > 99
    assert model.training


def test_a_network_learns(task: DarknetTask) -> None:
    task = replace(task, augmentation=None)
    model = task.build(0)
    curve = fit(task, model, Stage(epochs=40, rate=1e-2, optimizer="adam", decay=0.0), seed=0)
    assert curve.loss[-1] < curve.loss[0] / 3
    assert task.score(model)["ap50"] > task.score(task.build(0))["ap50"] + 20


def test_weights_on_file_are_where_it_starts(task: DarknetTask, folder: Path) -> None:
    model = task.build(5)
    save_weights(model, folder / "a.weights")
    again = replace(task, weights=folder / "a.weights").build(6)
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert not torch.equal(task.build(6).layers[0].conv.weight, model.layers[0].conv.weight)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 0}, "batch must be a whole number >= 1, not 0"),
        ({"workers": 0}, "workers must be a whole number >= 1, not 0"),
        ({"size": -1}, "size must be a number of pixels, or 0 for the cfg's, not -1"),
        ({"overlap": 2.0}, "overlap must be a number from 0 to 1, not 2.0"),
    ],
)
def test_options_are_checked(task: DarknetTask, options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(task, **options)
    assert str(caught.value) == sentence


def test_labels_outside_the_image_are_named(task: DarknetTask, folder: Path) -> None:
    path = folder / "train" / "labels" / "1.txt"
    path.write_text("0 0.9 0.5 0.4 0.2\n")
    with pytest.raises(DataError, match=r"1\.txt', line 1, must hold a box inside") as caught:
        task.probe()
    assert "\n" not in str(caught.value)


def test_a_folder_without_images_is_named(task: DarknetTask, folder: Path) -> None:
    for path in (folder / "val" / "images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="must hold images"):
        task.score(task.build(0))


def test_nothing_to_score_on_is_told(task: DarknetTask, folder: Path) -> None:
    for path in (folder / "val" / "labels").iterdir():
        path.write_text("")
    with pytest.raises(DataError) as caught:
        task.score(task.build(0))
    assert str(caught.value) == (
        f"images held out in {str(folder)!r} must have objects to score on, but have none: check their labels"
    )


def test_public_weights_find_what_is_in_real_images() -> None:
    root = Path(os.environ.get("RETRIM_DATA", Path(__file__).parents[5] / "shared" / "data"))
    if not (root / "coco128").is_dir() or not (root / "yolo").is_dir():
        pytest.skip(f"coco128 or yolo is not in {root}; set RETRIM_DATA to the folder of the data")
    task = DarknetTask(
        folder=root / "coco128",
        cfg=root / "yolo" / "yolo-fastest-1.1.cfg",
        weights=root / "yolo" / "yolo-fastest-1.1.weights",
    )
    held_out = coco.CocoDataset(task.held_out.frames[:32], task.held_out.names)
    found = task.predict(task.build(0), held_out)
    assert coco.average_precision(held_out.truths(), found)["AP50"] > 30
