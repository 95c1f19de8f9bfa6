"""Joint training: gradients are the sum of those of masked copies; the model is itself again afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from retrim.errors import ConfigError, ShapeError
from retrim.levels import JointTraining


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def masks(seed: int, *shares: float) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (8, 6), "2.weight": (3, 8)}
    return [{n: torch.rand(s, generator=draw) < share for n, s in shapes.items()} for share in shares]


X = torch.linspace(-1, 1, 30).double().reshape(5, 6)


def loss(net: nn.Module) -> torch.Tensor:
    return net(X).square().mean()


def test_gradients_are_the_weighted_sum_over_levels() -> None:
    shared, levels, weights = model(), masks(1, 0.8, 0.5, 0.2), [3.0, 2.0, 1.0]
    joint = JointTraining(shared, levels, weights)
    before = [(name, parameter) for name, parameter in shared.named_parameters()]
    losses = joint.backward(loss)
    wanted = {name: torch.zeros_like(parameter) for name, parameter in before}
    for level, weight, found in zip(levels, weights, losses, strict=True):
        alone = copy.deepcopy(shared)
        alone.zero_grad()
        with torch.no_grad():
            for name, mask in level.items():
                alone.get_parameter(name).mul_(mask)
        value = loss(alone)
        value.backward()
        assert found == pytest.approx(value.item(), rel=1e-12)
        for name, parameter in alone.named_parameters():
            wanted[name] += weight / 6 * parameter.grad * level.get(name, torch.ones_like(parameter))
    after = list(shared.named_parameters())
    assert [name for name, _ in after] == [name for name, _ in before]  # in their order
    assert all(a is b for (_, a), (_, b) in zip(after, before, strict=True))
    for name, parameter in after:
        assert torch.allclose(parameter.grad, wanted[name], atol=1e-14), name


def test_a_level_sees_its_masks_and_leaves_them() -> None:
    shared, levels = model(), masks(2, 0.6, 0.3)
    joint = JointTraining(shared, levels)
    plain = shared(X)
    with joint.at(1) as seen, torch.no_grad():
        assert (seen[0].weight[~levels[1]["0.weight"]] == 0).all()
        assert not torch.allclose(seen(X), plain)
    assert torch.equal(shared(X), plain)
    with pytest.raises(RuntimeError, match="in between"), joint.at(0):
        raise RuntimeError("in between")
    assert torch.equal(shared(X), plain)
    assert set(shared.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    joint.hold_()
    kept = levels[0]["0.weight"] | levels[1]["0.weight"]
    assert (shared[0].weight[~kept] == 0).all()
    assert (shared[0].weight[kept] != 0).all()


def test_training_lowers_every_level() -> None:
    shared, levels = model(), masks(3, 0.9, 0.4)
    joint = JointTraining(shared, levels)
    optimizer = torch.optim.Adam(shared.parameters(), lr=0.02)
    first = joint.backward(loss)
    for _ in range(60):
        optimizer.zero_grad()
        last = joint.backward(loss)
        optimizer.step()
    assert all(after < 0.2 * before for before, after in zip(first, last, strict=True))


@pytest.mark.parametrize(
    ("levels", "weights", "error", "sentence"),
    [
        ([], None, ConfigError, "joint training must have a level at least"),
        (masks(0, 0.5, 0.5), [1.0], ConfigError, "weights must be 2 numbers > 0, not [1.0]"),
        (masks(0, 0.5), [0.0], ConfigError, "weights must be 1 numbers > 0, not [0.0]"),
        (
            [*masks(0, 0.5), {}],
            None,
            ConfigError,
            "all levels must mask the same parameters, but level 1 differs from level 0",
        ),
        (
            [{"1.weight": torch.ones(2, 2, dtype=torch.bool)}],
            None,
            ConfigError,
            "a mask must be of a parameter, but the model has no '1.weight'",
        ),
        (
            [{"0.weight": torch.ones(8, 5, dtype=torch.bool)}],
            None,
            ShapeError,
            "0.weight: the mask of level 0 must be bool of shape (8, 6), not torch.bool of (8, 5)",
        ),
    ],
)
def test_what_makes_no_sense(levels, weights, error, sentence: str) -> None:
    with pytest.raises(error) as caught:
        JointTraining(model(), levels, weights)
    assert str(caught.value) == sentence
