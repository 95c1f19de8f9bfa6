"""Whole attention heads: chosen by all four slices, pruned by every pruner, and as if they had never been."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip(
    "transformers", reason="the Hugging Face extra is not installed: pip install 'retrim[hf]'"
)

from retrim.errors import ConfigError, DensityError, ShapeError
from retrim.prune import (
    ADMM,
    SLR,
    Attention,
    CubicSchedule,
    Magnitude,
    Plan,
    Pruner,
    ReweightedGroupLasso,
    Rule,
    head_energies,
    head_sensitivities,
    head_taylor,
    keep_heads,
    with_heads,
)
from retrim.structures import BlockColumns, Elements, Filters, Segments, Within
from retrim.torch.huggingface import (
    PruneCallback,
    attention_of,
    loss_probe,
    pack_pretrained,
    plan_for,
    save_pruned,
)

FAMILIES = ("bert", "roberta", "distilbert", "gpt2")
HEADS, SIZE = 4, 8
FORM = BlockColumns(rows=8)
KEPT = [(0, 3), (1, 2)]
COUNT = {
    "bert": "num_attention_heads",
    "roberta": "num_attention_heads",
    "distilbert": "n_heads",
    "gpt2": "n_head",
}
IDS = torch.randint(2, 61, (4, 12), generator=torch.Generator().manual_seed(3))
BATCH = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": torch.tensor([0, 1, 2, 1])}
PRUNERS: dict[str, Callable[[], Pruner]] = {
    "at once": Magnitude,
    "gradual": lambda: Magnitude(CubicSchedule(begin=1, end=5, every=1)),
    "lasso": lambda: ReweightedGroupLasso(fraction=0.2, refresh_every=3),
    "lasso selective": lambda: ReweightedGroupLasso(strength=0.01, refresh_every=3, selective=True),
    "admm": lambda: ADMM(rho=0.05, every=2),
    "slr": lambda: SLR(rho=0.05, every=2),
}


@pytest.fixture
def make(make_model: Any) -> Callable[..., Any]:
    """A model of four heads whose biases are not zero."""

    def make(family: str = "bert", **fields: Any) -> Any:
        model = make_model(family, **{COUNT[family]: HEADS}, **fields)
        draw = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
        return model

    return make


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(IDS, attention_mask=BATCH["attention_mask"]).logits
    return found


def train(model: Any, pruner: Pruner, optimizer: torch.optim.Optimizer, steps: int) -> None:
    probe = loss_probe(model, [BATCH])
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(**BATCH).loss.backward()
        pruner.add_gradient_()
        optimizer.step()
        pruner.step(probe)


def lines(kept: tuple[int, ...], parts: int = 1) -> torch.Tensor:
    """Rows that belong to these heads."""
    rows = [
        part * HEADS * SIZE + head * SIZE + row
        for part in range(parts)
        for head in kept
        for row in range(SIZE)
    ]
    return torch.tensor(rows)


def cut(layer: Any, rows: torch.Tensor | None = None, columns: torch.Tensor | None = None) -> None:
    """Take rows or columns out of a linear layer, or of a Conv1D, for good."""
    turned = type(layer).__name__ == "Conv1D"
    weight = layer.weight.detach().T if turned else layer.weight.detach()
    bias = layer.bias.detach()
    if rows is not None:
        weight, bias = weight[rows], bias[rows]
    if columns is not None:
        weight = weight[:, columns]
    layer.weight = nn.Parameter((weight.T if turned else weight).contiguous())
    layer.bias = nn.Parameter(bias.clone())
    if turned:
        layer.nf = len(bias)


def without(model: Any, kept: list[tuple[int, ...]]) -> Any:
    """The oracle: a model that has these heads only, smaller weights and all."""
    small = copy.deepcopy(model)
    modules = dict(small.named_modules())
    for layer, heads in zip(attention_of(small), kept, strict=True):
        for name in layer.inputs:
            cut(modules[name.removesuffix(".weight")], rows=lines(heads, layer.stacked))
        cut(modules[layer.output.removesuffix(".weight")], columns=lines(heads))
        owner = modules[layer.inputs[0].rpartition(".")[0].rpartition(".")[0]]
        if hasattr(owner, "split_size"):
            owner.split_size = len(heads) * SIZE
    return small


def assert_heads_are_gone(model: Any, kept: list[tuple[int, ...]]) -> None:
    parameters = dict(model.named_parameters())
    for layer, heads in zip(attention_of(model), kept, strict=True):
        gone = tuple(head for head in range(HEADS) if head not in heads)
        for name in layer.inputs:
            weight = parameters[name].T if layer.stacked == 3 else parameters[name]
            assert (weight[lines(gone, layer.stacked)] == 0).all()
            assert (parameters[name.replace("weight", "bias")][lines(gone, layer.stacked)] == 0).all()
            assert (parameters[name.replace("weight", "bias")][lines(heads, layer.stacked)] != 0).all()
        output = parameters[layer.output].T if layer.stacked == 3 else parameters[layer.output]
        assert (output[:, lines(gone)] == 0).all()
        assert (parameters[layer.output.replace("weight", "bias")] != 0).all()


# --- a model whose heads are pruned is one without them ------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", ["classes", "lm"])
def test_it_is_the_model_without_them(family: str, task: str, make: Any) -> None:
    if task == "lm" and family != "gpt2":
        pytest.skip("its attention is the same in both")
    model = make(family, task=task)
    before = logits(model)
    pruner = Magnitude()
    pruner.prepare(model, plan_for(model, FORM, 0.25, heads=KEPT))
    pruner.harden()
    assert_heads_are_gone(model, KEPT)
    wanted = logits(without(model, KEPT))
    found = logits(model)
    assert not torch.allclose(found, before)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    densities = {target.name: target.reached for target in pruner.targets}
    assert set(densities.values()) == {0.25}
    for target in pruner.targets:
        assert (target.parameter != 0).sum() == 0.25 * target.parameter.numel()


def test_a_density_above_what_heads_leave_falls_to_it(make: Any) -> None:
    model = make()
    targets = plan_for(model, FORM, 0.75, heads=0.5).resolve(model)
    names = {name for layer in attention_of(model) for name in layer.names}
    assert {target.reached for target in targets if target.name in names} == {0.5}
    assert {target.reached for target in targets if target.name not in names} == {0.75}


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_takes_heads_out(name: str, family: str, make: Any) -> None:
    model, pruner = make(family), PRUNERS[name]()
    pruner.prepare(model, plan_for(model, FORM, 0.25, heads=KEPT))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    train(model, pruner, optimizer, 6)
    pruner.harden()
    assert_heads_are_gone(model, KEPT)
    before = copy.deepcopy(model.state_dict())
    train(model, pruner, optimizer, 6)  # neither momentum nor decay brings them back
    assert_heads_are_gone(model, KEPT)
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for target in pruner.targets:
        assert (target.parameter != 0).sum() == 0.25 * target.parameter.numel()
    torch.testing.assert_close(logits(model), logits(without(model, KEPT)), rtol=1e-4, atol=1e-5)
    assert all(line.lost == 0 for line in pruner.harden())


@pytest.mark.parametrize("name", PRUNERS)
def test_resumes_bit_for_bit(name: str, make: Any) -> None:
    def begun() -> tuple[Any, Pruner, torch.optim.Optimizer]:
        model, pruner = make(), PRUNERS[name]()
        pruner.prepare(model, plan_for(model, FORM, 0.25, heads=KEPT))
        return model, pruner, torch.optim.AdamW(model.parameters(), lr=0.01)

    model, pruner, optimizer = begun()
    train(model, pruner, optimizer, 3)
    state = copy.deepcopy([part.state_dict() for part in (model, optimizer, pruner)])
    train(model, pruner, optimizer, 3)
    pruner.harden()
    train(model, pruner, optimizer, 2)
    again, resumed, other = begun()
    for part, kept in zip((again, other, resumed), state, strict=True):
        part.load_state_dict(kept)
    train(again, resumed, other, 3)
    resumed.harden()
    train(again, resumed, other, 2)
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_packed_and_loaded_again(family: str, make: Any, tmp_path: Path) -> None:
    import transformers as hf

    model, pruner = make(family), Magnitude()
    pruner.prepare(model, plan_for(model, FORM, 0.25, heads=KEPT))
    pruner.harden()
    save_pruned(model, pruner, tmp_path / "pruned")
    auto = hf.AutoModelForSequenceClassification
    assert torch.equal(logits(auto.from_pretrained(tmp_path / "pruned")), logits(model))
    packed = auto.from_pretrained(pack_pretrained(tmp_path / "pruned", tmp_path / "packed"))
    wanted = logits(without(model, KEPT))
    assert float((logits(packed) - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())


def test_inside_transformers_trainer(make: Any, make_trainer: Any) -> None:
    model, pruner = make(), ReweightedGroupLasso()
    trainer = make_trainer(model, PruneCallback(plan_for(model, FORM, 0.25, heads=KEPT), pruner))
    trainer.train()
    assert pruner.hardened
    assert_heads_are_gone(model, KEPT)


@pytest.mark.parametrize(
    ("structure", "density"),
    [
        (Elements(), 0.3),
        (Filters(), 0.25),
        (Within(BlockColumns(rows=8), Elements()), (0.5, 0.5)),
        (BlockColumns(rows=16, budget="global", group=2), 0.25),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_with_other_structures_inside(structure: Any, density: Any, make: Any) -> None:
    model, pruner = make(), Magnitude()
    pruner.prepare(model, plan_for(model, structure, density, heads=KEPT))
    pruner.harden()
    assert_heads_are_gone(model, KEPT)
    torch.testing.assert_close(logits(model), logits(without(model, KEPT)), rtol=1e-5, atol=1e-5)


# --- which heads ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_is_of_all_four_slices(family: str, make: Any) -> None:
    model = make(family)
    layers = attention_of(model)
    assert len(layers) == 2 and all(layer.heads == HEADS for layer in layers)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    energies = head_energies(model, layers)
    for layer, scores in zip(layers, energies, strict=True):
        for head in range(HEADS):
            total = 0.0
            for name in layer.inputs:
                weight = parameters[name].T if family == "gpt2" else parameters[name]
                total += float(weight[lines((head,), layer.stacked)].double().square().sum())
            output = parameters[layer.output].T if family == "gpt2" else parameters[layer.output]
            total += float(output[:, lines((head,))].double().square().sum())
            assert float(scores[head]) == pytest.approx(total, rel=1e-9)
    targets = plan_for(model, FORM, 0.5, heads=0.5).resolve(model)
    kept = keep_heads(energies, 0.5)
    output = next(target for target in targets if target.name == layers[1].output)
    assert isinstance(output.structure, Segments) and output.structure.kept == kept[1]


def test_one_slice_alone_does_not_decide(make: Any) -> None:
    model = make()
    layer = attention_of(model)[0]
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for head, scale in enumerate((3.0, 1.0, 1.0, 1.0)):
            parameters[layer.inputs[0]][head * SIZE : (head + 1) * SIZE] *= scale  # the query's largest
        for name in layer.inputs[1:]:
            parameters[name][:SIZE] = 0
        parameters[layer.output][:, :SIZE] = 0
        parameters[layer.inputs[0]][:SIZE] *= 0.2
    assert 0 not in keep_heads(head_energies(model, [layer]), 0.75)[0]


def test_taylor_is_the_loss_change_to_first_order(make: Any) -> None:
    """Against a central difference of the loss as one head's slices are scaled."""
    model = make().double()
    layers = attention_of(model)

    def loss(model: Any, batch: Any) -> torch.Tensor:
        found: torch.Tensor = model(**batch).loss
        return found

    scores = head_taylor(model, layers, loss, [BATCH])
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()
    parameters = dict(model.named_parameters())
    layer, step = layers[1], 1e-5
    for head in range(HEADS):
        slopes = []
        for sign in (1, -1):
            before = copy.deepcopy(model.state_dict())
            with torch.no_grad():
                for name in layer.inputs:
                    parameters[name][lines((head,))] *= 1 + sign * step
                parameters[layer.output][:, lines((head,))] *= 1 + sign * step
                slopes.append(float(model(**BATCH).loss))
            model.load_state_dict(before)
        assert float(scores[1][head]) == pytest.approx(
            abs(slopes[0] - slopes[1]) / (2 * step), rel=1e-4, abs=1e-9
        )


