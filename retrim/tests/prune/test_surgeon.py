"""Optimal brain surgeon: against least squares on the inputs themselves, and what is measured when."""

from __future__ import annotations

import copy
import io
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from retrim.errors import ConfigError, WeightError
from retrim.prune import CubicSchedule, Magnitude, OptimalBrainSurgeon, Plan, Rule
from retrim.prune.surgeon import _costs, eliminated
from retrim.structures import BlockColumns, Elements, Filters, Segments, Structure

ROWS, COLUMNS, SAMPLES = 8, 12, 200


def inputs(columns: int = COLUMNS, seed: int = 0) -> torch.Tensor:
    """Correlated inputs, shape (samples, columns)."""
    draw = np.random.default_rng(seed)
    mixing = draw.normal(size=(columns, columns)) * 0.5 ** np.arange(columns)
    return torch.from_numpy(draw.normal(size=(SAMPLES, columns)) @ mixing + 0.1)


def error(weight: np.ndarray, left: np.ndarray, x: np.ndarray) -> float:
    """Least squared error of x Wᵀ by some columns of x alone."""
    wanted = x @ weight.T
    fit, *_ = np.linalg.lstsq(x[:, left], wanted, rcond=None)
    return float(((x[:, left] @ fit - wanted) ** 2).sum())


