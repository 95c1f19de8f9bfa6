from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from retrim.errors import ConfigError
from retrim.zoo.tusimple import H_SAMPLES
from retrim.zoo.ultrafast import SMALL, Config, LaneTask
from retrim.zoo.ultrafast.task import MEAN, Loaded

TINY = Config(height=32, width=64, cells=20, channels=4, hidden=16)


@pytest.fixture
def folder(tmp_path, write):
    """Seven images to train on and three held out, of 128 x 72, with two lanes each."""
    rows = np.array(H_SAMPLES) // 10

    def labels(part, count):
        return [
            {
                "lanes": [(56 - (rows - 16) // 2 + i).tolist(), (70 + (rows - 16) // 2 + i).tolist()],
                "h_samples": rows.tolist(),
                "raw_file": f"clips/{part}{i}/20.jpg",
            }
            for i in range(count)
        ]

    write(tmp_path / "label_data_0.json", labels("a", 7))
    write(tmp_path / "test_label.json", labels("b", 3))
    return tmp_path


@pytest.fixture
def task(folder):
    return LaneTask(folder=folder, config=TINY, batch=3)


def same(first, second):
    return torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)


def test_batches_are_a_function_of_seed_epoch_and_place(task):
    assert task.steps == 2
    whole = list(task.batches(1, 2))
    assert len(whole) == 2
    assert all(same(*pair) for pair in zip(whole, task.batches(1, 2), strict=True))
    (last,) = task.batches(1, 2, start=1)
    assert same(last, whole[1])
    assert not same(next(task.batches(1, 3)), whole[0])
    assert not same(next(task.batches(2, 2)), whole[0])


def test_a_batch_is_what_the_loss_takes(task):
    batch = next(task.batches(0, 0))
    assert batch.images.shape == (3, 3, 32, 64) and batch.images.dtype == torch.float32
    assert batch.labels.shape == (3, 56, 4) and batch.segmentation is None
    loss = task.loss(task.build(0), batch)
    assert loss.shape == () and bool(loss.isfinite())


def test_without_augmentation_labels_are_the_frames(folder):
    task = LaneTask(folder=folder, config=TINY, batch=7, augmentation=None)
    (batch,) = task.probe()
    lane = task.training.frames[0].lanes[0]
    np.testing.assert_array_equal(batch.labels[0, :, 1], np.floor(lane * 19 / 128).astype(int))
    assert (batch.labels[0, :, 0] == 20).all()


def test_the_probe_is_the_same_and_not_augmented(task):
    first, second = task.probe(), task.probe()
    assert [len(batch.labels) for batch in first] == [3, 3, 1]
    assert all(same(*pair) for pair in zip(first, second, strict=True))
    grey = (90 / 255 - torch.tensor(MEAN)) / torch.tensor((0.229, 0.224, 0.225))
    torch.testing.assert_close(first[0].images.mean((0, 2, 3)), grey, atol=0.02, rtol=0)


def test_the_seed_decides_the_weights_and_leaves_torch_alone(task):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = task.build(0), task.build(0), task.build(1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.pool.weight, second.pool.weight)
    assert not torch.equal(first.pool.weight, other.pool.weight)


def test_weights_on_file_are_where_it_starts(folder, tmp_path, task):
    model = task.build(5)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    again = replace(task, weights=tmp_path / "w.pt").build(0)
    assert torch.equal(again.cls[2].weight, model.cls[2].weight)
    torch.save(model.model.state_dict() | {"fc.weight": torch.zeros(1)}, tmp_path / "t.pt")
    trunk = replace(task, trunk=tmp_path / "t.pt").build(0)
    assert torch.equal(trunk.model.conv1.weight, model.model.conv1.weight)


class _Oracle(torch.nn.Module):
    """Gives the labels of the held-out images, in order."""

    def __init__(self, task):
        super().__init__()
        self.task, self.at = task, 0

    def forward(self, images):
        indices = list(range(self.at, self.at + len(images)))
        self.at += len(images)
        labels = self.task._batch(self.task.held_out, indices, None).labels
        return torch.full((len(images), 21, 56, 4), -40.0).scatter(1, labels[:, None], 40.0)


def test_the_labels_themselves_score_100(task):
    oracle = _Oracle(task).train()
    assert task.score(oracle) == {"accuracy": 100.0, "false_positives": 0.0, "false_negatives": 0.0}
    assert oracle.training
    assert task.metric in task.score(_Oracle(task))


def test_the_auxiliary_branch_learns_the_drawn_lanes(folder):
    task = LaneTask(folder=folder, config=replace(TINY, auxiliary=True), batch=2, augmentation=None)
    model = task.build(0)
    batch = next(task.batches(0, 0))
    assert batch.segmentation.shape == (2, 4, 8)
    assert set(batch.segmentation.unique().tolist()) == {0, 2, 3}
    task.loss(model.train(), batch).backward()
    assert model.aux_combine[4].weight.grad.abs().sum() > 0
    assert task.loss(model.eval(), batch) == task.losses(model(batch.images), batch.labels)


def test_mirrored_lanes_change_sides(folder):
    """A batch's mirrored images have their lanes in the slots of the other side."""
    from retrim.zoo.ultrafast.augmentation import Augmentation

    still = Augmentation(rotation=0, across=0, down=0, reflect=1)
    task = LaneTask(folder=folder, config=TINY, batch=7, augmentation=still)
    plain, mirrored = task.probe()[0].labels, next(task.batches(0, 0)).labels
    order = np.random.default_rng([0, 0]).permutation(7)
    left = plain[order][:, :, 1].clamp(max=19)
    # Cells are width / 19 wide: a column in cell k is mirrored to cell 18 - k, or a neighbour.
    assert ((18 - left) - mirrored[:, :, 2]).abs().max() <= 1


def test_a_few_steps_lower_the_loss(folder):
    torch.manual_seed(0)
    task = LaneTask(folder=folder, config=TINY, batch=7, augmentation=None)
    model = task.build(0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for epoch in range(60):
        for batch in islice(task.batches(0, epoch), 1):
            optimizer.zero_grad()
            loss = task.loss(model, batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_options_are_checked(folder):
    with pytest.raises(ConfigError) as raised:
        LaneTask(folder=folder, batch=0)
    assert str(raised.value) == "batch must be a whole number >= 1, not 0"
    with pytest.raises(ConfigError) as raised:
        LaneTask(folder=folder, weights=folder, trunk=folder)
    assert str(raised.value) == (
        "weights and trunk must not both be given: the network's weights hold the trunk's"
    )


def test_labels_of_real_frames_are_worth_nearly_all(data):
    """What is lost by cells and slots: the fifth lane of one frame is forgiven by the metric."""
    task = LaneTask(folder=data, config=replace(SMALL, channels=4, hidden=4))
    frames = Loaded.read([*task.training.frames, *task.held_out.frames], task.config)
    task.__dict__["held_out"] = frames

    class Cells(_Oracle):
        def forward(self, images):
            labels = self.task._batch(self.task.held_out, list(range(len(images))), None).labels
            return torch.full((len(images), 101, 56, 4), -40.0).scatter(1, labels[:, None], 40.0)

    assert task.score(Cells(task))["accuracy"] > 99