def test_sensitivity_is_the_loss_without_a_head(make: Any) -> None:
    model = make()
    layers = attention_of(model)
    probe = loss_probe(model, [BATCH])
    before = copy.deepcopy(model.state_dict())
    dense = probe()
    scores = head_sensitivities(model, layers, probe)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    every = tuple(range(HEADS))
    for number in range(2):
        for head in range(HEADS):
            kept = [every, every]
            kept[number] = tuple(one for one in every if one != head)
            small = without(model, kept)
            wanted = loss_probe(small, [BATCH])() - dense
            assert float(scores[number][head]) == pytest.approx(wanted, abs=1e-6)


def test_even_and_over_the_whole_model() -> None:
    scores = [torch.tensor([9.0, 1.0, 8.0, 7.0]), torch.tensor([0.1, 0.3, 0.3, 0.2])]
    assert keep_heads(scores, 0.5) == [(0, 2), (1, 2)]
    assert keep_heads(scores, 0.25) == [(0,), (1,)]
    assert keep_heads(scores, 0.5, even=False) == [(0, 2, 3), (1,)]
    assert keep_heads(scores, 0.75, even=False) == [(0, 1, 2, 3), (1, 2)]
    assert keep_heads(scores, 1.0, even=False) == [(0, 1, 2, 3), (0, 1, 2, 3)]