@pytest.mark.parametrize("group", [1, 2])
def test_columns_go_one_by_one_as_the_least_error_has_it(group: int) -> None:
    x, weight = inputs(), torch.from_numpy(np.random.default_rng(1).normal(size=(ROWS, COLUMNS)))
    left = np.arange(COLUMNS)
    for count in range(COLUMNS - group, 0, -group):
        tries = [np.setdiff1d(left, left[j : j + group]) for j in range(0, len(left), group)]
        left = min(tries, key=lambda some: error(weight.numpy(), some, x.numpy()))
        (found,), (values,), (inverse,) = eliminated(
            weight[None], torch.linalg.inv(x.T @ x)[None], group, count
        )
        torch.testing.assert_close(inverse, torch.linalg.inv((x.T @ x)[found][:, found]))
        assert found.tolist() == left.tolist()
        fit = np.linalg.lstsq(x.numpy()[:, left], (x @ weight.T).numpy(), rcond=None)[0]
        np.testing.assert_allclose(values.numpy(), fit.T, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_costs_are_the_errors_of_leaving_a_group_out(group: int) -> None:
    x, weight = inputs(), torch.from_numpy(np.random.default_rng(2).normal(size=(ROWS, COLUMNS)))
    (costs,) = _costs(weight[None], torch.linalg.inv(x.T @ x)[None], group)
    for j, cost in enumerate(costs.tolist()):
        left = np.setdiff1d(np.arange(COLUMNS), np.arange(j * group, (j + 1) * group))
        assert cost == pytest.approx(error(weight.numpy(), left, x.numpy()), rel=1e-6)


@pytest.mark.parametrize("group", [1, 2])
def test_blocks_are_eliminated_each_by_itself(group: int) -> None:
    """More of them at a time than one, each with its own moment."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 400, 160, generator=draw, dtype=torch.float64)
    weight = torch.randn(3, ROWS, 160, generator=draw, dtype=torch.float64)
    inverse = torch.linalg.inv(x.mT @ x)
    together = eliminated(weight, inverse, group, 40)
    for place in range(3):
        one = slice(place, place + 1)
        for found, wanted in zip(together, eliminated(weight[one], inverse[one], group, 40), strict=True):
            torch.testing.assert_close(found[one], wanted)


def test_columns_that_do_not_come_in_groups() -> None:
    with pytest.raises(ConfigError, match="of 12 columns 5 cannot be left in groups of 2"):
        eliminated(torch.ones(1, 4, 12), torch.eye(12)[None], 2, 5)


def test_many_columns_at_once_are_nearly_as_good() -> None:
    """In rounds of 1/64 of 256 columns; magnitude and magnitude with a fit are far behind."""
    x = inputs(256, seed=3).float()
    x += 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(ROWS, 256, generator=torch.Generator().manual_seed(1))
    moment = x.T @ x + 0.5 * torch.eye(256)
    (left,), (values,), _ = eliminated(weight[None], torch.linalg.inv(moment)[None], 1, 64)

    def lost(columns: torch.Tensor, kept: torch.Tensor) -> float:
        return float((x[:, columns] @ kept.T - x @ weight.T).square().sum())

    largest = torch.topk(weight.square().sum(dim=0), 64).indices
    fit = torch.linalg.solve(moment[largest][:, largest], moment[largest] @ weight.T).T
    assert lost(left, values) < 0.5 * lost(largest, fit) < 0.5 * lost(largest, weight[:, largest])


class Scaled(nn.Module):
    """A layer whose inputs come with a mask of tokens."""

    def __init__(self, columns: int = COLUMNS) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(columns, ROWS)

    def forward(self, x: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


def pruned(pruner: OptimalBrainSurgeon, structure: Structure, batches: int, density: float = 0.5) -> Scaled:
    """After so many steps in which weights stand still."""
    model = Scaled()
    pruner.prepare(model, Plan([Rule(weights="layer.weight", structure=structure, density=density)]))
    x = inputs().float()
    for part in x.reshape(batches, 2, -1, COLUMNS):
        model(part)
        pruner.add_gradient_()
        pruner.step()
    return model


def test_a_layer_is_pruned_after_its_batches_and_fitted_to_its_outputs() -> None:
    pruner = OptimalBrainSurgeon(batches=4, damping=1e-6)
    weight = Scaled().layer.weight.detach().double().numpy()
    model = pruned(pruner, BlockColumns(4), 4)
    found = model.layer.weight.detach().double().numpy()
    assert not model.layer._forward_pre_hooks and not model._forward_pre_hooks
    for rows in (slice(0, 4), slice(4, 8)):
        left = np.flatnonzero(found[rows].any(axis=0))
        assert len(left) == COLUMNS // 2
        fit = np.linalg.lstsq(inputs().numpy()[:, left], inputs().numpy() @ weight[rows].T, rcond=None)[0]
        np.testing.assert_allclose(found[rows][:, left], fit.T, rtol=0.02, atol=0.02)
    before = model.layer.weight.detach().clone()
    pruner.harden()
    assert torch.equal(model.layer.weight, before)


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_block_columns_of_kept_segments(axis: Literal["rows", "columns"]) -> None:
    """Columns of the segments that go are given; from there on the least error has it, block by block."""
    pruner = OptimalBrainSurgeon(batches=4, damping=1e-6)
    form = Segments(BlockColumns(4), 4, (1,) if axis == "rows" else (0, 2), axis)
    weight = Scaled().layer.weight.detach().double().numpy()
    density = 0.25 if axis == "rows" else 1 / 3
    model = pruned(pruner, form, 4, density)
    found = model.layer.weight.detach().double().numpy()
    x = inputs().numpy()
    blocks = [slice(4, 8)] if axis == "rows" else [slice(0, 4), slice(4, 8)]
    start = np.arange(COLUMNS) if axis == "rows" else np.r_[0:4, 8:12]
    for rows in blocks:
        left = start
        while len(left) > (6 if axis == "rows" else 4):
            left = min(
                (np.delete(left, j) for j in range(len(left))), key=lambda some: error(weight[rows], some, x)
            )
        assert np.flatnonzero(found[rows].any(axis=0)).tolist() == left.tolist()
        fit = np.linalg.lstsq(x[:, left], x @ weight[rows].T, rcond=None)[0]
        np.testing.assert_allclose(found[rows][:, left], fit.T, rtol=0.02, atol=0.02)
    if axis == "rows":
        assert not found[:4].any()


@pytest.mark.parametrize("structure", [Elements(), Filters()], ids=["elements", "filters"])
def test_other_forms_keep_what_is_largest_and_are_fitted(structure: Structure) -> None:
    pruner = OptimalBrainSurgeon(batches=2, damping=1e-6)
    model = pruned(pruner, structure, 2)
    dense, largest = Scaled(), Magnitude()
    largest.prepare(dense, Plan([Rule(weights="layer.weight", structure=structure, density=0.5)]))
    largest.harden()
    assert torch.equal(model.layer.weight != 0, dense.layer.weight != 0)
    x, wanted = inputs().float(), Scaled().layer.weight.detach()

    def lost(weight: torch.Tensor) -> float:
        return float((x @ (weight.detach() - wanted).T).square().sum())

    if isinstance(structure, Elements):
        assert lost(model.layer.weight) < 0.5 * lost(dense.layer.weight)
    else:  # whole rows: nothing is left to make up for them
        assert torch.equal(model.layer.weight, dense.layer.weight)


def measured(
    model: nn.Module, *args: object, name: str = "layer.weight", **named: object
) -> torch.Tensor | None:
    """Sums of one step in which the model is called once."""
    pruner = OptimalBrainSurgeon(batches=3)
    pruner.prepare(model, Plan([Rule(weights=name, structure=BlockColumns(4), density=0.5)]))
    model(*args, **named)
    pruner.step()
    moment: torch.Tensor | None = pruner.state_dict()["moments"].get(name)
    return moment


@pytest.mark.parametrize("placed", [False, True], ids=["by name", "by place"])
def test_hidden_tokens_are_not_measured_and_bf16_costs_no_digits(placed: bool) -> None:
    x = inputs().float().reshape(10, 20, COLUMNS)
    shown = torch.arange(20) < torch.arange(1, 11)[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        found = measured(Scaled(), x, shown) if placed else measured(Scaled(), x, attention_mask=shown.long())
    rows = x[shown].double()
    assert found is not None
    torch.testing.assert_close(found.double(), rows.T @ rows, rtol=1e-5, atol=1e-4)
    assert measured(Scaled().eval(), x) is None


def test_a_mask_of_tokens_hides_no_features() -> None:
    """As many features as tokens, and a layer that gets one vector of each example."""
    x = torch.randn(10, COLUMNS)
    found = measured(Scaled(), x, attention_mask=torch.zeros(10, COLUMNS, dtype=torch.long))
    torch.testing.assert_close(found, x.T @ x)


def test_a_pass_that_is_computed_again_counts_once() -> None:
    class Again(Scaled):
        def forward(self, x: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
            out: torch.Tensor = checkpoint(self.layer, x, use_reentrant=False)
            return out

    model, pruner, x = Again(), OptimalBrainSurgeon(batches=3), torch.randn(10, COLUMNS)
    pruner.prepare(model, Plan([Rule(weights="layer.weight", structure=BlockColumns(4), density=0.5)]))
    model(x).sum().backward()
    pruner.step()
    torch.testing.assert_close(pruner.state_dict()["moments"]["layer.weight"], x.T @ x)


class Tied(nn.Module):
    """A language model whose last matrix is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, COLUMNS)
        self.head = nn.Linear(COLUMNS, 16, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.embedding(ids))
        return out


