"""Magnitude pruning: what is kept, and the cubic schedule against its equation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from retrim.errors import ConfigError
from retrim.prune import CubicSchedule, Magnitude, Plan, Rule
from retrim.structures import BlockColumns, BlockRows, Density, Elements, Filters, Structure, Within


def linear(outputs: int = 8, inputs: int = 20) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=False)


def plan(structure: Structure, density: Density) -> Plan:
    return Plan([Rule(weights="weight", structure=structure, density=density)])


def zeros(layer: nn.Linear) -> float:
    return float((layer.weight == 0).float().mean())


@given(
    begin=st.integers(0, 100),
    length=st.integers(1, 1000),
    at=st.integers(-50, 1200),
    target=st.floats(0.01, 1),
)
def test_the_schedule_is_the_equation(begin: int, length: int, at: int, target: float) -> None:
    schedule = CubicSchedule(begin=begin, end=begin + length)
    step = begin + at
    inside = min(max(at, 0), length)
    sparsity = (1 - target) * (1 - (1 - inside / length) ** 3)
    assert schedule.density(step, target) == pytest.approx(1 - sparsity, abs=1e-12)


@given(target=st.floats(0.001, 1))
def test_the_schedule_ends_at_the_very_target(target: float) -> None:
    assert CubicSchedule(begin=0, end=7).density(7, target) == target
    assert CubicSchedule(begin=0, end=7).density(0, target) == 1


@given(target=st.floats(0.001, 1), initial=st.floats(0.001, 1), at=st.integers(0, 7))
def test_a_schedule_may_begin_at_any_density(target: float, initial: float, at: int) -> None:
    found = CubicSchedule(begin=0, end=7, initial=initial).density(at, target)
    if target >= initial:
        assert found == target
    else:
        sparsity = (1 - target) + ((1 - initial) - (1 - target)) * (1 - at / 7) ** 3
        assert found == pytest.approx(1 - sparsity, abs=1e-12)


def test_when_pruning_is_due() -> None:
    schedule = CubicSchedule(begin=4, end=15, every=5)
    assert [step for step in range(30) if schedule.due(step)] == [4, 9, 14, 15]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"begin": 5, "end": 5}, "a schedule must have 0 <= begin < end, not begin 5 and end 5"),
        ({"begin": -1, "end": 5}, "a schedule must have 0 <= begin < end, not begin -1 and end 5"),
        ({"begin": 0, "end": 5, "every": 0}, "every must be a whole number >= 1, not 0"),
        ({"begin": 0, "end": 5, "initial": 0.0}, "initial must be a density, 0 < initial <= 1, not 0.0"),
    ],
)
def test_schedules_that_make_no_sense(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CubicSchedule(**fields)
    assert str(caught.value) == sentence


def test_at_once_is_the_projection_of_the_weights_at_harden() -> None:
    layer, pruner = linear(), Magnitude()
    pruner.prepare(layer, plan(BlockColumns(4), 0.3))
    for _ in range(5):
        pruner.add_gradient_()
        pruner.step()
    assert zeros(layer) == 0
    weight = layer.weight.detach().clone()
    (line,) = pruner.harden()
    expected = BlockColumns(4).project(weight, 0.3)[0]
    assert torch.equal(layer.weight, expected)
    assert line.density == 0.3
    assert line.lost == pytest.approx(float((weight - expected).norm() / weight.norm()))


def test_gradual_pruning_follows_the_schedule() -> None:
    layer = linear()
    schedule = CubicSchedule(begin=2, end=10, every=4)
    pruner = Magnitude(schedule)
    pruner.prepare(layer, plan(Elements(), 0.25))
    seen = []
    for _ in range(12):
        pruner.step()
        seen.append(1 - zeros(layer))
    due = [1.0] * 5 + [schedule.density(6, 0.25)] * 4 + [0.25] * 3
    assert seen == pytest.approx(due, abs=0.5 / 160)
    assert pruner.harden()[0].lost == 0


def test_a_pruned_group_stays_pruned_between_two_prunings() -> None:
    layer = linear()
    pruner = Magnitude(CubicSchedule(begin=0, end=40, every=20))
    pruner.prepare(layer, plan(Filters(), 0.25))
    for _ in range(20):
        pruner.step()
    gone = (layer.weight == 0).clone()
    assert gone.any()
    for _ in range(19):
        with torch.no_grad():
            layer.weight += 1.0
        pruner.step()
        assert (layer.weight[gone] == 0).all()


def test_a_step_that_the_structure_cannot_reach_is_passed_over() -> None:
    """Two of three rows cannot be cut into blocks of two, so nothing happens until one in two can."""
    layer = linear(outputs=4)
    pruner = Magnitude(CubicSchedule(begin=0, end=4, every=1))
    structure = Within(Filters(), BlockColumns(2))
    pruner.prepare(layer, plan(structure, (0.5, 0.5)))
    for _ in range(4):
        pruner.step()
    assert zeros(layer) == 0.75
    assert pruner.supports["weight"].density == 0.25


def test_hardening_keeps_the_support_that_a_schedule_has_reached() -> None:
    """Projecting this form a second time would lose weights: see the notes of `Within`."""
    structure = Within(BlockRows(4), BlockColumns(2))
    layer = linear(outputs=8, inputs=16)
    pruner = Magnitude(CubicSchedule(begin=0, end=1, every=1))
    pruner.prepare(layer, plan(structure, (0.5, 0.125)))
    pruner.step()
    before, support = layer.weight.detach().clone(), pruner.supports["weight"]
    assert not torch.equal(structure.project(before, (0.5, 0.125))[0], before)
    assert pruner.harden()[0].lost == 0
    assert torch.equal(layer.weight, before)
    assert pruner.supports["weight"] is support
    with torch.no_grad():
        layer.weight += 1  # a weight that has left its support is projected anew
    assert pruner.harden()[0].lost > 0


def test_momentum_brings_nothing_back() -> None:
    """An optimiser moves what was pruned before the schedule looks again, which must not see that."""
    layer = linear()
    pruner = Magnitude(CubicSchedule(begin=0, end=20, every=1))
    pruner.prepare(layer, plan(Elements(), 0.25))
    gone = torch.zeros_like(layer.weight, dtype=torch.bool)
    for _ in range(20):
        with torch.no_grad():
            layer.weight[gone] = 10.0
        pruner.step()
        assert not layer.weight[gone].any()
        gone |= layer.weight == 0
    assert zeros(layer) == 0.75