# --- what is refused -------------------------------------------------------------------------


def test_heads_that_are_none(make: Any) -> None:
    model = make()
    for heads, sentence in (
        ([(0, 1)], "heads must be given for each of the 2 attention layers, not for 1"),
        (
            [(0, 4), (0,)],
            "heads of attention layer 0 must be one or more of 0 to 3, each once, not [0, 4]",
        ),
        ([(0,), ()], "heads of attention layer 1 must be one or more of 0 to 3, each once, not []"),
        ([(0, 0), (0,)], "heads of attention layer 0 must be one or more of 0 to 3, each once, not [0, 0]"),
    ):
        with pytest.raises(ConfigError) as caught:
            plan_for(model, FORM, 0.25, heads=heads)
        assert str(caught.value) == sentence
    with pytest.raises(DensityError) as refused:
        plan_for(model, FORM, 0.25, heads=0.1)
    assert "density must be within 10% of one that the structure reaches here, not 0.1" in str(refused.value)
    with pytest.raises(ConfigError) as caught:
        keep_heads([torch.tensor([1.0, torch.nan])], 0.5)
    assert str(caught.value) == "scores of heads must be finite, and of one layer or more"


def test_plans_and_weights_that_do_not_fit(make: Any) -> None:
    model = make()
    layers = attention_of(model)
    part = Plan([Rule(weights="*attention.self.*.weight", structure=FORM, density=0.25)])
    with pytest.raises(ConfigError) as caught:
        with_heads(part, model, layers, KEPT)
    assert str(caught.value) == (
        "a plan must have all weights of an attention layer whose heads are pruned, but "
        "'bert.encoder.layer.0.attention.output.dense.weight' is in none of its rules"
    )
    with pytest.raises(ShapeError) as wrong:
        plan_for(model, BlockColumns(rows=32), 0.25, heads=KEPT)
    assert str(wrong.value) == (
        "bert.encoder.layer.0.attention.self.query.weight: rows of BlockColumns(rows=32, budget='balanced') must "
        "divide the weight's 16 outputs: choose one of 1, 2, 4, 8, 16"
    )
    five = [Attention(inputs=layer.inputs, output=layer.output, heads=5) for layer in layers]
    with pytest.raises(ShapeError) as wrong:
        head_energies(model, five)
    assert str(wrong.value) == (
        "bert.encoder.layer.0.attention.self.query.weight: a weight of an attention layer must be that of 5 heads, "
        "not of shape (32, 32)"
    )
    model.config.model_type = "mamba"
    with pytest.raises(ConfigError) as caught:
        attention_of(model)
    assert "describe its layers by retrim.prune.Attention" in str(caught.value)
    for inputs, heads, said in (
        (("a", "b"), 2, "inputs of an attention layer must be one weight or three, not 2"),
        (("a",), 0, "heads of an attention layer must be a whole number >= 1, not 0"),
    ):
        with pytest.raises(ConfigError) as caught:
            Attention(inputs=inputs, output="o", heads=heads)
        assert str(caught.value) == said