def test_of_a_tied_weight_the_layer_is_measured_and_not_the_embedding() -> None:
    model = Tied()
    ids = torch.arange(COLUMNS)[None]
    found = measured(model, ids, name="embedding.weight")
    rows = model.embedding(ids)[0]
    torch.testing.assert_close(found, (rows.T @ rows).detach())


def test_copies_of_a_model_are_not_measured_and_files_of_it_can_be_written() -> None:
    model, pruner, x = Scaled(), OptimalBrainSurgeon(batches=3), torch.randn(10, COLUMNS)
    pruner.prepare(model, Plan([Rule(weights="layer.weight", structure=BlockColumns(4), density=0.5)]))
    model(x)
    copy.deepcopy(model)(1000 * x)
    torch.save(model, io.BytesIO())
    pruner.step()
    torch.testing.assert_close(pruner.state_dict()["moments"]["layer.weight"], x.T @ x)


def test_hardening_while_inputs_are_measured_takes_them_and_ends_it() -> None:
    pruner = OptimalBrainSurgeon(batches=6, damping=1e-6)
    early, due = (
        pruned(pruner, BlockColumns(4), 5),
        pruned(OptimalBrainSurgeon(batches=5, damping=1e-6), BlockColumns(4), 5),
    )
    assert bool(early.layer.weight.all())
    pruner.harden()
    torch.testing.assert_close(early.layer.weight, due.layer.weight)
    assert not early.layer._forward_pre_hooks and not early._forward_pre_hooks and not early._forward_hooks
    assert not pruner.state_dict()["moments"] and pruner.unmeasured == ()


def test_inputs_that_are_not_finite_are_named_and_change_no_weight() -> None:
    model, pruner = Scaled(), OptimalBrainSurgeon(batches=1)
    pruner.prepare(model, Plan([Rule(weights="layer.weight", structure=BlockColumns(4), density=0.5)]))
    before = model.layer.weight.detach().clone()
    model(torch.full((3, COLUMNS), torch.inf))
    with pytest.raises(
        WeightError, match=r"layer\.weight: the inputs of a layer must be finite to prune it by them"
    ):
        pruner.step()
    assert torch.equal(model.layer.weight, before)


