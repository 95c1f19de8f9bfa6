"""The battery that every pruner passes with every structure, on a network with all kinds of layers."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from retrim.errors import CheckpointError, ConfigError, WeightError
from retrim.prune import (
    ADMM,
    SLR,
    CubicSchedule,
    Magnitude,
    OptimalBrainSurgeon,
    Plan,
    Probe,
    Pruner,
    ReweightedGroupLasso,
    Rule,
)
from retrim.structures import (
    BlockColumns,
    BlockRows,
    Channels,
    Elements,
    Filters,
    PatternSet,
    Structure,
    Within,
)


class Conv1D(nn.Module):
    """A linear layer that stores its weight as (in, out), as Hugging Face's does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


class Network(nn.Module):
    """Images (batch, 4, 3, 3) to logits (batch, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 2)
        self.linear = nn.Linear(32, 16)
        self.turned = Conv1D(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(self.conv(x)).flatten(1)
        out: torch.Tensor = self.turned(functional.gelu(self.linear(x)))
        return out


def network(seed: int = 0, dtype: torch.dtype = torch.float32) -> Network:
    torch.manual_seed(seed)
    return Network().to(dtype)


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    """Training loss on the batch of one step."""
    draw = torch.Generator().manual_seed(step)
    dtype = next(model.parameters()).dtype
    images = torch.randn(6, 4, 3, 3, generator=draw, dtype=dtype)
    classes = torch.randint(8, (6,), generator=draw)
    return functional.cross_entropy(model(images), classes)


def probe_of(model: nn.Module) -> Probe:
    """Loss on a batch that is no training batch, always the same."""

    @torch.no_grad()
    def probe() -> float:
        return float(loss_of(model, 1000))

    return probe


def train(model: nn.Module, pruner: Pruner, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    """The training loop of the pruners' interface, steps first ... last - 1."""
    for step in range(first, last):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        pruner.add_gradient_()
        optimizer.step()
        pruner.step(probe_of(model))


def whole(structure: Structure) -> Plan:
    """Every weight of `Network` at density 1/2 (1/4 where two structures meet)."""
    density = (0.5, 0.5) if isinstance(structure, Within) else 0.5
    return Plan([Rule(weights="*weight", structure=structure, density=density)])


STRUCTURES: list[Structure] = [
    Elements(),
    Filters(),
    Channels(),
    BlockColumns(4),
    BlockColumns(4, "global"),
    BlockColumns(4, group=2),
    BlockRows(4),
    Within(BlockColumns(4), Elements()),
    Within(Filters(), BlockColumns(2)),
    PatternSet(("a5a5", "5a5a", "ff00", "00ff", "c3c3"), (4, 4), 1),
    Within(BlockColumns(4), PatternSet(("a5", "5a", "f0", "0f"), (4, 4), 2)),
]

PRUNERS: dict[str, Callable[[], Pruner]] = {
    "at once": Magnitude,
    "gradual": lambda: Magnitude(CubicSchedule(begin=1, end=5, every=2)),
    "lasso given": lambda: ReweightedGroupLasso(strength=0.01, refresh_every=3),
    "lasso matched": lambda: ReweightedGroupLasso(fraction=0.2, refresh_every=3),
    "lasso by inputs": lambda: ReweightedGroupLasso(
        strength=0.01, refresh_every=3, by_inputs=True, batches=2
    ),
    "lasso selective": lambda: ReweightedGroupLasso(fraction=0.2, refresh_every=3, selective=True),
    "admm": lambda: ADMM(rho=0.05, every=2),
    "slr": lambda: SLR(rho=0.05, every=2),
    "surgeon": lambda: OptimalBrainSurgeon(batches=3),
    "surgeon, gradual": lambda: OptimalBrainSurgeon(CubicSchedule(begin=1, end=5, every=2), batches=2),
    "slr as printed": lambda: SLR(rho=0.05, every=2, steps="paper"),
    "admm by inputs": lambda: ADMM(rho=0.05, every=2, by_inputs=True, batches=2),
    "slr by inputs": lambda: SLR(
        rho=0.05, every=2, pull=0.1, schedule=CubicSchedule(begin=0, end=6), by_inputs=True, batches=2
    ),
    "slr restoring": lambda: SLR(rho=0.05, every=2, rejected="restore"),
}

