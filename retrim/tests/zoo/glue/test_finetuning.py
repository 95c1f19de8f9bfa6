"""Fine-tuning of a checkpoint: batches, losses, teachers and scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from retrim.errors import ConfigError
from retrim.torch import Distillation
from retrim.zoo.fit import Stage, fit
from retrim.zoo.glue.finetuning import FineTuning

GOOD, BAD = ["fine", "warm", "bright"], ["dull", "cold", "grim"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sentences that one word decides; pairs whose first word decides the score."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 160), ("dev", 40)):
        for folder, header in (("SST-2", "sentence\tlabel"), ("STS-B", "sentence1\tsentence2\tscore")):
            path = tmp_path / folder / f"{split}.tsv"
            path.parent.mkdir(exist_ok=True)
            lines = [header]
            for _ in range(count):
                good, other = draw.integers(0, 2, 2)
                first, second = (str(draw.choice(GOOD if kind else BAD)) for kind in (good, other))
                if folder == "SST-2":
                    lines.append(f"it was a {first} day\t{good}")
                else:
                    lines.append(f"a {first} day\tit was {second}\t{4.5 if good else 0.5}")
            path.write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


@pytest.fixture
def task(checkpoint: Path, data: Path) -> FineTuning:
    return FineTuning(task="sst2", model=str(checkpoint), data=data, batch=16, max_length=16)


@pytest.mark.parametrize(("key", "least"), [("sst2", 90.0), ("stsb", 85.0)])
def test_a_checkpoint_learns_the_task(task: FineTuning, key: str, least: float) -> None:
    task = replace(task, task=key)
    model = task.build(0)
    fit(task, model, Stage(epochs=12, rate=2e-3, optimizer="adam", decay=0.0), seed=0)
    scores = task.score(model)
    assert scores["score"] > least
    assert set(scores) == ({"score", "accuracy"} if key == "sst2" else {"score", "pearson", "spearman"})
    assert model.training


def test_scores_do_not_depend_on_how_examples_are_batched(task: FineTuning) -> None:
    model = task.build(0).eval()
    tokens = task.held_out["dev"]
    one_by_one = np.concatenate(
        [model(**tokens.batch([number]).inputs()).logits.detach().numpy() for number in range(len(tokens))]
    )
    np.testing.assert_allclose(task.outputs(model, tokens), one_by_one, atol=1e-5)


def test_the_head_depends_on_the_seed_alone(task: FineTuning) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = task.build(1), task.build(1), task.build(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert torch.equal(
        first.bert.encoder.layer[0].output.dense.weight, other.bert.encoder.layer[0].output.dense.weight
    )


def test_batches_can_start_anywhere_and_subsets_are_fixed(task: FineTuning) -> None:
    whole = list(task.batches(3, 1))
    assert len(whole) == task.steps == 10
    assert all(
        torch.equal(a.input_ids, b.input_ids)
        for a, b in zip(whole[4:], task.batches(3, 1, start=4), strict=True)
    )
    few = replace(task, examples=32)
    assert few.steps == 2
    assert torch.equal(few.probe()[0].input_ids, replace(task, examples=32).probe()[0].input_ids)


@pytest.mark.parametrize("key", ["sst2", "stsb"])
def test_what_a_teacher_adds(task: FineTuning, key: str) -> None:
    """Against the sum, written out; hidden states count where there are tokens only."""
    plain = replace(task, task=key)
    teacher, student = plain.build(1), plain.build(2).eval()
    taught = replace(plain, distillation=Distillation(logits=0.7, temperature=2.0, hidden=0.5)).taught(
        teacher
    )
    batch = next(plain.batches(0, 0))
    student.train()
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    ours = student(**batch.inputs(), output_hidden_states=True)
    theirs = teacher(**batch.inputs(), output_hidden_states=True)
    own = plain.loss(student, batch)
    if key == "sst2":
        soft = [functional.log_softmax(out.logits / 2, dim=-1) for out in (theirs, ours)]
        apart = 4 * (soft[0].exp() * (soft[0] - soft[1])).sum(-1).mean()
    else:
        apart = (ours.logits - theirs.logits).square().mean()
    kept = batch.attention_mask.bool()
    layers = zip(ours.hidden_states, theirs.hidden_states, strict=True)
    hidden = torch.stack([(a[kept] - b[kept]).square().mean() for a, b in layers])
    wanted = 0.3 * own + 0.7 * apart + 0.5 * hidden.mean()
    found = taught.loss(student, batch)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
    found.backward()
    # No gradient reaches the teacher, and students can start from it.
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())
    # What it said is kept for this very batch alone: levels meet one batch in turn.
    other = next(plain.batches(1, 0))
    for given in (batch, batch, other, batch):
        fresh = replace(plain, distillation=taught.distillation).taught(teacher)
        assert taught.loss(student, given).item() == fresh.loss(student, given).item()
    assert replace(taught, teacher=student.eval())._last is not taught._last
    assert taught.loss(student, batch).item() == pytest.approx(plain.loss(student, batch).item())


def test_scores_of_a_few_examples_spread_evenly(task: FineTuning) -> None:
    model = task.build(0)
    few = replace(task, scored=5)
    chosen = [0, 9, 19, 29, 39]  # of 40
    np.testing.assert_allclose(
        few.outputs(model, few.held_out["dev"]), task.outputs(model, task.held_out["dev"])[chosen], atol=1e-6
    )
    assert len(replace(task, scored=400).held_out["dev"]) == 40


@pytest.mark.parametrize("key", ["sst2", "stsb"])
def test_a_student_learns_from_unlabelled_text_too(task: FineTuning, key: str) -> None:
    plain = replace(task, task=key)
    mixing = replace(
        plain, distillation=Distillation(logits=0.5, hidden=0.0), unlabelled=0.5, texts=("stsb", "sst2")
    )
    teacher, student = plain.build(1), plain.build(2)
    # without a teacher, labelled examples alone
    assert all(
        torch.equal(a.input_ids, b.input_ids)
        for a, b in zip(mixing.batches(0, 0), plain.batches(0, 0), strict=True)
    )
    taught = mixing.taught(teacher)
    whole = list(taught.batches(0, 1))
    assert len(whole) == taught.steps == plain.steps
    labels = torch.cat([batch.labels for batch in whole])
    known = ~labels.isnan() if key == "stsb" else labels >= 0
    assert known.sum() == 80
    assert len(labels) == 160
    again = list(taught.batches(0, 1, start=3))
    assert all(torch.equal(a.input_ids, b.input_ids) for a, b in zip(whole[3:], again, strict=True))
    others = torch.cat([batch.labels for batch in taught.batches(0, 2)])
    assert not torch.equal(others.nan_to_num(), labels.nan_to_num())

    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    batch = whole[0]
    there = ~batch.labels.isnan() if key == "stsb" else batch.labels >= 0
    assert 0 < there.sum() < len(there)
    student.train()
    out, soft = student(**batch.inputs()).logits, teacher(**batch.inputs()).logits
    if key == "stsb":
        own = (out[there, 0] - batch.labels[there]).square().mean()
        wanted = 0.5 * own + 0.5 * (out - soft).square().mean()
        assert taught.loss(student, batch).item() == pytest.approx(wanted.item(), rel=1e-4)
    else:
        own = functional.cross_entropy(out[there], batch.labels[there])
        heat = taught.distillation.temperature
        p, q = ((logits / heat).log_softmax(dim=-1) for logits in (soft, out))
        apart = heat**2 * (p.exp() * (p - q)).sum(dim=-1).mean()
        wanted = 0.5 * own + 0.5 * apart
        assert taught.loss(student, batch).item() == pytest.approx(wanted.item(), rel=1e-4)
    nothing = replace(batch, labels=torch.full_like(batch.labels, torch.nan if key == "stsb" else -1))
    assert plain.loss(student, nothing).item() == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch": 0}, "batch must be a whole number >= 1, not 0"),
        ({"max_length": 4}, "max_length must be a whole number >= 8, not 4"),
        ({"scored": -1}, "scored must be a whole number >= 0, not -1"),
        ({"examples": -1}, "examples must be a whole number >= 0, not -1"),
        ({"unlabelled": 1.0}, "unlabelled must be a share of examples, 0 <= share < 1, not 1.0"),
        ({"unlabelled": 0.5}, "unlabelled text needs a teacher: give distil, or leave unlabelled out"),
        ({"texts": ("rte",)}, "texts are unlabelled text to learn from: give its share, unlabelled, too"),
    ],
)
def test_options_are_checked(task: FineTuning, options: dict, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(task, **options)
    assert str(caught.value) == sentence


def test_what_is_no_checkpoint_is_named(task: FineTuning, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="must be the folder of a checkpoint, or a name") as caught:
        replace(task, model=str(tmp_path / "empty")).build(0)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="examples must be at most the 160 of the training set, not 161"):
        _ = replace(task, examples=161).steps


def test_the_head_of_another_task_begins_anew(task: FineTuning, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    three = AutoModelForSequenceClassification.from_pretrained(task.model, num_labels=3)
    three.save_pretrained(tmp_path / "three")
    for path in Path(task.model).glob("tokenizer*"):
        (tmp_path / "three" / path.name).write_bytes(path.read_bytes())
    found = replace(task, model=str(tmp_path / "three")).build(0)
    assert found.classifier.weight.shape[0] == 2
    kept = found.base_model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in three.base_model.state_dict().items())


def test_a_checkpoint_that_lacks_the_model_is_refused(task: FineTuning, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    there = tmp_path / "renamed"
    there.mkdir()
    for path in Path(task.model).iterdir():
        (there / path.name).write_bytes(path.read_bytes())
    weights = load_file(there / "model.safetensors")
    save_file({f"compiled.{n}": v for n, v in weights.items()}, there / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ConfigError, match=r"100% of its weights are not there, '.*' among them: save it anew"
    ):
        replace(task, model=str(there)).build(0)