def test_a_schedule_measures_before_each_pruning_only() -> None:
    model = Scaled()
    pruner = OptimalBrainSurgeon(CubicSchedule(begin=0, end=8, every=4), batches=2)
    pruner.prepare(model, Plan([Rule(weights="layer.weight", structure=BlockColumns(4), density=0.25)]))
    measuring, kept, masks = [], [], []
    for part in inputs().float().reshape(10, 20, COLUMNS):
        measuring.append(bool(model.layer._forward_pre_hooks))
        model(part)
        pruner.add_gradient_()
        pruner.step()
        masks.append(model.layer.weight != 0)
        kept.append(int(masks[-1].sum()))
    assert measuring == [False, False, True, True, False, False, True, True, False, False]
    assert kept[2] == ROWS * COLUMNS and kept[3] > kept[7] == ROWS * COLUMNS // 4
    assert all(bool((before | ~after).all()) for before, after in pairwise(masks))  # what is gone stays gone


def test_what_was_measured_for_one_pruning_is_not_taken_for_the_next() -> None:
    pruner = OptimalBrainSurgeon(CubicSchedule(begin=0, end=8, every=4), batches=2)
    model = pruned(pruner, BlockColumns(4), 5)
    assert not pruner.state_dict()["moments"] and not pruner.hardened
    x = inputs().float()[:7]
    for _ in range(2):
        model(x)
        pruner.add_gradient_()
        pruner.step()
    torch.testing.assert_close(pruner.state_dict()["moments"]["layer.weight"], x.T @ x)


@pytest.mark.parametrize("stride", [1, 2])
def test_inputs_of_a_convolution_are_what_its_matrix_is_multiplied_with(stride: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, (2, 3), stride=stride, padding=1, bias=False))
    pruner = OptimalBrainSurgeon(batches=2)
    pruner.prepare(model, Plan([Rule(weights="0.weight", structure=BlockColumns(4), density=0.5)]))
    out = model(torch.randn(2, 3, 5, 6))
    pruner.step()
    matrix, moment = pruner.targets[0].matrix(), pruner.state_dict()["moments"]["0.weight"]
    torch.testing.assert_close(torch.trace(matrix @ moment @ matrix.T), out.detach().square().sum())


def test_without_inputs_it_is_magnitude() -> None:
    ours, theirs = Scaled(), Scaled()
    plan = Plan([Rule(weights="layer.weight", structure=BlockColumns(4), density=0.5)])
    surgeon, magnitude = OptimalBrainSurgeon(), Magnitude()
    for pruner, model in ((surgeon, ours), (magnitude, theirs)):
        pruner.prepare(model, plan)
        pruner.harden()
    assert surgeon.unmeasured == ("layer.weight",)
    assert magnitude.unmeasured == ()  # it goes by nothing else
    assert torch.equal(ours.layer.weight, theirs.layer.weight)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"batches": 0}, "batches must be a whole number >= 1, not 0"),
        ({"batches": 2.5}, "batches must be a whole number >= 1, not 2.5"),
        ({"damping": 0.0}, "damping must be a number > 0, not 0.0"),
        ({"damping": float("inf")}, "damping must be a number > 0, not inf"),
    ],
)
def test_bad_settings_are_named(fields: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        OptimalBrainSurgeon(**fields)


def test_what_hardening_took_is_what_lies_outside_of_the_support() -> None:
    """Kept weights move as well: their change is no loss."""
    model = Scaled()
    pruner = OptimalBrainSurgeon(batches=100)
    pruner.prepare(model, Plan([Rule(weights="layer.weight", structure=BlockColumns(4), density=0.25)]))
    for part in inputs().float().reshape(4, 2, -1, COLUMNS):
        model(part)
        pruner.step()
    before = model.layer.weight.detach().clone()
    (line,) = pruner.harden()
    outside = before * (model.layer.weight == 0)
    assert line.norm == pytest.approx(float(before.norm()))
    assert line.lost == pytest.approx(float(outside.norm() / before.norm()))
    assert 0 < line.lost < 1


def test_what_was_not_measured_is_known_after_resuming() -> None:
    class Half(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self[0](x)  # the second layer is never called
            return found

    def prepared() -> tuple[nn.Sequential, OptimalBrainSurgeon]:
        torch.manual_seed(0)
        model = Half(nn.Linear(8, 8), nn.Linear(8, 8))
        pruner = OptimalBrainSurgeon(batches=1)
        pruner.prepare(model, Plan([Rule(weights="*.weight", structure=BlockColumns(4), density=0.5)]))
        return model, pruner

    model, pruner = prepared()
    model(torch.randn(32, 8))
    pruner.step()
    assert pruner.unmeasured == ("1.weight",)
    _, again = prepared()
    again.load_state_dict(pruner.state_dict())
    assert again.unmeasured == ("1.weight",)
