"""Measured sensitivities: what they are, what is chosen from them, and the file that keeps them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from retrim.errors import CheckpointError, ConfigError, DensityError, RetrimError, WeightError
from retrim.prune import Magnitude, Plan, Probe, Rule, Sensitivities, sensitivity
from retrim.prune.digest import data_digest, model_digest
from retrim.structures import BlockColumns, Filters, Segments, Structure

GRID = (0.125, 0.25, 0.5, 0.75)
FORM = BlockColumns(rows=8)


def network(seed: int = 0) -> nn.Sequential:
    """Three layers; the middle one matters little."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 8))
    with torch.no_grad():
        model[2].weight.mul_(0.1)
    return model


def probe_of(model: nn.Module) -> Probe:
    inputs = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model(inputs)

    def probe() -> float:
        with torch.no_grad():
            return float((model(inputs) - wanted).square().mean())

    return probe


def rules(structure: Structure = FORM) -> list[Rule]:
    return [Rule(weights="*.weight", structure=structure, density=0.5)]


@pytest.fixture
def found() -> Sensitivities:
    model = network()
    return sensitivity(model, rules(), probe_of(model), GRID)


def kept(model: nn.Module, plan: Plan) -> float:
    targets = plan.resolve(model)
    return sum(t.reached * t.parameter.numel() for t in targets) / sum(t.parameter.numel() for t in targets)


def test_an_increase_is_that_of_pruning_one_weight(found: Sensitivities) -> None:
    assert list(found.weights) == ["0.weight", "2.weight", "4.weight"]
    assert found.loss == 0
    for name, measured in found.weights.items():
        assert [point.reached for point in measured.points] == [*GRID, 1.0]
        assert measured.points[-1].increase == 0
        for point in measured.points:
            model = network()
            probe = probe_of(model)
            pruner = Magnitude()
            pruner.prepare(model, Plan([Rule(weights=name, structure=FORM, density=point.asked)]))
            pruner.harden()
            assert point.increase == probe()


