"""What ADMM and SLR share: weights pulled past the optimiser, density that falls, columns weighed by their inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.prune import ADMM, SLR, CubicSchedule, Plan, Rule
from retrim.structures import BlockColumns, Elements, PatternSet, Structure

METHODS = [ADMM, SLR]
Method = type[ADMM] | type[SLR]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def plan(structure: Structure, density: float = 0.5) -> Plan:
    return Plan([Rule(weights="*weight", structure=structure, density=density)])


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for name, p in model.named_parameters() if name.endswith("weight")]


def inputs_of(step: int) -> torch.Tensor:
    """Of columns that differ a lot."""
    draw = torch.Generator().manual_seed(step)
    return torch.randn(5, 6, generator=draw, dtype=torch.float64) * torch.tensor([4, 0.2, 1, 3, 0.1, 1.0])


def scales_of(model: nn.Sequential, steps: range) -> list[torch.Tensor]:
    """Root mean square of each layer's inputs over that of all of them."""
    found = []
    for layer in (0, 2):
        with torch.no_grad():
            seen = torch.cat([model[:layer](inputs_of(step)) for step in steps]).square().mean(dim=0)
        found.append((seen / seen.mean()).sqrt())
    return found


def set_grad(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)


def gradients(model: nn.Module, pruner: ADMM | SLR) -> list[torch.Tensor]:
    """What the pruner adds."""
    set_grad(model)
    pruner.add_gradient_()
    return [p.grad for name, p in model.named_parameters() if name.endswith("weight") and p.grad is not None]


@pytest.mark.parametrize("pull", [None, 0.3])
@pytest.mark.parametrize("method", METHODS)
def test_weighed_by_inputs_it_is_the_method_on_weights_times_scales(
    method: Method, pull: float | None
) -> None:
    """W by inputs and V = W S without them, moved alike, stay at V = W S, with one Lagrangian and the same updates."""
    ours, theirs = network(), network()
    scales = scales_of(ours, range(2))
    weighed = method(rho=0.3, every=1, pull=pull, by_inputs=True, batches=2)
    plain = method(rho=0.3, every=1, pull=pull)
    weighed.prepare(ours, plan(BlockColumns(4)))
    for step in range(2):
        ours(inputs_of(step))
        assert not any(added.any() for added in gradients(ours, weighed))
        assert weighed.penalty() == 0
        assert weighed.updates == []
        if step:
            with torch.no_grad():
                for layer, scale in zip((theirs[0], theirs[2]), scales, strict=True):
                    layer.weight.mul_(scale)
            plain.prepare(theirs, plan(BlockColumns(4)))
            plain.step(lambda: 2.0)
        weighed.step(lambda: 2.0)
    for number, loss in enumerate([1.8, 1.9, 1.2, 1.0, 1.4, 0.5]):
        for added, expected, scale in zip(
            gradients(ours, weighed), gradients(theirs, plain), scales, strict=True
        ):
            torch.testing.assert_close(added, expected * scale, rtol=1e-9, atol=1e-12)
            assert added.any() == (pull is None)
        draw = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for layer, scale in zip((0, 2), scales, strict=True):
                moved = 0.2 * torch.randn(ours[layer].weight.shape, generator=draw, dtype=torch.float64)
                ours[layer].weight.add_(moved)
                theirs[layer].weight.add_(moved * scale)
        for pruner in (weighed, plain):
            pruner.step(lambda loss=loss: loss)
        assert weighed.penalty() == pytest.approx(plain.penalty(), rel=1e-9)
        mine, other = weighed.updates[-1], plain.updates[-1]
        assert (mine.k, mine.weights_accepted) == (other.k, other.weights_accepted)
        for name in ("step_size", "distance", "relative"):
            assert getattr(mine, name) == pytest.approx(getattr(other, name), rel=1e-9)
        for weight, scaled, scale in zip(weights(ours), weights(theirs), scales, strict=True):
            torch.testing.assert_close(weight * scale, scaled, rtol=1e-9, atol=1e-12)
    for pruner in (weighed, plain):
        pruner.harden()
    for target in weighed.targets:
        assert torch.equal(weighed.supports[target.name].mask, plain.supports[target.name].mask)
    assert weighed.unmeasured == ()


