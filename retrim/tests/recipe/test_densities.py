"""Plans of comparisons that look at the dense network."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.prune import Plan
from retrim.recipe.comparing import Branch, key_of
from retrim.recipe.comparison import Comparison, FormsPart
from retrim.recipe.densities import plan_of
from retrim.structures import BlockColumns
from retrim.zoo.task import Task

RULE = {"weights": "*.weight", "structure": {"type": "BlockColumns", "rows": 8}}
TABLE: dict[str, Any] = {
    "version": 1,
    "task": {"type": "cifar10"},
    "prune": {"epochs": 1, "rate": 0.1},
    "retrain": {"epochs": 1, "rate": 0.1, "score_after": [0, 1]},
    "forms": [{"name": "blocks", "rules": [RULE], "rates": [2]}],
    "methods": [{"name": "magnitude", "pruner": {"type": "magnitude"}}],
}


class Plain(Task):
    """Two layers, the first of which matters less, that learn what they know; batches are tensors."""

    metric: ClassVar[str] = "score"
    steps = 1

    def __init__(self, seed: int = 0) -> None:
        self.inputs = torch.randn(24, 16, generator=torch.Generator().manual_seed(seed))
        self.probed = 0

    def build(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Dropout(0.5))
        with torch.no_grad():
            model[0].weight.mul_(0.05)
        self.wanted = copy.deepcopy(model).eval()(self.inputs).detach()
        return model

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[Any]:
        return iter(())

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        self.probed += 1
        assert not model.training
        found: torch.Tensor = (model(batch) - self.wanted).square().mean()
        return found

    def probe(self) -> Sequence[Any]:
        return [self.inputs]

    def score(self, model: nn.Module) -> dict[str, float]:
        return {"score": 0.0}


def forms(**more: Any) -> FormsPart:
    return FormsPart.model_validate({"name": "f", "rules": [RULE], "rates": [2], **more})


def densities(plan: Plan, model: nn.Module) -> list[float]:
    return [target.reached for target in plan.resolve(model)]


def test_densities_by_sensitivity_keep_the_budget(tmp_path: Path) -> None:
    task = Plain()
    model = task.build(0).train()
    part = forms(densities="sensitivity", sensitivity={"grid": [0.125, 0.25, 0.5, 0.75], "floor": 0.125})
    told: list[tuple[int, int, float]] = []
    plan = plan_of(part, 2, task, model, tmp_path, lambda *args: told.append(args))
    found = densities(plan, model)
    assert sum(found) / 2 <= 0.5 and found[0] != found[1]
    assert model.training
    assert told[-1] == (10, 10, 0.0)
    calls = task.probed
    assert densities(plan_of(part, 4, task, model, tmp_path, None), model) != found
    assert task.probed == calls  # one measurement for all rates
    other = Plain(seed=1)
    other.build(0)
    plan_of(part, 2, other, model, tmp_path, None)
    assert other.probed > 0 and len(list(tmp_path.iterdir())) == 2  # other data


def test_without_it_a_plan_is_even(tmp_path: Path) -> None:
    task = Plain()
    model = task.build(0)
    assert densities(plan_of(forms(), 2, task, model, tmp_path, None), model) == [0.5, 0.5]
    assert task.probed == 0 and not list(tmp_path.iterdir())


def test_heads_of_what_has_none(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    task = Plain()
    model = task.build(0)
    with pytest.raises(ConfigError, match="describe its layers by"):
        plan_of(forms(heads=0.5), 2, task, model, tmp_path, None)


def test_what_decides_a_branch() -> None:
    """Results from before there were uneven plans keep their names."""

    def key(**more: Any) -> str:
        recipe = Comparison.model_validate({**TABLE, "forms": [{**TABLE["forms"][0], **more}]})
        return key_of(recipe, Branch(recipe.forms[0], 2, recipe.methods[0], 0))

    assert forms().uneven() == {}
    measured = {"densities": "sensitivity", "sensitivity": {"floor": 0.2}}
    keys = [key(), key(heads=0.5), key(heads=0.75), key(densities="sensitivity"), key(**measured)]
    assert len(set(keys)) == 5
    assert key(densities="uniform") == keys[0]
    assert forms(heads=0.5).plan(2).rules[0].structure == BlockColumns(8)