def test_the_model_is_the_same_bits_afterwards() -> None:
    model = network()
    before = model_digest(model)
    sensitivity(model, rules(), probe_of(model), GRID)
    assert model_digest(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_plan_is_the_best_of_all_that_the_grid_has(found: Sensitivities) -> None:
    """Every choice of measured densities, tried one by one."""
    model = network()
    for density in (0.2, 0.3, 0.4, 0.6, 0.9):
        plan = found.plan(density)
        assert kept(model, plan) <= density + 1e-9
        assert [rule.weights for rule in plan.rules] == ["0.weight", "2.weight", "4.weight"]
        every = itertools.product(*(measured.points for measured in found.weights.values()))
        sizes = [measured.entries for measured in found.weights.values()]
        best = min(
            sum(point.increase for point in points)
            for points in every
            if sum(point.reached * size for point, size in zip(points, sizes, strict=True))
            <= density * sum(sizes)
        )
        assert found.predicted(plan) <= best + 1e-12


def test_it_is_not_worse_than_an_even_plan(found: Sensitivities) -> None:
    even = Plan([Rule(weights="*.weight", structure=FORM, density=0.5)])
    plan = found.plan(0.5)
    assert found.predicted(plan) < found.predicted(even)
    model = network()
    probe = probe_of(model)
    losses = []
    for chosen in (plan, even):
        model = network()
        probe = probe_of(model)
        pruner = Magnitude()
        pruner.prepare(model, chosen)
        pruner.harden()
        losses.append(probe())
    assert losses[0] < losses[1]  # here the prediction is right


def test_floor_and_ceiling_bind(found: Sensitivities) -> None:
    plan = found.plan(0.5, floor=0.25, ceiling=0.75)
    densities = [target.reached for target in plan.resolve(network())]
    assert min(densities) >= 0.25 and max(densities) <= 0.75
    assert min(target.reached for target in found.plan(0.5).resolve(network())) < 0.25
    assert [t.reached for t in found.plan(1.0).resolve(network())] == [1.0] * 3


def test_densities_between_those_that_were_measured(found: Sensitivities) -> None:
    measured = found.weights["0.weight"]
    low, high = measured.points[1:3]
    assert measured.cost((low.reached + high.reached) / 2) == pytest.approx(
        (low.increase + high.increase) / 2
    )
    assert measured.cost(0.01) == measured.points[0].increase
    asked = [point.asked for point in measured.choices(0.0, 1.0)]
    assert len(asked) == 15 and set(GRID) <= set(asked) and min(asked) == 0.125  # 16 columns


def test_what_fell_by_chance_is_not_planned_with(found: Sensitivities) -> None:
    points = found.weights["0.weight"].points
    odd = (-0.5, 0.25, -0.25, 0.125, 0.0)
    changed = tuple(point._replace(increase=value) for point, value in zip(points, odd, strict=True))
    measured = found.weights["0.weight"].model_copy(update={"points": changed})
    assert measured.costs == [0.25, 0.25, 0.125, 0.125, 0.0]
    assert measured.cost(0.375) == 0.1875
    free = {
        name: one.model_copy(update={"points": tuple(p._replace(increase=-1.0) for p in one.points)})
        for name, one in found.weights.items()
    }
    some = found.model_copy(update={"weights": free})
    assert kept(network(), some.plan(0.5)) == 0.5  # nothing is gained by less than the budget


def test_densities_out_of_reach_are_passed_over() -> None:
    model = network()
    found = sensitivity(model, rules(Filters()), probe_of(model), (0.0625, 0.25))
    assert [p.reached for p in found.weights["4.weight"].points] == [0.25, 1.0]  # 8 filters
    assert [p.reached for p in found.weights["0.weight"].points] == [0.0625, 0.25, 1.0]


def test_what_a_structure_leaves_is_the_densest() -> None:
    model = network()
    half = Segments(inner=FORM, size=8, kept=(1,))
    found = sensitivity(
        model, [Rule(weights="0.weight", structure=half, density=0.5)], probe_of(model), (0.125, 0.25, 1.0)
    )
    points = found.weights["0.weight"].points
    assert [point.reached for point in points] == [0.125, 0.25, 0.5]
    assert points[-1].increase > 0
    assert found.plan(0.9, floor=0.8).rules[0].density == 0.5


# --- the cache -----------------------------------------------------------------------


class Counted:
    """A probe that counts, and may stop."""

    def __init__(self, probe: Probe, stop: int | None = None) -> None:
        self.probe, self.stop, self.calls = probe, stop, 0

    def __call__(self) -> float:
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        return self.probe()


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    model = network()
    probe = Counted(probe_of(model))
    first = sensitivity(model, rules(), probe, GRID, data="a", cache=tmp_path / "kept")
    assert probe.calls == 1 + 3 * len(GRID)
    again = sensitivity(model, rules(), probe, GRID, data="a", cache=tmp_path / "kept")
    assert probe.calls == 1 + 3 * len(GRID)
    assert again == first == Sensitivities.read(first.path(tmp_path / "kept"))
    assert again.plan(0.4) == first.plan(0.4)


@pytest.mark.parametrize("change", ["data", "grid", "structure", "weights"])
def test_all_that_decides_is_in_the_key(tmp_path: Path, change: str) -> None:
    model = network()
    sensitivity(model, rules(), probe_of(model), GRID, data="a", cache=tmp_path)
    model = network(seed=1 if change == "weights" else 0)
    probe = Counted(probe_of(model))
    sensitivity(
        model,
        rules(BlockColumns(rows=4) if change == "structure" else FORM),
        probe,
        (0.25, 0.5) if change == "grid" else GRID,
        data="b" if change == "data" else "a",
        cache=tmp_path,
    )
    assert probe.calls > 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("stop", [1, 2, 4, 6, 9, 13])
def test_an_interruption_loses_one_weight_at_most(tmp_path: Path, stop: int) -> None:
    model = network()
    whole = sensitivity(model, rules(), probe_of(model), GRID)
    before = model_digest(model)
    probe = Counted(probe_of(model), stop)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(model, rules(), probe, GRID, cache=tmp_path)
    assert model_digest(model) == before
    rest = Counted(probe_of(model))
    assert sensitivity(model, rules(), rest, GRID, cache=tmp_path) == whole
    done = max(0, (stop - 2) // len(GRID))
    assert rest.calls == (3 - done) * len(GRID) + (0 if done else 1)


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    model = network()
    sensitivity(model, rules(), probe_of(model), GRID, progress=lambda *args: told.append(args))
    steps = 3 * (len(GRID) + 1)
    counts = [done for _, done, _ in told]
    assert counts == sorted(counts) and counts[0] == 1 and counts[-1] == steps
    assert {whole for _, _, whole in told} == {steps}


def test_damaged_and_newer_files(tmp_path: Path, found: Sensitivities) -> None:
    model = network()
    found.keep(tmp_path)
    path = found.path(tmp_path)
    good = json.loads(path.read_text())
    sentence = f"the file {str(path)!r} must hold sensitivities of version 1, but "
    for text, wrong in (
        ("{", "is damaged or none: remove it"),
        (json.dumps(good | {"version": 2}), "is of another version: upgrade retrim"),
        (json.dumps(good | {"weights": {"0.weight": {}}}), "is damaged or none: remove it"),
    ):
        path.write_text(text)
        with pytest.raises(CheckpointError) as caught:
            sensitivity(model, rules(), probe_of(model), GRID, cache=tmp_path)
        assert str(caught.value) == sentence + wrong
    path.write_text(json.dumps(good | {"model": "another"}))
    with pytest.raises(CheckpointError) as caught:
        sensitivity(model, rules(), probe_of(model), GRID, cache=tmp_path)
    assert str(caught.value) == f"{str(path)!r} must hold the sensitivities of its name: remove it"
    with pytest.raises(CheckpointError, match="must be a file that can be read"):
        Sensitivities.read(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="must be one that can be written to"):
        found.keep(tmp_path / "file")


# --- what is refused -----------------------------------------------------------------


def refused(kind: type[RetrimError], sentence: str, call: Any) -> None:
    with pytest.raises(RetrimError) as caught:
        call()
    assert str(caught.value) == sentence
    assert type(caught.value) is kind


def test_grids_and_losses_that_cannot_be(tmp_path: Path) -> None:
    model = network()
    probe = probe_of(model)
    for grid, said in (((), "none"), ((0.5, 0.5), "[0.5, 0.5]")):
        refused(
            ConfigError,
            f"densities to measure at must be one or more, each once, not {said}",
            lambda grid=grid: sensitivity(model, rules(), probe, grid),
        )
    refused(
        DensityError,
        "density must be a number with 0 < density <= 1, not 1.5",
        lambda: sensitivity(model, rules(), probe, (1.5,)),
    )
    refused(
        DensityError,
        "0.weight: a weight must reach a density of the grid, but BlockColumns(rows=8, budget='balanced') reaches "
        "none of 0.01 below 1: measure at larger ones",
        lambda: sensitivity(model, rules(), probe, (0.01,)),
    )
    refused(
        ConfigError,
        "the probe's loss must be finite, but is nan for the model as it is: check the model and its batches, or "
        "leave the smallest densities out",
        lambda: sensitivity(model, rules(), lambda: float("nan"), GRID),
    )
    with torch.no_grad():
        model[0].weight[0, 0] = torch.inf
    with pytest.raises(WeightError, match=r"0\.weight: a weight must be finite"):
        sensitivity(model, rules(), probe, GRID)


def test_budgets_and_bounds_that_cannot_be(found: Sensitivities) -> None:
    refused(
        DensityError,
        "density must be at least 0.125, which the smallest densities of all weights make, not 0.1: lower the floor, "
        "or measure smaller ones",
        lambda: found.plan(0.1),
    )
    refused(
        DensityError,
        "floor must be at most the ceiling 0.25, not 0.5",
        lambda: found.plan(0.5, floor=0.5, ceiling=0.25),
    )
    refused(
        DensityError,
        "0.weight: floor 0 and ceiling 0.1 must leave a density that was measured, but none of 0.125, 0.25, 0.5, "
        "0.75, 1: widen them",
        lambda: found.plan(0.5, ceiling=0.1),
    )
    half = found.model_copy(update={"weights": {}})
    refused(
        ConfigError,
        "all weights must be measured first, but '0.weight' is not",
        lambda: half.plan(0.5),
    )
    pair = Plan([Rule(weights="0.weight", structure=FORM, density=(0.5, 0.5))])
    refused(
        ConfigError,
        "0.weight: a loss must be predicted for one density, not for (0.5, 0.5)",
        lambda: found.predicted(pair),
    )


def test_digests_tell_batches_apart() -> None:
    batch = {"ids": torch.arange(6).reshape(2, 3), "labels": torch.tensor([0, 1])}
    other = {**batch, "labels": torch.tensor([1, 0])}
    assert data_digest([batch]) == data_digest([dict(reversed(batch.items()))])
    seen = {data_digest(value) for value in ([batch], [other], [batch, batch], (batch["ids"].float(),), "a")}
    assert len(seen) == 5
