"""Plans: which weights they find, and every sentence that refuses one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from retrim.errors import ConfigError, DensityError, RetrimError, ShapeError
from retrim.prune import Magnitude, Plan, Rule, Target
from retrim.structures import BlockColumns, Channels, Elements, Filters, Structure, Within


class Conv1D(nn.Module):
    """Stores its weight as (in, out), as Hugging Face's does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))


class Tied(nn.Module):
    """An output layer tied to the embedding, and one layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.body = nn.Linear(8, 8)
        self.again = self.body
        self.head = nn.Linear(8, 12, bias=False)
        self.head.weight = self.embed.weight


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 8), nn.Embedding(6, 4))


def rule(weights: str, structure: Structure | None = None, density: Any = 0.5) -> Rule:
    return Rule(weights=weights, structure=structure or BlockColumns(4), density=density)


def resolve(model: nn.Module, *rules: Rule) -> list[Target]:
    return Plan(rules).resolve(model)


def refused(kind: type[RetrimError], sentence: str, model: nn.Module, *rules: Rule) -> None:
    with pytest.raises(RetrimError) as caught:
        resolve(model, *rules)
    assert str(caught.value) == sentence
    assert type(caught.value) is kind


def test_targets_come_in_the_models_order() -> None:
    model = chain()
    targets = resolve(model, rule("2.weight", Filters()), rule("0.weight", density=0.25))
    assert [target.name for target in targets] == ["0.weight", "2.weight"]
    assert [target.density for target in targets] == [0.25, 0.5]
    assert [target.structure for target in targets] == [BlockColumns(4), Filters()]
    assert targets[0].parameter is model[0].weight


def test_a_glob_matches_across_dots_and_by_case() -> None:
    model = nn.ModuleDict({"Blocks": nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])})
    assert [t.name for t in resolve(model, rule("Bl*weight"))] == ["Blocks.0.weight", "Blocks.1.weight"]
    assert [t.name for t in resolve(model, rule("*[1].weight"))] == ["Blocks.1.weight"]
    refused(
        ConfigError,
        "weights 'blocks*' must match a parameter of the model, but matches none: "
        "its weights are Blocks.0.weight, Blocks.1.weight",
        model,
        rule("blocks*"),
    )


def test_the_density_reached_is_told() -> None:
    assert resolve(nn.Linear(10, 4), rule("weight", density=0.52))[0].reached == 0.5
    pair = resolve(nn.Linear(8, 8), rule("weight", Within(BlockColumns(4), Elements()), (0.5, 0.25)))
    assert pair[0].reached == 0.125


@pytest.mark.parametrize(
    ("layer", "kind", "matrix"),
    [
        (nn.Linear(6, 8), "linear", (8, 6)),
        (Conv1D(6, 8), "conv1d", (8, 6)),
        (nn.Conv2d(3, 8, (3, 2)), "conv2d", (8, 18)),
    ],
)
def test_layers_of_each_kind_are_known(layer: nn.Module, kind: str, matrix: tuple[int, int]) -> None:
    (target,) = resolve(layer, rule("weight"))
    assert target.kind == kind
    assert target.matrix().shape == matrix
    assert not target.matrix().requires_grad
    assert torch.equal(target.restore(target.matrix()), target.parameter)


def test_a_subclass_is_of_its_parents_kind() -> None:
    class Special(nn.Conv2d):
        pass

    assert resolve(Special(4, 4, 1), rule("weight", Channels()))[0].kind == "conv2d"


def test_a_bare_matrix_is_that_of_a_linear_layer() -> None:
    targets = resolve(nn.MultiheadAttention(8, 2), rule("*proj*weight"))
    assert [(target.name, target.kind) for target in targets] == [
        ("in_proj_weight", "linear"),
        ("out_proj.weight", "linear"),
    ]


def test_a_tied_weight_is_one_target_under_its_first_name() -> None:
    model = Tied()
    for glob in ("head.weight", "embed.weight", "*e*d.weight"):
        (target,) = resolve(model, rule(glob))
        assert (target.name, target.aliases, target.kind) == ("embed.weight", ("head.weight",), "linear")
        assert target.parameter is model.embed.weight
    (shared,) = resolve(model, rule("again.weight"))
    assert (shared.name, shared.aliases) == ("body.weight", ("again.weight",))


def test_pruning_a_tied_weight_keeps_it_tied() -> None:
    model, pruner = Tied(), Magnitude()
    pruner.prepare(model, Plan([rule("head.weight")]))
    pruner.harden()
    assert model.head.weight is model.embed.weight
    assert int(np.count_nonzero(model.embed.weight.detach())) == 48


def test_a_glob_that_matches_nothing() -> None:
    refused(
        ConfigError,
        "weights 'blocks.*' must match a parameter of the model, but matches none: "
        "its weights are 0.weight, 1.weight, 2.weight, 3.weight",
        chain(),
        rule("blocks.*"),
    )
    many = nn.Sequential(*(nn.Linear(2, 2) for _ in range(8)))
    refused(
        ConfigError,
        "weights 'x' must match a parameter of the model, but matches none: "
        "its weights are 0.weight, 1.weight, 2.weight, 3.weight, 4.weight, 5.weight, …",
        many,
        rule("x"),
    )


def test_a_plan_without_rules() -> None:
    with pytest.raises(ConfigError) as caught:
        Plan([])
    assert str(caught.value) == "a plan must have at least one rule"


def test_a_weight_that_two_rules_match() -> None:
    refused(
        ConfigError,
        "a weight must be named by one rule only, but '0.weight' is matched by '0.*t' and by '?.weight'",
        chain(),
        rule("0.*t"),
        rule("?.weight"),
    )
    refused(
        ConfigError,
        "a weight must be named by one rule only, but 'embed.weight' (tied to 'head.weight') is matched "
        "by 'embed*' and by 'head*'",
        Tied(),
        rule("embed*"),
        rule("head*"),
    )
    same = rule("0.weight")
    assert len(resolve(chain(), same, same)) == 1


def test_a_shape_that_does_not_divide() -> None:
    refused(
        ShapeError,
        "0.weight: rows of BlockColumns(rows=6, budget='balanced') must divide the weight's 16 outputs: "
        "choose one of 1, 2, 4, 8, 16",
        chain(),
        rule("0.weight", BlockColumns(6)),
    )


@pytest.mark.parametrize(
    ("density", "said"),
    [
        (0, "a number with 0 < density <= 1, not 0"),
        (1.5, "a number with 0 < density <= 1, not 1.5"),
        (math.nan, "a number with 0 < density <= 1, not nan"),
        ("half", "a number with 0 < density <= 1, not 'half'"),
        (0.03, "within 10% of one that the structure reaches here, not 0.03: the nearest is 0.125"),
    ],
)
def test_a_density_out_of_range_or_reach(density: Any, said: str) -> None:
    refused(DensityError, f"0.weight: density must be {said}", chain(), rule("0.weight", density=density))


def test_a_pair_of_densities_for_a_simple_structure() -> None:
    refused(
        ConfigError,
        "0.weight: density must be one number for Filters(), not (0.5, 0.5): "
        "only Within takes one for each of its parts",
        chain(),
        rule("0.weight", Filters(), (0.5, 0.5)),
    )


@pytest.mark.parametrize(
    ("model", "glob", "sentence"),
    [
        (
            chain(),
            "3.weight",
            "3.weight must be the weight of a linear or convolution layer, not of Embedding with shape (6, 4)",
        ),
        (
            chain(),
            "1.weight",
            "1.weight must be the weight of a linear or convolution layer, not of LayerNorm with shape (16,)",
        ),
        (
            nn.ConvTranspose2d(4, 8, 2),
            "weight",
            "weight must be the weight of a linear or convolution layer, not of ConvTranspose2d with shape "
            "(4, 8, 2, 2)",
        ),
        (
            nn.Conv1d(4, 8, 2),
            "weight",
            "weight must be the weight of a linear or convolution layer, not of Conv1d with shape (8, 4, 2)",
        ),
    ],
)
def test_weights_of_other_layers(model: nn.Module, glob: str, sentence: str) -> None:
    refused(ConfigError, sentence, model, rule(glob))


def test_a_bias_is_no_matrix() -> None:
    refused(
        ShapeError,
        "0.bias: a linear weight must have 2 non-empty dimensions, not shape (16,)",
        chain(),
        rule("0.*"),
    )


def test_views_of_one_memory() -> None:
    memory = torch.randn(24, 8)
    model = nn.Module()
    model.early = nn.Linear(8, 16, bias=False)
    model.late = nn.Linear(8, 16, bias=False)
    model.apart = nn.Linear(8, 8, bias=False)
    model.late.weight = nn.Parameter(memory[8:])
    model.early.weight = nn.Parameter(memory[:16])
    sentence = (
        "'early.weight' and 'late.weight' must not be views of one memory: tie the parameters "
        "themselves, or give each its own"
    )
    refused(ConfigError, sentence, model, rule("early.weight"))
    refused(ConfigError, sentence, model, rule("late.weight"))
    assert resolve(model, rule("apart.weight"))[0].name == "apart.weight"


def test_neighbours_in_one_memory_are_apart() -> None:
    memory = torch.randn(16, 8)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[0].weight, model[1].weight = nn.Parameter(memory[:8]), nn.Parameter(memory[8:])
    assert len(resolve(model, rule("*.weight"))) == 2