@pytest.mark.parametrize("method", METHODS)
def test_a_pull_goes_its_share_of_the_way(method: Method) -> None:
    model = network()
    pruner = method(rho=0.5, every=2, pull=0.25)
    pruner.prepare(model, plan(Elements()))
    for step in range(1, 6):
        assert not any(added.any() for added in gradients(model, pruner))
        held = pruner.state_dict()
        goals = [
            z - m / 0.5 for z, m in zip(held["copies"].values(), held["multipliers"].values(), strict=True)
        ]
        before = weights(model)
        pruner.step(lambda: 1.0)
        for now, then, goal in zip(weights(model), before, goals, strict=True):
            torch.testing.assert_close(now, then - 0.25 * (then - goal), rtol=1e-12, atol=1e-12)
        assert len(pruner.updates) == step // 2


@pytest.mark.parametrize("method", METHODS)
def test_adam_hides_a_gradient_from_large_weights_but_no_pull(method: Method) -> None:
    """200 steps of 2e-4 move a weight by 0.04 at most, whatever rho is; a pull of 5 % leaves (0.95)^200 of it."""
    left = {}
    for pull in (None, 0.05):
        model = nn.Linear(8, 4, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.linspace(0.5, 1.5, 32).reshape(4, 8))
        pruner = method(rho=100.0, every=1000, pull=pull)
        pruner.prepare(model, plan(Elements()))
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
        for _ in range(200):
            set_grad(model)
            pruner.add_gradient_()
            optimizer.step()
            pruner.step()
        left[pull] = pruner.harden()[0].lost
    assert left[None] > 0.4
    assert left[0.05] < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_copies_thin_out_along_the_schedule(method: Method) -> None:
    model = network()
    schedule = CubicSchedule(begin=0, end=6, initial=0.75)
    pruner = method(rho=0.3, every=2, schedule=schedule)
    pruner.prepare(model, plan(Elements(), 0.25))

    def kept() -> list[int]:
        return [np.count_nonzero(copy.numpy()) for copy in pruner.state_dict()["copies"].values()]

    assert kept() == [36, 24]
    found = []
    for _ in range(8):
        pruner.step(lambda: 1.0)
        found.append(kept())
    expected = [schedule.density(step, 0.25) for step in (0, 2, 2, 4, 4, 6, 6, 6)]
    assert found == [[round(48 * density), round(32 * density)] for density in expected]


def test_a_structure_that_reaches_nothing_on_the_way_is_pulled_at_once() -> None:
    model = nn.Linear(8, 8, bias=False).double()
    patterns = PatternSet(("a5a5", "5a5a"), (4, 4), 1)
    pruner = SLR(schedule=CubicSchedule(begin=0, end=100))
    pruner.prepare(model, Plan([Rule(weights="*weight", structure=patterns, density=0.5)]))
    (copy,) = pruner.state_dict()["copies"].values()
    assert np.count_nonzero(copy.numpy()) == 32


@pytest.mark.parametrize("method", METHODS)
def test_what_adds_most_to_the_outputs_is_kept(method: Method) -> None:
    """Hardened at once, after fewer steps than were to be measured, and after none."""
    model = network()
    scales, trained = scales_of(model, range(3)), weights(model)
    pruner = method(by_inputs=True, batches=9)
    pruner.prepare(model, plan(BlockColumns(4)))
    for step in range(3):
        model(inputs_of(step))
        pruner.step()
    pruner.harden()
    unlike = 0
    for target, weight, scale in zip(pruner.targets, trained, scales, strict=True):
        mask = BlockColumns(4).project(weight * scale, 0.5)[1].mask
        assert torch.equal(target.matrix(), weight * mask)
        unlike += int((mask != BlockColumns(4).project(weight, 0.5)[1].mask).sum())
    assert unlike > 0
    pruner.prepare(network(), plan(BlockColumns(4)))
    pruner.harden()
    assert pruner.unmeasured == ("0.weight", "2.weight")


def test_a_state_from_before_inputs_were_measured_begins_to_measure() -> None:
    model = network()
    pruner = SLR(by_inputs=True, batches=2)
    pruner.prepare(model, plan(BlockColumns(4)))
    state = pruner.state_dict()
    del state["inputs"]
    pruner.load_state_dict(state)
    for step in range(2):
        model(inputs_of(step))
        pruner.step()
    pruner.harden()
    assert pruner.unmeasured == ()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pull": 0.0}, "pull must be a share, 0 < pull <= 1, not 0.0"),
        ({"pull": 1.5}, "pull must be a share, 0 < pull <= 1, not 1.5"),
        ({"batches": 0}, "batches must be a whole number >= 1, not 0"),
        (
            {"by_inputs": True, "batches": 8, "schedule": CubicSchedule(begin=0, end=8)},
            "schedule.end must be more than the 8 batches that inputs are measured in, not 8",
        ),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_options_are_checked(method: Method, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        method(**options)
    assert str(caught.value) == sentence