PENALTIES = (ReweightedGroupLasso, ADMM, SLR)

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1),
}


def label(structure: Structure) -> str:
    return repr(structure).replace("budget=", "").replace(" ", "")


@pytest.fixture(params=STRUCTURES, ids=label)
def structure(request: pytest.FixtureRequest) -> Structure:
    chosen: Structure = request.param
    return chosen


@pytest.fixture(params=list(PRUNERS))
def make(request: pytest.FixtureRequest) -> Callable[[], Pruner]:
    """Maker of a fresh pruner."""
    return PRUNERS[request.param]


@pytest.fixture(params=list(OPTIMIZERS))
def optimize(request: pytest.FixtureRequest) -> Callable[[Any], torch.optim.Optimizer]:
    return OPTIMIZERS[request.param]


def prepared(
    make: Callable[[], Pruner], structure: Structure, dtype: torch.dtype = torch.float32
) -> tuple[Network, Pruner]:
    model, pruner = network(dtype=dtype), make()
    pruner.prepare(model, whole(structure))
    return model, pruner


def masks(pruner: Pruner) -> dict[str, torch.Tensor]:
    """What each weight keeps, in its stored shape."""
    kept = {}
    for target in pruner.targets:
        support = pruner.supports[target.name]
        ones = torch.ones_like(target.matrix())
        kept[target.name] = target.restore(support.apply(ones)) != 0
    return kept


