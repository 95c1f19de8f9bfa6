"""What a checkpoint brings along: the order of its classes, and its positions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.zoo.glue.checkpoint import order_classes_, positions
from retrim.zoo.glue.finetuning import FineTuning
from retrim.zoo.glue.tasks import find_task

MNLI = ("entailment", "neutral", "contradiction")


@pytest.fixture
def task(checkpoint: Path) -> FineTuning:
    return FineTuning(task="mnli", model=str(checkpoint), max_length=16)


def _saved(task: FineTuning, names: tuple[str, ...], rows: list[int], there: Path) -> FineTuning:
    """The task's model saved with its classes in another order, `rows` of its own, and other names."""
    model = task.build(0)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        for tensor in model.classifier.parameters():
            tensor.copy_(tensor[rows].clone())
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    model.save_pretrained(there)
    for path in Path(task.model).glob("tokenizer*"):
        (there / path.name).write_bytes(path.read_bytes())
    return replace(task, model=str(there))


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (("Contradiction", "Entailment", " neutral"), [2, 0, 1]),  # no permutation that undoes itself
        (("NEUTRAL", "CONTRADICTION", "ENTAILMENT"), [1, 2, 0]),
        (MNLI, [0, 1, 2]),
    ],
)
def test_classes_come_in_glues_order(task: FineTuning, tmp_path: Path, names: tuple, rows: list) -> None:
    found = _saved(task, names, rows, tmp_path / "saved").build(0)
    assert found.classifier.bias.tolist() == [1.0, 2.0, 3.0]
    own = task.build(0)
    assert torch.equal(found.classifier.weight, own.classifier.weight)
    assert found.config.id2label == dict(enumerate(MNLI))
    assert found.config.label2id == {name: number for number, name in enumerate(MNLI)}
    ids = torch.arange(5, 13)[None]
    expected = own.eval()(input_ids=ids).logits - own.classifier.bias + torch.tensor([1.0, 2.0, 3.0])
    assert torch.allclose(found.eval()(input_ids=ids).logits, expected, atol=1e-6)


def test_classes_without_names_stay_as_they_are(task: FineTuning, tmp_path: Path) -> None:
    found = _saved(task, ("LABEL_0", "LABEL_1", "LABEL_2"), [2, 0, 1], tmp_path / "saved").build(0)
    assert found.classifier.bias.tolist() == [3.0, 1.0, 2.0]


def test_other_names_are_told(task: FineTuning, tmp_path: Path) -> None:
    saved = _saved(task, ("bad", "fair", "good"), [2, 0, 1], tmp_path / "saved")
    sentence = (
        f"model {saved.model!r} calls its classes bad, fair, good, where MNLI has entailment, neutral, contradiction: "
        "they are taken in this order"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(sentence)}$"):
        found = saved.build(0)
    assert found.classifier.bias.tolist() == [3.0, 1.0, 2.0]


def test_hyphens_and_spaces_say_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([1.0, 2.0]))
    order_classes_("m", model, find_task("mrpc"), {1: "Not equivalent", 0: "equivalent"})
    assert model[0].bias.tolist() == [2.0, 1.0]
    order_classes_("m", model, find_task("qnli"), {0: "Not-Entailment", 1: "entailment"})
    assert model[0].bias.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("layers", [0, 2])
def test_a_head_that_cannot_be_told_is_refused(layers: int) -> None:
    model = nn.Sequential(*[nn.Linear(2, 2) for _ in range(layers)])
    with pytest.raises(ConfigError) as caught:
        order_classes_("m", model, find_task("sst2"), {0: "positive", 1: "negative"})
    assert str(caught.value) == (
        f"model 'm' has the classes of SST-2 in another order, positive, negative, and {layers} layers that could give "
        "them, not one: bring them into the order negative, positive"
    )


def test_more_tokens_than_positions_are_refused(task: FineTuning) -> None:
    most = positions(task.build(0))
    assert most is not None
    replace(task, max_length=most).build(0)
    with pytest.raises(ConfigError) as caught:
        replace(task, max_length=most + 1).build(0)
    assert str(caught.value) == (
        f"max_length must be at most the {most} positions of model {task.model!r}, not {most + 1}: make it smaller"
    )


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "GPT2", "T5"])
def test_positions_are_as_many_as_run(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {
        "GPT2": {"n_embd": 16, "n_head": 2, "n_layer": 1, "n_positions": 20},
        "DistilBert": {
            "dim": 16,
            "n_heads": 2,
            "n_layers": 1,
            "hidden_dim": 32,
            "max_position_embeddings": 20,
        },
        "T5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 1},
    }.get(
        family,
        {
            "hidden_size": 16,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "intermediate_size": 32,
            "max_position_embeddings": 20,
        },
    )
    config = getattr(transformers, f"{family}Config")(vocab_size=40, **sizes)
    model = getattr(transformers, f"{family}Model")(config).eval()
    most = positions(model)
    if family == "T5":  # relative positions
        assert most is None
        return
    assert most == (18 if family == "Roberta" else 20)
    ids = torch.from_numpy(np.random.default_rng(0).integers(5, 40, (1, most + 1)))
    model(input_ids=ids[:, :-1])
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=ids)


def test_a_packed_checkpoint_is_refused(task: FineTuning, tmp_path: Path) -> None:
    for path in Path(task.model).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    for method, said in (
        ("retrim", "packed by retrim: name the folder that it was packed from"),
        ("awq", "quantized (awq)"),
    ):
        config["quantization_config"] = {"quant_method": method}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError) as caught:
            replace(task, model=str(tmp_path)).build(0)
        assert str(caught.value) == f"model {str(tmp_path)!r} must be a dense checkpoint, but is {said}"


def test_a_pruned_checkpoint_is_told(task: FineTuning, tmp_path: Path) -> None:
    for path in Path(task.model).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "retrim.json").write_text("{}")
    with pytest.warns(
        UserWarning, match="is pruned already: what is called dense begins from its weights, zeros and all$"
    ):
        replace(task, model=str(tmp_path)).build(0)


def test_a_file_of_weights_that_is_cut_off_is_named(task: FineTuning, tmp_path: Path) -> None:
    for path in Path(task.model).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="must be the folder of a checkpoint, or a name that") as caught:
        replace(task, model=str(tmp_path)).build(0)
    assert "\n" not in str(caught.value)


def test_a_decoder_knows_its_padding(task: FineTuning, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for path in Path(task.model).glob("tokenizer*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = transformers.GPT2Config(
        vocab_size=14, n_embd=16, n_head=2, n_layer=1, n_positions=32, pad_token_id=None
    )
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    model = replace(task, model=str(tmp_path)).build(0)
    assert model.config.pad_token_id == task.tokenizer.pad_token_id
    model(input_ids=torch.tensor([[4, 5, 6], [4, 0, 0]]))
