"""A torch model on a level set: each call one level, whatever is switched inside or beside it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import nn

from retrim.errors import ConfigError, RetrimError, ShapeError
from retrim.prune import Magnitude, Plan, Rule
from retrim.runtime import LevelSet, Resident, Stock, Stocked
from retrim.structures import BlockColumns
from retrim.torch import PackedLinear, pack
from retrim.torch.levels import LevelLinear, put_levels_

DENSITIES = {"l3": 0.75, "l2": 0.5, "l1": 0.25}
X = torch.linspace(-1, 1, 4 * 32).reshape(4, 32)


class Net(nn.Module):
    """Two layers, and something in between that may look at them from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 32)
        self.between = lambda: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        self.between()
        return self.second(hidden)


def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def level(density: float) -> tuple[Net, dict[str, PackedLinear]]:
    """The hardened model, and its packed layers."""
    model, pruner = net(), Magnitude()
    pruner.prepare(model, Plan([Rule(weights="*.weight", structure=BlockColumns(32), density=density)]))
    pruner.harden()
    weights = pack(model, pruner, architecture="net", config={}).weights
    layers = {
        name: PackedLinear(weights[f"{name}.weight"], model.get_submodule(name).bias)
        for name in ("first", "second")
    }
    return model, layers


@pytest.fixture
def models() -> dict[str, tuple[Net, dict[str, PackedLinear]]]:
    return {name: level(density) for name, density in DENSITIES.items()}


def test_each_call_runs_on_one_level(models: dict[str, tuple[Net, dict[str, PackedLinear]]]) -> None:
    levels = LevelSet(Resident({name: layers for name, (_, layers) in models.items()}))
    running = put_levels_(net(), levels)
    assert isinstance(running, Net)
    assert running.levels is levels
    assert isinstance(running.first, LevelLinear)
    assert "levels=l3, l2, l1" in str(running)
    with torch.inference_mode():
        for name, (alone, _) in models.items():
            levels.switch(name)
            assert torch.allclose(running(X), alone(X), atol=1e-5)
        levels.switch("l3")
        plain = running(X)
        running.between = lambda: levels.switch("l1")
        assert torch.equal(running(X), plain)  # the switch counts for the next call
        running.between = lambda: None
        assert torch.allclose(running(X), models["l1"][0](X), atol=1e-5)

        def fails() -> None:
            levels.switch("l2")
            raise RuntimeError("in the middle")

        running.between = fails
        with pytest.raises(RuntimeError, match="in the middle"):
            running(X)
        running.between = lambda: None
        assert torch.allclose(running(X), models["l2"][0](X), atol=1e-5)  # nothing stayed pinned


def test_a_model_within_a_model_runs_on_its_level(
    models: dict[str, tuple[Net, dict[str, PackedLinear]]],
) -> None:
    levels = LevelSet(Resident({name: layers for name, (_, layers) in models.items()}))
    running = put_levels_(net(), levels)
    inner: list[torch.Tensor] = []
    with torch.inference_mode():
        wanted = running(X)

        def again() -> None:
            running.between = lambda: None
            levels.switch("l1")
            inner.append(running(X))
            inner.append(running(X))

        running.between = again
        assert torch.equal(running(X), wanted)
        assert all(torch.equal(found, wanted) for found in inner)
        assert not torch.equal(running(X), wanted)


def test_threads_call_while_levels_change(models: dict[str, tuple[Net, dict[str, PackedLinear]]]) -> None:
    levels = LevelSet(Resident({name: layers for name, (_, layers) in models.items()}))
    running = put_levels_(net(), levels)
    wanted = []
    with torch.inference_mode():
        for name in DENSITIES:
            levels.switch(name)
            wanted.append(running(X))
    wrong = []

    def calls() -> None:
        with torch.inference_mode():
            for _ in range(200):
                found = running(X)
                if not any(torch.equal(found, one) for one in wanted):
                    wrong.append(found)

    threads = [threading.Thread(target=calls) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for name in DENSITIES:
            levels.switch(name)
    assert wrong == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_levels_that_are_packed_when_switched_to(precision: str) -> None:
    plain = net()
    draw = np.random.default_rng(0)
    masks = {
        name: {
            level: np.repeat(draw.random((layer.out_features // 4, layer.in_features)) < density, 4, axis=0)
            for level, density in DENSITIES.items()
        }
        for name, layer in (("first", plain.first), ("second", plain.second))
    }
    stocks = {
        name: Stock(
            plain.get_submodule(name).weight.detach().numpy(),
            found,
            4,
            precision,
            plain.get_submodule(name).bias.detach().numpy(),
        )
        for name, found in masks.items()
    }
    levels = LevelSet(Stocked(stocks))
    running = put_levels_(net(), levels)
    with torch.inference_mode():
        for level in (*DENSITIES, "l3"):
            levels.switch(level)
            alone = net()
            for name in masks:
                alone.get_submodule(name).weight *= torch.from_numpy(masks[name][level])
            assert torch.allclose(running(X), alone(X), atol=1e-5 if precision == "fp32" else 0.05)
        with pytest.raises(ShapeError, match="the input of a packed layer must be a float32"):
            running(X.double())
    with pytest.raises(RetrimError, match="must not be trained"):
        running(X.clone().requires_grad_()).sum().backward()


def test_layers_that_do_not_fit(models: dict[str, tuple[Net, dict[str, PackedLinear]]]) -> None:
    layers = models["l1"][1]
    with pytest.raises(ConfigError) as caught:
        put_levels_(net(), LevelSet(Resident({"a": {"third": layers["first"]}})))
    assert str(caught.value) == "a level's layer must be one of the model's, but it has no 'third'"
    with pytest.raises(ConfigError) as caught:
        put_levels_(net(), LevelSet(Resident({"a": {"second": layers["first"]}})))
    assert str(caught.value) == "second: the layer must have 32 inputs and 64 outputs, not 64 and 32"