def stored(state: Any) -> Any:
    """Through a file, read without executing anything in it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_feasible_from_harden_on(
    make: Callable[[], Pruner], structure: Structure, optimize: Callable[[Any], torch.optim.Optimizer]
) -> None:
    model, pruner = prepared(make, structure)
    optimizer = optimize(model.parameters())
    train(model, pruner, optimizer, 0, 6)
    report = {line.name: line for line in pruner.harden()}
    kept = masks(pruner)
    assert list(report) == ["conv.weight", "linear.weight", "turned.weight"]
    for target in pruner.targets:
        assert (target.parameter[~kept[target.name]] == 0).all()
        assert kept[target.name].sum() == round(target.reached * target.parameter.numel())
        assert report[target.name].density == pytest.approx(target.reached, rel=1e-12)
        assert 0 <= report[target.name].lost < 1
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for step in range(6, 12):  # momentum of pruned weights and weight decay must not bring them back
        train(model, pruner, optimizer, step, step + 1)
        for target in pruner.targets:
            assert (target.parameter[~kept[target.name]] == 0).all()
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name])  # what is left learns on
    assert all(torch.equal(kept[name], mask) for name, mask in masks(pruner).items())
    again = pruner.harden()
    assert all(line.lost == 0 for line in again)


def test_gradients_are_held_to_the_supports(make: Callable[[], Pruner], structure: Structure) -> None:
    model, pruner = prepared(make, structure)
    pruner.harden()
    loss_of(model, 0).backward()
    raw = {target.name: target.parameter.grad.clone() for target in pruner.targets}
    pruner.add_gradient_()
    for target in pruner.targets:
        kept = masks(pruner)[target.name]
        assert torch.equal(target.parameter.grad, torch.where(kept, raw[target.name], 0))


@pytest.mark.parametrize("pause", [0, 2, 4, 6, 9])
def test_resumes_bit_for_bit(
    make: Callable[[], Pruner],
    structure: Structure,
    optimize: Callable[[Any], torch.optim.Optimizer],
    pause: int,
) -> None:
    def run(model: Network, pruner: Pruner, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
        for step in range(first, last):
            train(model, pruner, optimizer, step, step + 1)
            if step + 1 == 6:
                pruner.harden()

    model, pruner = prepared(make, structure)
    optimizer = optimize(model.parameters())
    run(model, pruner, optimizer, 0, pause)
    state = stored([model.state_dict(), optimizer.state_dict(), pruner.state_dict()])
    run(model, pruner, optimizer, pause, 12)

    fresh = network(seed=1)
    resumed = make()
    resumed.prepare(fresh, whole(structure))
    again = optimize(fresh.parameters())
    for part, value in zip((fresh, again, resumed), state, strict=True):
        part.load_state_dict(value)
    assert resumed.hardened == (pause >= 6)
    run(fresh, resumed, again, pause, 12)
    for (name, parameter), other in zip(model.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(parameter, other), name
    assert pruner.penalty() == resumed.penalty()
    assert all(torch.equal(kept, masks(resumed)[name]) for name, kept in masks(pruner).items())


def test_a_state_is_a_snapshot(make: Callable[[], Pruner], structure: Structure) -> None:
    model, pruner = prepared(make, structure)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, pruner, optimizer, 0, 2)
    state = pruner.state_dict()
    then = stored(state)
    train(model, pruner, optimizer, 2, 7)
    pruner.harden()
    assert repr(state) == repr(then)


def test_runs_are_deterministic(make: Callable[[], Pruner], structure: Structure) -> None:
    results = []
    for _ in range(2):
        model, pruner = prepared(make, structure)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        train(model, pruner, optimizer, 0, 6)
        pruner.harden()
        train(model, pruner, optimizer, 6, 8)
        results.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_the_gradient_added_is_that_of_the_penalty(make: Callable[[], Pruner], structure: Structure) -> None:
    """Central differences of `penalty` along random directions, in float64."""
    model, pruner = prepared(make, structure, torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    train(model, pruner, optimizer, 0, 2)
    optimizer.zero_grad()
    loss_of(model, 2).backward()
    before = [target.parameter.grad.clone() for target in pruner.targets]
    pruner.add_gradient_()
    torch.manual_seed(7)
    for target, raw in zip(pruner.targets, before, strict=True):
        direction = torch.randn_like(target.parameter)
        added = target.parameter.grad - raw
        penalties = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                target.parameter.add_(direction, alpha=step)
            penalties.append(pruner.penalty())
            with torch.no_grad():
                target.parameter.add_(direction, alpha=-step)
        slope = (penalties[0] - penalties[1]) / 2e-6
        if isinstance(pruner, ADMM | SLR) and pruner.pull is not None:  # its pull goes past the optimiser
            assert slope != 0
            assert torch.equal(added, torch.zeros_like(added))
        elif isinstance(pruner, PENALTIES):
            assert slope != 0
            assert float((added * direction).sum()) == pytest.approx(slope, rel=1e-5)
        elif target.name not in pruner.supports:
            assert slope == 0
            assert torch.equal(added, torch.zeros_like(added))


def test_the_gradient_is_added_once_a_step(make: Callable[[], Pruner], structure: Structure) -> None:
    model, pruner = prepared(make, structure)
    loss_of(model, 0).backward()
    pruner.add_gradient_()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    with pytest.raises(ConfigError) as caught:
        pruner.add_gradient_()
    assert str(caught.value) == (
        f"{type(pruner).__name__}.add_gradient_() must be called once per step(), not twice: "
        "call it after the last backward pass of a step"
    )
    assert all(
        torch.equal(parameter.grad, kept) for parameter, kept in zip(model.parameters(), before, strict=True)
    )
    pruner.step()
    pruner.add_gradient_()


def test_the_penalty_is_a_number_and_ends_with_harden(
    make: Callable[[], Pruner], structure: Structure
) -> None:
    model, pruner = prepared(make, structure)
    first = pruner.batches if isinstance(pruner, PENALTIES) and pruner.by_inputs else 0
    train(model, pruner, torch.optim.SGD(model.parameters(), lr=0.05), 0, first)
    loss_of(model, first).backward()
    pruner.add_gradient_()
    assert pruner.penalty() > 0 if isinstance(pruner, PENALTIES) else pruner.penalty() == 0
    pruner.harden()
    assert pruner.penalty() == 0
    assert isinstance(pruner.penalty(), float)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(
    make: Callable[[], Pruner], structure: Structure, value: float
) -> None:
    sentence = (
        "turned.weight: a weight must be finite to be pruned, but holds NaN or infinity: "
        "go back to a checkpoint from before training diverged"
    )
    model, pruner = prepared(make, structure)
    before = model.linear.weight.detach().clone()
    with torch.no_grad():
        model.turned.weight[3, 5] = value
    with pytest.raises(WeightError) as caught:
        pruner.harden()
    assert str(caught.value) == sentence
    assert torch.equal(model.linear.weight, before)  # all or none
    assert not pruner.hardened
    with pytest.raises(WeightError) as caught:
        make().prepare(model, whole(structure))
    assert str(caught.value) == sentence


def test_a_state_of_another_pruner_is_refused(make: Callable[[], Pruner], structure: Structure) -> None:
    _, pruner = prepared(make, structure)
    here = type(pruner).__name__
    other: Pruner = Magnitude() if here != "Magnitude" else ReweightedGroupLasso()
    other.prepare(network(), whole(structure))
    with pytest.raises(CheckpointError) as caught:
        pruner.load_state_dict(other.state_dict())
    assert str(caught.value) == f"the checkpoint must be of {here}, not of {type(other).__name__}"
    with pytest.raises(CheckpointError) as caught:
        pruner.load_state_dict({})
    assert str(caught.value) == f"the checkpoint must be of {here}, not of None"


@pytest.mark.parametrize("hardened", [False, True])
def test_a_state_of_another_plan_is_refused(
    make: Callable[[], Pruner], structure: Structure, hardened: bool
) -> None:
    _model, pruner = prepared(make, structure)
    shape, density = "(16, 32)", whole(structure).rules[0].density
    ours = f"{structure} of shape {shape} at density {density}"

    def refused(rule: Rule, there: str) -> None:
        other = make()
        other.prepare(network(), Plan([rule]))
        if hardened:
            other.harden()
        for one, foreign, was, now in ((pruner, other, there, ours), (other, pruner, ours, there)):
            with pytest.raises(CheckpointError) as caught:
                one.load_state_dict(foreign.state_dict())
            assert f"to {was}, not to {now}: start again without it" in str(caught.value)
        assert str(caught.value) == (
            f"the checkpoint must belong to this plan, but holds {name!r} to {ours}, not to {there}: "
            "start again without it"
        )

    name = "conv.weight"
    shape = "(8, 4, 2, 2)"
    ours = f"{structure} of shape {shape} at density {density}"
    refused(Rule(weights="linear.weight", structure=structure, density=density), "nothing")
    if structure.densest((8, 16)) < 1:  # it has one density, and no other plan of it is there to be refused
        return
    refused(
        Rule(weights="*weight", structure=structure, density=1.0),
        f"{structure} of shape {shape} at density 1.0",
    )
    refused(
        Rule(weights="*weight", structure=BlockColumns(2), density=0.5),
        f"BlockColumns(rows=2, budget='balanced') of shape {shape} at density 0.5",
    )


def test_prepare_comes_first(make: Callable[[], Pruner], structure: Structure) -> None:
    pruner = make()
    sentence = f"{type(pruner).__name__}.prepare(model, plan) must be called first"
    for attempt in (pruner.harden, pruner.add_gradient_, pruner.step, lambda: pruner.targets):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert str(caught.value) == sentence


def test_prepare_starts_afresh(make: Callable[[], Pruner], structure: Structure) -> None:
    model, pruner = prepared(make, structure)
    train(model, pruner, torch.optim.SGD(model.parameters(), lr=0.1), 0, 4)
    pruner.harden()
    other = network()
    pruner.prepare(other, whole(structure))
    assert not pruner.hardened
    assert pruner.supports == {}
    fresh = make()
    fresh.prepare(network(), whole(structure))
    assert repr(pruner.state_dict()) == repr(fresh.state_dict())
