"""Updates of the multipliers, as tables and scalars."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from retrim.errors import CheckpointError
from retrim.prune import ADMM, SLR, Plan, Rule, csv_log, tensorboard_log
from retrim.prune.lagrangian import AugmentedLagrangian
from retrim.structures import Elements


class Scalars:
    """Stands for TensorBoard's writer."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.lines.append((tag, scalar_value, global_step))


def trained(pruner: AugmentedLagrangian, steps: int) -> AugmentedLagrangian:
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    pruner.prepare(model, Plan([Rule(weights="weight", structure=Elements(), density=0.25)]))
    for _ in range(steps):
        model.zero_grad()
        model(torch.ones(2, 8)).square().mean().backward()
        pruner.add_gradient_()
        with torch.no_grad():
            model.weight -= 0.1 * model.weight.grad
        pruner.step(lambda: float(model(torch.ones(2, 8)).square().mean()))
    return pruner


def test_a_table_holds_every_update(tmp_path: Path) -> None:
    path = tmp_path / "updates.csv"
    pruner = SLR(every=3)
    pruner.watch(csv_log(path))
    trained(pruner, 10)
    with path.open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["step"]) for line in lines] == [3, 6, 9]
    for line, update in zip(lines, pruner.updates, strict=True):
        assert float(line["step_size"]) == update.step_size
        assert float(line["distance"]) == update.distance
        assert line["weights_accepted"] == str(int(update.weights_accepted))
    assert list(tmp_path.iterdir()) == [path]  # nothing beside it


def test_what_a_method_does_not_know_is_left_empty(tmp_path: Path) -> None:
    scalars = Scalars()
    pruner = ADMM(every=5)
    pruner.watch(csv_log(tmp_path / "a.csv"), tensorboard_log(scalars, "admm"))
    trained(pruner, 5)
    assert (tmp_path / "a.csv").read_text().splitlines()[1].split(",")[6] == ""  # the probe's loss
    assert ("admm/distance", pruner.updates[0].distance, 5) in scalars.lines
    assert "admm/probe_loss" not in [tag for tag, _, _ in scalars.lines]


def test_scalars_lie_over_the_optimisers_steps() -> None:
    scalars = Scalars()
    pruner = SLR(every=2)
    pruner.watch(tensorboard_log(scalars))
    trained(pruner, 6)
    residuals = [(value, step) for tag, value, step in scalars.lines if tag == "pruner/distance"]
    assert residuals == [(update.distance, update.step) for update in pruner.updates]


def test_tensorboard_itself_takes_them(tmp_path: Path) -> None:
    board = pytest.importorskip("torch.utils.tensorboard", reason="tensorboard is not installed")
    writer = board.SummaryWriter(str(tmp_path))
    pruner = SLR(every=2)
    pruner.watch(tensorboard_log(writer))
    trained(pruner, 4)
    writer.close()
    assert any(path.stat().st_size > 100 for path in tmp_path.iterdir())


def test_a_table_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    pruner = ADMM(every=1)
    pruner.watch(csv_log(tmp_path / "missing" / "updates.csv"))
    with pytest.raises(CheckpointError, match="table of updates"):
        trained(pruner, 1)
