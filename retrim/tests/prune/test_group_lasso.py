"""Reweighted group lasso against its equations, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from retrim.errors import ConfigError, WeightError
from retrim.prune import Plan, ReweightedGroupLasso, Rule
from retrim.structures import (
    BlockColumns,
    Channels,
    Density,
    Elements,
    Filters,
    Mask,
    Segments,
    Structure,
    Support,
)


@dataclass(frozen=True)
class Flat(Structure):
    """Rows that are constant: a form that is no union of groups."""

    def check(self, shape: tuple[int, int]) -> None:
        pass

    def reached(self, shape: tuple[int, int], density: Density) -> float:
        return 1 / shape[1]

    def project(self, matrix: Any, density: Density) -> tuple[Any, Support]:
        mean = matrix.mean(1, keepdim=True).expand_as(matrix)
        return mean, Mask(torch.ones_like(matrix, dtype=torch.bool))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4)).double()


def plan(structure: Structure, density: Density = 0.5) -> Plan:
    return Plan([Rule(weights="*.weight", structure=structure, density=density)])


def draw_gradients(model: nn.Module, seed: int) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def matrices(model: nn.Sequential) -> list[torch.Tensor]:
    return [layer.weight.detach().clone() for layer in model]


def block_norms(weight: torch.Tensor, rows: int = 4) -> torch.Tensor:
    """Norm of every column of every block of rows, from the definition."""
    blocks = (weight[top : top + rows] for top in range(0, len(weight), rows))
    return torch.stack(
        [torch.sqrt((block[:, i] ** 2).sum()) for block in blocks for i in range(block.shape[1])]
    )


def gamma_of(weight: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    """gamma_g = 1 / (||W_g|| + epsilon), arXiv 2009.08065."""
    return 1 / (block_norms(weight) + epsilon)


def added(model: nn.Sequential, pruner: ReweightedGroupLasso, seed: int = 1) -> list[torch.Tensor]:
    """What the pruner adds to the gradients of the two weights."""
    before = draw_gradients(model, seed)
    pruner.add_gradient_()
    after = [parameter.grad for parameter in model.parameters()]
    assert torch.equal(before[1], after[1])  # biases are left alone
    return [after[i] - before[i] for i in (0, 2)]


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_penalty_and_gradient_are_the_equation(epsilon: float) -> None:
    model, pruner = network(), ReweightedGroupLasso(strength=0.3, epsilon=epsilon)
    pruner.prepare(model, plan(BlockColumns(4)))
    trained = matrices(model)
    with torch.no_grad():  # gamma stays that of the trained weights while they move
        for layer in model:
            layer.weight.mul_(1.5).add_(0.1)
    leaves = [layer.weight.detach().clone().requires_grad_() for layer in model]
    penalty = 0.3 * sum(
        (gamma_of(was, epsilon) * block_norms(now)).sum() for was, now in zip(trained, leaves, strict=True)
    )
    expected = torch.autograd.grad(penalty, leaves)
    for got, wanted in zip(added(model, pruner), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-14)
    assert pruner.penalty() == pytest.approx(float(penalty.detach()), rel=1e-12)


@pytest.mark.parametrize("structure", [Elements(), Filters(), Channels()], ids=repr)
def test_other_groups(structure: Structure) -> None:
    axis = {"Elements()": (), "Filters()": (1,), "Channels()": (0,)}[repr(structure)]
    model, pruner = network(), ReweightedGroupLasso(strength=2.0)
    pruner.prepare(model, plan(structure))
    for weight, got in zip(matrices(model), added(model, pruner), strict=True):
        norm = weight.abs() if not axis else torch.linalg.vector_norm(weight, dim=axis, keepdim=True)
        torch.testing.assert_close(got, 2.0 * weight / norm / (norm + 1e-3))


def test_a_form_without_groups_is_drawn_to_its_projection() -> None:
    """The penalty is then gamma ||W - proj W||, gamma = 1 / (||W - proj W|| + epsilon)."""
    model, pruner = network(), ReweightedGroupLasso(strength=0.7)
    pruner.prepare(model, plan(Flat()))
    penalty = 0.0
    for weight, got in zip(matrices(model), added(model, pruner), strict=True):
        away = weight - weight.mean(1, keepdim=True)
        gamma = 1 / (away.norm() + 1e-3)
        torch.testing.assert_close(got, 0.7 * gamma * away / away.norm())
        penalty += 0.7 * float(gamma * away.norm())
    assert pruner.penalty() == pytest.approx(penalty)
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(2.0)
    assert all(torch.equal(got, torch.zeros_like(got)) for got in added_again(model, pruner))


def added_again(model: nn.Sequential, pruner: ReweightedGroupLasso) -> list[torch.Tensor]:
    pruner.step()
    return added(model, pruner)


def test_a_group_that_is_zero_is_not_pulled() -> None:
    model, pruner = network(), ReweightedGroupLasso(strength=1.0)
    with torch.no_grad():
        model[0].weight[:4, 2] = 0
    pruner.prepare(model, plan(BlockColumns(4)))
    first, _ = added(model, pruner)
    assert torch.equal(first[:4, 2], torch.zeros(4, dtype=torch.float64))
    assert torch.isfinite(first).all()


def test_gamma_is_refreshed_on_schedule() -> None:
    model, pruner = network(), ReweightedGroupLasso(strength=1.0, refresh_every=3)
    pruner.prepare(model, plan(BlockColumns(4)))
    seen = gamma_of(matrices(model)[0])
    for step in range(1, 10):
        pruner.add_gradient_()
        with torch.no_grad():
            model[0].weight.mul_(0.9)
        pruner.step()
        if step % 3 == 0:
            seen = gamma_of(matrices(model)[0])
        torch.testing.assert_close(pruner.state_dict()["gamma"]["0.weight"], seen)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_the_gradient_is_matched_to_that_of_the_loss(fraction: float) -> None:
    model, pruner = network(), ReweightedGroupLasso(fraction=fraction, refresh_every=4)
    pruner.prepare(model, plan(BlockColumns(4)))
    assert pruner.penalty() == 0  # lambda is not known yet

    def norm(parts: list[torch.Tensor]) -> float:
        return math.sqrt(sum(float((part**2).sum()) for part in parts))

    strengths, losses = [], []
    for step in range(12):
        draw_gradients(model, step)
        losses.append(norm([layer.weight.grad for layer in model]))
        pulls = added(model, pruner, step)
        strengths.append(pruner.state_dict()["lambda"])
        if step == 0:
            assert norm(pulls) == pytest.approx(fraction * losses[0], rel=1e-12)
        if step in (4, 8):  # the first step after a refresh: root mean square over the four before
            smooth = math.sqrt(sum(loss**2 for loss in losses[step - 4 : step]) / 4)
            assert norm(pulls) == pytest.approx(fraction * smooth, rel=1e-12)
        pruner.step()
    assert len(set(strengths)) == 3  # set anew at every refresh only


def test_a_given_strength_stays() -> None:
    model, pruner = network(), ReweightedGroupLasso(strength=0.25, refresh_every=1)
    pruner.prepare(model, plan(BlockColumns(4)))
    for step in range(3):
        added(model, pruner, step)
        pruner.step()
        assert pruner.state_dict()["lambda"] == 0.25


def test_a_gradient_that_overflowed_is_not_matched() -> None:
    model, pruner = network(), ReweightedGroupLasso()
    pruner.prepare(model, plan(BlockColumns(4)))
    draw_gradients(model, 0)
    model[0].weight.grad[0, 0] = math.inf
    pruner.add_gradient_()
    assert pruner.state_dict()["lambda"] is None
    pruner.step()
    pulls = added(model, pruner)
    assert all(torch.isfinite(pull).all() for pull in pulls)
    assert pruner.state_dict()["lambda"] > 0


def test_a_weight_that_the_loss_does_not_reach_is_pulled_all_the_same() -> None:
    model, pruner = network(), ReweightedGroupLasso(strength=1.0)
    pruner.prepare(model, plan(BlockColumns(4)))
    pruner.add_gradient_()
    norms = block_norms(matrices(model)[0])
    assert float(model[0].weight.grad.norm()) == pytest.approx(float((norms / (norms + 1e-3) / norms).norm()))


def test_weak_groups_are_pressed_to_zero_and_strong_ones_left() -> None:
    model = network()
    with torch.no_grad():
        for layer in model:
            layer.weight[:, ::2] *= 0.05
    pruner = ReweightedGroupLasso(strength=1e-3, refresh_every=10)
    pruner.prepare(model, plan(BlockColumns(4)))
    before = block_norms(matrices(model)[0]).reshape(2, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(600):
        optimizer.zero_grad()
        pruner.add_gradient_()
        optimizer.step()
        pruner.step()
    after = block_norms(matrices(model)[0]).reshape(2, 6)
    assert (after[:, ::2] < 0.1 * before[:, ::2]).all()
    assert (after[:, 1::2] > 0.9 * before[:, 1::2]).all()


def test_a_run_that_diverges_is_named_at_the_next_refresh() -> None:
    model, pruner = network(), ReweightedGroupLasso(strength=1.0, refresh_every=2)
    pruner.prepare(model, plan(BlockColumns(4)))
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    pruner.step()
    with pytest.raises(WeightError) as caught:
        pruner.step()
    assert str(caught.value) == (
        "1.weight: a weight must be finite to be pruned, but holds NaN or infinity: "
        "go back to a checkpoint from before training diverged"
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"strength": 0.0}, "strength must be a number > 0, not 0.0"),
        ({"strength": math.nan}, "strength must be a number > 0, not nan"),
        ({"fraction": -0.1}, "fraction must be a number > 0, not -0.1"),
        ({"epsilon": math.inf}, "epsilon must be a number > 0, not inf"),
        ({"refresh_every": 0}, "refresh_every must be a whole number >= 1, not 0"),
    ],
)
def test_settings_out_of_range(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ReweightedGroupLasso(**fields)
    assert str(caught.value) == sentence


def test_selective_presses_only_what_the_projection_would_drop() -> None:
    model = network()
    pruner = ReweightedGroupLasso(strength=0.5, selective=True)
    pruner.prepare(model, plan(BlockColumns(4)))
    before = matrices(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    pruner.add_gradient_()
    for target, weight in zip(pruner.targets, before, strict=True):
        kept = target.structure.project(weight, 0.5)[1].mask
        gradient = target.parameter.grad
        assert gradient is not None
        assert torch.equal(gradient == 0, kept)
        norms = block_norms(weight)
        expected = 0.5 * weight * BlockColumns(4).groups(weight).spread(1 / (norms * (norms + 1e-3)))
        torch.testing.assert_close(gradient[~kept], expected[~kept])


# --- by the proximal operator ---------------------------------------------------------


def test_a_proximal_step_is_the_penaltys_proximal_operator() -> None:
    """The minimum of half the squared distance to W plus the penalty, found by descent."""
    model = network()
    pruner = ReweightedGroupLasso(over=10)
    pruner.prepare(model, plan(BlockColumns(4)))
    before = matrices(model)
    pruner.add_gradient_()
    pruner.step()
    for old, new in zip(before, matrices(model), strict=True):
        norms = block_norms(old)
        blocks = norms.reshape(-1, old.shape[1])
        worst = torch.sort(blocks, dim=1).values[:, old.shape[1] // 2 - 1].repeat_interleave(old.shape[1])
        strength = (worst.square() / 2 + 1e-3 * worst) / 9
        w = old.clone().requires_grad_()
        descent = torch.optim.LBFGS([w], lr=0.5, max_iter=400, tolerance_grad=1e-12, tolerance_change=1e-16)

        def objective(
            w: torch.Tensor = w, old: torch.Tensor = old, gamma: torch.Tensor = strength / (norms + 1e-3)
        ) -> torch.Tensor:
            value = (w - old).square().sum() / 2 + (gamma * block_norms(w)).sum()
            w.grad = torch.autograd.grad(value, w)[0]
            return value

        descent.step(objective)
        torch.testing.assert_close(new, w.detach(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("steps", [3, 50])
@pytest.mark.parametrize("selective", [False, True])
def test_groups_that_must_go_are_gone_in_time(steps: int, selective: bool) -> None:
    """Whatever the number of steps, and nearly so before the last one, which drops the rest."""
    model = network()
    pruner = ReweightedGroupLasso(over=steps, selective=selective)
    pruner.prepare(model, plan(BlockColumns(4)))
    first = matrices(model)
    penalties = []
    for _ in range(steps - 1):
        penalties.append(pruner.penalty())
        pruner.add_gradient_()
        pruner.step()
    assert all(value > 0 for value in penalties)
    for old, weight in zip(first, matrices(model), strict=True):
        norms = torch.sort(block_norms(weight).reshape(-1, weight.shape[1]), dim=1).values
        were = torch.sort(block_norms(old).reshape(-1, weight.shape[1]), dim=1).values
        half = weight.shape[1] // 2
        if steps == 50:
            assert float(norms[:, :half].max()) < 0.2 * float(were[:, :half].max())
        assert bool((norms[:, half:] > 0).all())
        if selective:
            torch.testing.assert_close(norms[:, half:], were[:, half:])
    pruner.add_gradient_()
    pruner.step()
    assert pruner.penalty() == 0
    pressed = matrices(model)
    report = pruner.harden()
    assert all(entry.lost == 0 for entry in report)
    assert all(entry.density == 0.5 for entry in report)
    for weight, held in zip(matrices(model), pressed, strict=True):
        assert torch.equal(weight, held)


def test_what_the_loss_pulls_back_is_pressed_harder() -> None:
    def norm_after(pull: float) -> float:
        model = network()
        pruner = ReweightedGroupLasso(over=20)
        pruner.prepare(model, plan(BlockColumns(4)))
        start = matrices(model)
        for _ in range(19):
            with torch.no_grad():
                for layer, old in zip(model, start, strict=True):
                    layer.weight += pull * (old - layer.weight)
            pruner.step()
        norms = block_norms(matrices(model)[0]).reshape(-1, 6)
        return float(torch.sort(norms, dim=1).values[:, :3].max())

    assert norm_after(0.05) < 1.5 * norm_after(0.0) + 0.02


def test_a_form_without_groups_comes_nearer() -> None:
    model = network()
    pruner = ReweightedGroupLasso(over=12)
    pruner.prepare(model, plan(Flat()))

    def away() -> float:
        return sum(float((m - m.mean(1, keepdim=True)).norm()) for m in matrices(model))

    found = [away()]
    for _ in range(12):
        pruner.step()
        found.append(away())
    assert all(later < earlier for earlier, later in pairwise(found))
    assert found[-1] == pytest.approx(0, abs=1e-12)


def test_over_is_resumed() -> None:
    model, other = network(), network()
    pruner, again = ReweightedGroupLasso(over=8), ReweightedGroupLasso(over=8)
    pruner.prepare(model, plan(BlockColumns(4)))
    for step in range(8):
        if step == 3:
            again.prepare(other, plan(BlockColumns(4)))
            again.load_state_dict(pruner.state_dict())
            other.load_state_dict(model.state_dict())
        pruner.step()
        if step >= 3:
            again.step()
    assert all(torch.equal(a, b) for a, b in zip(matrices(model), matrices(other), strict=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"over": 0}, "over must be a whole number >= 1, not 0"),
        ({"over": 5, "strength": 0.1}, "over sets the strength at every step: leave strength out"),
    ],
)
def test_over_that_makes_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ReweightedGroupLasso(**options)
    assert str(caught.value) == words


# --- columns weighed by their inputs ----------------------------------------------------


def inputs_of(step: int) -> torch.Tensor:
    """Of very unlike sizes, column by column."""
    draw = torch.Generator().manual_seed(100 + step)
    return (
        torch.randn(5, 6, dtype=torch.float64, generator=draw) * torch.tensor([0.1, 4, 1, 0.2, 2, 9]).double()
    )


def train(model: nn.Sequential, pruner: ReweightedGroupLasso, steps: range) -> None:
    for step in steps:
        model(inputs_of(step))
        pruner.add_gradient_()
        pruner.step()


def scale_of(inputs: list[torch.Tensor]) -> torch.Tensor:
    """Root mean square of each column, over that of all."""
    square = torch.cat(inputs).square().mean(dim=0)
    return (square / square.mean()).sqrt()


@pytest.fixture
def scales() -> list[torch.Tensor]:
    """Of the two layers, over the first three steps."""
    model = network()
    first = [inputs_of(step) for step in range(3)]
    return [scale_of(first), scale_of([model[0](x).detach() for x in first])]


def test_the_penalty_of_weighed_norms(scales: list[torch.Tensor]) -> None:
    model = network()
    pruner = ReweightedGroupLasso(strength=0.3, epsilon=0.5, by_inputs=True, batches=3)
    pruner.prepare(model, plan(BlockColumns(4)))
    trained = matrices(model)
    train(model, pruner, range(3))
    leaves = [weight.clone().requires_grad_() for weight in trained]
    norms = [block_norms(leaf * scale) for leaf, scale in zip(leaves, scales, strict=True)]
    penalty = 0.3 * sum((norm / (norm.detach() + 0.5)).sum() for norm in norms)
    expected = torch.autograd.grad(penalty, leaves)
    for got, wanted in zip(added(model, pruner), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)
    assert pruner.penalty() == pytest.approx(float(penalty.detach()), rel=1e-9)
    assert pruner.unmeasured == ()


def test_nothing_is_pressed_before_inputs_are_known() -> None:
    model = network()
    pruner = ReweightedGroupLasso(strength=0.3, by_inputs=True, batches=3)
    pruner.prepare(model, plan(BlockColumns(4)))
    for step in range(3):
        model(inputs_of(step))
        assert pruner.penalty() == 0
        assert all(not got.any() for got in added(model, pruner))
        pruner.step()
    assert all(got.any() for got in added(model, pruner))


@pytest.mark.parametrize("over", [None, 8])
def test_what_adds_most_to_the_outputs_is_kept(over: int | None, scales: list[torch.Tensor]) -> None:
    model = network()
    strength = 1e-6 if over is None else None
    pruner = ReweightedGroupLasso(strength=strength, over=over, by_inputs=True, batches=3, selective=True)
    pruner.prepare(model, plan(BlockColumns(4)))
    trained = matrices(model)
    train(model, pruner, range(8))
    pruner.harden()
    unlike = 0
    for target, weight, scale in zip(pruner.targets, trained, scales, strict=True):
        kept = BlockColumns(4).project(weight * scale, 0.5)[1].mask
        assert torch.equal(pruner.supports[target.name].mask, kept)
        torch.testing.assert_close(target.matrix(), weight * kept, rtol=1e-12, atol=1e-12)
        unlike += int((kept != BlockColumns(4).project(weight, 0.5)[1].mask).sum())
    assert unlike > 0


@pytest.mark.parametrize("stop", [2, 5])
def test_weighing_is_resumed(stop: int) -> None:
    model, other = network(), network()
    pruner, again = (ReweightedGroupLasso(over=8, by_inputs=True, batches=3) for _ in range(2))
    pruner.prepare(model, plan(BlockColumns(4)))
    again.prepare(other, plan(BlockColumns(4)))
    train(model, pruner, range(stop))
    again.load_state_dict(pruner.state_dict())
    other.load_state_dict(model.state_dict())
    train(model, pruner, range(stop, 8))
    train(other, again, range(stop, 8))
    assert all(torch.equal(a, b) for a, b in zip(matrices(model), matrices(other), strict=True))
    assert pruner.harden() == again.harden()


def test_what_cannot_be_measured_goes_by_its_norm() -> None:
    model, plainly = network(), network()
    pruner = ReweightedGroupLasso(over=8, by_inputs=True, batches=3)
    pruner.prepare(model, plan(BlockColumns(4)))
    model.eval()
    train(model, pruner, range(8))
    assert pruner.unmeasured == ("0.weight", "1.weight")
    other = ReweightedGroupLasso(over=6)
    other.prepare(plainly, plan(BlockColumns(4)))
    train(plainly, other, range(6))
    assert all(torch.equal(a, b) for a, b in zip(matrices(model), matrices(plainly), strict=True))


def by_inputs(**options: Any) -> tuple[nn.Sequential, ReweightedGroupLasso]:
    """A network, and a pruner that measures three steps, prepared."""
    model, pruner = network(), ReweightedGroupLasso(**{"by_inputs": True, "batches": 3, **options})
    pruner.prepare(model, plan(BlockColumns(4)))
    return model, pruner


def assert_kept(
    pruner: ReweightedGroupLasso, trained: list[torch.Tensor], scales: list[torch.Tensor]
) -> None:
    for target, weight, scale in zip(pruner.targets, trained, scales, strict=True):
        kept = BlockColumns(4).project(weight * scale, 0.5)[1].mask
        assert torch.equal(pruner.supports[target.name].mask, kept)


def test_hardened_before_all_is_measured(scales: list[torch.Tensor]) -> None:
    """By the steps that there were; of none, by norms."""
    model, pruner = by_inputs(batches=9)
    trained = matrices(model)
    train(model, pruner, range(3))
    pruner.harden()
    assert pruner.unmeasured == ()
    assert_kept(pruner, trained, scales)

    model, pruner = by_inputs()
    pruner.harden()
    assert pruner.unmeasured == ("0.weight", "1.weight")
    assert_kept(pruner, trained, [torch.ones(6), torch.ones(8)])


def test_states_of_other_settings(scales: list[torch.Tensor]) -> None:
    """From before inputs were measured, without measuring, of more steps; and without measuring any longer."""
    model, pruner = by_inputs()
    trained = matrices(model)
    before = ReweightedGroupLasso()
    before.prepare(network(), plan(BlockColumns(4)))
    old = before.state_dict()
    for name in ("moments", "scales", "measured", "weighed"):
        del old[name]
    for state in (old, before.state_dict()):
        pruner.load_state_dict(state)
        train(model, pruner, range(3))
        pruner.harden()
        assert_kept(pruner, trained, scales)
        model, pruner = by_inputs()

    long_model, longer = by_inputs(batches=9)
    train(long_model, longer, range(2))
    pruner.load_state_dict(longer.state_dict())
    train(model, pruner, range(2, 3))
    pruner.harden()
    assert_kept(pruner, trained, scales)

    train(long_model, longer, range(2, 9))
    before.load_state_dict(longer.state_dict())
    before.harden()
    assert before.unmeasured == ()
    assert_kept(before, trained, [torch.ones(6), torch.ones(8)])


def test_inputs_that_are_all_zero_weigh_nothing() -> None:
    model, pruner = by_inputs()
    trained = matrices(model)
    with torch.no_grad():
        model[0].bias.zero_()
    for _ in range(3):
        model(torch.zeros(5, 6, dtype=torch.float64))
        pruner.add_gradient_()
        pruner.step()
    pruner.harden()
    assert pruner.unmeasured == ("0.weight", "1.weight")
    assert_kept(pruner, trained, [torch.ones(6), torch.ones(8)])


def test_inputs_that_are_not_finite_are_named() -> None:
    model, pruner = by_inputs(batches=1)
    model(torch.full((5, 6), math.nan, dtype=torch.float64))
    pruner.add_gradient_()
    with pytest.raises(WeightError) as caught:
        pruner.step()
    assert str(caught.value) == (
        "0.weight: the inputs of a layer must be finite to prune it by them, but hold NaN or infinity: "
        "go back to a checkpoint from before training diverged"
    )


def test_columns_of_a_convolution_are_weighed_as_its_matrix_has_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 8, (1, 3))).double()
    pruner = ReweightedGroupLasso(by_inputs=True, batches=1)
    pruner.prepare(model, Plan([Rule(weights="0.weight", structure=BlockColumns(4), density=0.5)]))
    (target,) = pruner.targets
    image = torch.randn(3, 2, 1, 9).double() * torch.tensor([1.0, 30.0]).double()[:, None, None]
    model(image)
    pruner.add_gradient_()
    pruner.step()
    square = torch.stack([image[..., k : k + 7].square().mean(dim=(0, 2, 3)) for k in range(3)])
    expected = torch.zeros(8, 2, 1, 3).double() + (square / square.mean()).sqrt().T[None, :, None]
    got = pruner.state_dict()["scales"]["0.weight"]
    torch.testing.assert_close(got.expand(8, -1), target.matrix(expected))


def test_a_form_without_groups_is_not_weighed() -> None:
    model = network()
    pruner = ReweightedGroupLasso(over=8, by_inputs=True, batches=3)
    pruner.prepare(model, plan(Flat()))
    train(model, pruner, range(8))
    pruner.harden()
    assert pruner.unmeasured == ("0.weight", "1.weight")
    for weight in matrices(model):
        torch.testing.assert_close(weight, weight.mean(1, keepdim=True).expand_as(weight))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batches": 0}, "batches must be a whole number >= 1, not 0"),
        ({"batches": 2.5}, "batches must be a whole number >= 1, not 2.5"),
        (
            {"over": 16, "by_inputs": True},
            "over must be more than the 16 batches that inputs are measured in, not 16",
        ),
    ],
)
def test_weighing_that_makes_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ReweightedGroupLasso(**options)
    assert str(caught.value) == words


@pytest.mark.parametrize("selective", [False, True])
def test_segments_that_go_do_not_press_what_stays(selective: bool) -> None:
    """A dropped segment is far larger than a column of a block: each is pressed for what it competes with."""
    torch.manual_seed(0)
    alone, cut = nn.Linear(16, 8), nn.Linear(16, 16)
    with torch.no_grad():
        cut.weight[:8] = alone.weight
        cut.weight[8:] = 5 * torch.randn(8, 16)
    pruners = []
    for layer, form, density in (
        (alone, BlockColumns(4), 0.5),
        (cut, Segments(BlockColumns(4), 8, (0,)), 0.25),
    ):
        pruner = ReweightedGroupLasso(over=20, selective=selective)
        pruner.prepare(nn.Sequential(layer), plan(form, density))
        pruners.append(pruner)
    before = float(cut.weight[8:].detach().norm())
    for _ in range(19):
        for pruner in pruners:
            pruner.step()
        torch.testing.assert_close(cut.weight[:8], alone.weight)
    assert 0 < float(cut.weight[8:].detach().norm()) < 0.3 * before  # gradually, not at once
    for pruner in pruners:
        pruner.step()
        assert pruner.harden()[0].lost == 0
    assert torch.equal(cut.weight[:8], alone.weight) and not cut.weight[8:].any()
