"""A dense teacher in transformers' Trainer, against the equation written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip(
    "transformers", reason="the Hugging Face extra is not installed: pip install 'retrim[hf]'"
)

from retrim.errors import ConfigError, ShapeError
from retrim.prune import Magnitude
from retrim.structures import BlockColumns
from retrim.torch import Distillation
from retrim.torch.huggingface import DistillationMixin, DistillationTrainer, PruneCallback, plan_for
from retrim.torch.huggingface.distil import distilled

SHARES = Distillation(logits=0.3, temperature=2.5, hidden=0.2)


def teaching(make_trainer: Any, student: Any, teacher: Any, shares: Any = SHARES, **fields: Any) -> Any:
    more = {"teacher": teacher, "distillation": shares}
    return make_trainer(student, *fields.pop("callbacks", ()), kind=DistillationTrainer, more=more, **fields)


def batch_of(sentences: Any, rows: slice = slice(0, 8)) -> dict[str, torch.Tensor]:
    return {key: torch.stack([row[key] for row in sentences[rows]]) for key in sentences[0]}


def softened(ours: torch.Tensor, theirs: torch.Tensor, temperature: float) -> float:
    """T² KL(teacher || student), mean over rows, from the definition."""
    p, q = ((logits.double() / temperature).softmax(-1) for logits in (theirs, ours))
    return float(temperature**2 * (p * (p / q).log()).sum(-1).mean())


def apart(ours: Any, theirs: Any, mask: torch.Tensor) -> float:
    """Mean over layers of the mean squared error over tokens that count and their features, from the definition."""
    layers = []
    for a, b in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        squares = ((a - b).double() ** 2).mean(-1) * mask
        layers.append(float(squares.sum() / mask.sum()))
    return sum(layers) / len(layers)


def test_the_loss_of_a_classifier(family: str, make_model: Any, make_trainer: Any, sentences: Any) -> None:
    student, teacher = make_model(family), make_model(family, seed=1)
    trainer = teaching(make_trainer, student, teacher)
    batch = batch_of(sentences)
    student.train()
    got = float(trainer.compute_loss(student, dict(batch)).detach())
    with torch.no_grad():
        ours, theirs = (model(**batch, output_hidden_states=True) for model in (student, teacher))
    assert len(ours.hidden_states) == 3
    wanted = 0.7 * float(ours.loss) + 0.3 * softened(ours.logits, theirs.logits, 2.5)
    wanted += 0.2 * apart(ours, theirs, batch["attention_mask"])
    assert got == pytest.approx(wanted, rel=1e-5)


def test_the_loss_of_a_model_of_language(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    student, teacher = (make_model("gpt2", seed=seed, task="lm") for seed in (0, 1))
    batch = batch_of(sentences)
    batch["labels"] = batch["input_ids"].clone()
    got = float(teaching(make_trainer, student, teacher).compute_loss(student.train(), dict(batch)).detach())
    with torch.no_grad():
        ours, theirs = (model(**batch, output_hidden_states=True) for model in (student, teacher))
    kept = batch["attention_mask"].bool()
    wanted = 0.7 * float(ours.loss) + 0.3 * softened(ours.logits[kept], theirs.logits[kept], 2.5)
    wanted += 0.2 * apart(ours, theirs, batch["attention_mask"])
    assert got == pytest.approx(wanted, rel=1e-5)


def test_the_loss_of_a_regression(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    student, teacher = (make_model(seed=seed, num_labels=1) for seed in (0, 1))
    batch = batch_of(sentences)
    batch["labels"] = batch["labels"].float()
    got = float(teaching(make_trainer, student, teacher).compute_loss(student.train(), dict(batch)).detach())
    with torch.no_grad():
        ours, theirs = (model(**batch, output_hidden_states=True) for model in (student, teacher))
    wanted = 0.7 * float(ours.loss) + 0.3 * float(((ours.logits - theirs.logits) ** 2).mean())
    wanted += 0.2 * apart(ours, theirs, batch["attention_mask"])
    assert got == pytest.approx(wanted, rel=1e-5)


def test_start_and_end_of_an_answer() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (
        {name: torch.randn(4, 9, generator=draw) for name in ("start_logits", "end_logits")} for _ in range(2)
    )
    got = distilled(Distillation(logits=1, temperature=3), torch.tensor(1.0), ours, theirs)
    both = [softened(ours[name], theirs[name], 3) for name in ours]
    assert float(got) == pytest.approx(sum(both) / 2, rel=1e-5)


def test_choices_of_a_question_are_masked_one_by_one() -> None:
    hidden = [torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    mask = torch.ones(2, 3, 5)
    mask[1, 2, 2:] = 0
    ours, theirs = ({"logits": torch.zeros(2, 3), "hidden_states": (states,)} for states in hidden)
    got = distilled(Distillation(logits=0, hidden=1), torch.tensor(0.0), ours, theirs, mask)
    squares = ((hidden[0] - hidden[1]) ** 2).mean(-1) * mask.view(6, 5)
    assert float(got) == pytest.approx(float(squares.sum() / 27), rel=1e-5)


def test_in_evaluation_the_loss_is_the_models_own(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    student, teacher = make_model(), make_model(seed=1)
    trainer = teaching(make_trainer, student, teacher)
    with torch.no_grad():
        own = float(student.eval()(**batch_of(sentences, slice(None))).loss)
    assert trainer.evaluate(sentences)["eval_loss"] == pytest.approx(own, rel=1e-4)
    assert trainer.predict(sentences).predictions.shape == (32, 3)


def test_a_teacher_stays_as_it_is_and_leads_the_student(
    make_model: Any, make_trainer: Any, sentences: Any
) -> None:
    student, teacher = make_model(), make_model(seed=1)
    teacher.train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    pruner = Magnitude()
    pruning = PruneCallback(plan_for(student, BlockColumns(rows=16), 0.5), pruner, harden_at=0.25)
    shares = Distillation(logits=1.0, hidden=1.0)
    trainer = teaching(
        make_trainer,
        student,
        teacher,
        shares,
        callbacks=[pruning],
        max_steps=24,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=4,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.6 * losses[0]
    assert not teacher.training
    assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(int((t.parameter != 0).sum()) == t.parameter.numel() // 2 for t in pruner.targets)


@pytest.mark.parametrize("task", ["classes", "lm"])
def test_accumulated_batches_give_the_gradient_of_one(
    task: str, make_model: Any, make_trainer: Any, sentences: Any
) -> None:
    """Without padding, when means over halves are halves of the mean."""
    data = [row | {"attention_mask": torch.ones_like(row["attention_mask"])} for row in sentences]
    if task == "lm":
        data = [row | {"labels": row["input_ids"]} for row in data]
    family = "gpt2" if task == "lm" else "bert"
    found = []
    for batch, steps in ((8, 1), (4, 2)):
        student, teacher = make_model(family, task=task), make_model(family, seed=1, task=task)
        teaching(
            make_trainer,
            student,
            teacher,
            data=data,
            max_steps=2,
            optim="sgd",
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
            train_sampling_strategy="sequential",
        ).train()
        found.append(student.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-6)


def test_a_mixin_for_trainers_of_ones_own(make_model: Any, make_trainer: Any, sentences: Any) -> None:
    from transformers import Trainer

    class Own(Trainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
            found = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            return (2 * found[0], found[1]) if return_outputs else 2 * found[0]

    class Taught(DistillationMixin, Own):
        pass

    student = make_model()
    trainer = make_trainer(student, kind=Taught, more={"teacher": make_model(seed=1)}, max_steps=2)
    assert trainer.distillation == Distillation()
    trainer.train()
    told = trainer.evaluate(sentences)["eval_loss"]
    batch = batch_of(sentences, slice(0, len(sentences)))
    with torch.no_grad():
        assert told == pytest.approx(2 * float(student.eval()(**batch).loss), rel=1e-4)


def test_classes_that_do_not_exclude_each_other(make_model: Any, make_trainer: Any) -> None:
    student = make_model(problem_type="multi_label_classification")
    with pytest.raises(ConfigError) as caught:
        teaching(make_trainer, student, make_model(seed=1))
    assert str(caught.value) == (
        "classes must exclude each other for a teacher's softmax to mean anything, but the model's problem_type is "
        "'multi_label_classification'"
    )


def test_padding_is_no_answer() -> None:
    """Start and end of an answer among tokens that count, as if the others were not there."""
    torch.manual_seed(0)
    ours, theirs = ({"start_logits": torch.randn(1, 6), "end_logits": torch.randn(1, 6)} for _ in range(2))
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    shares = Distillation(logits=0.5, hidden=0.0)
    cut = [{name: value[:, :4] for name, value in output.items()} for output in (ours, theirs)]
    wanted = distilled(shares, torch.tensor(1.0), *cut)
    got = distilled(shares, torch.tensor(1.0), ours, theirs, mask)
    torch.testing.assert_close(got, wanted)
    assert not torch.isclose(distilled(shares, torch.tensor(1.0), ours, theirs), wanted)


def test_a_student_cannot_teach_itself(make_model: Any, make_trainer: Any) -> None:
    model = make_model()
    with pytest.raises(ConfigError) as caught:
        teaching(make_trainer, model, model)
    assert str(caught.value) == (
        "the teacher must be a model of its own, not the student: load it a second time, or copy.deepcopy it"
    )


@pytest.mark.parametrize(
    ("kind", "fields", "sentence"),
    [
        (
            ShapeError,
            {"num_labels": 4},
            "logits of student and teacher must have one shape, not (8, 3) and (8, 4)",
        ),
        (
            ConfigError,
            {"num_hidden_layers": 1},
            "hidden must be 0 unless student and teacher give equally many hidden states, not 3 and 2",
        ),
    ],
)
def test_teachers_that_do_not_fit(
    kind: type[Exception], fields: Any, sentence: str, make_model: Any, make_trainer: Any, sentences: Any
) -> None:
    student, teacher = make_model(), make_model(seed=1, **fields)
    trainer = teaching(make_trainer, student, teacher)
    with pytest.raises(kind) as caught:
        trainer.compute_loss(student.train(), batch_of(sentences))
    assert str(caught.value) == sentence


def test_outputs_that_cannot_be_compared() -> None:
    one = {"logits": torch.zeros(2, 1)}
    with pytest.raises(ShapeError) as caught:
        distilled(Distillation(), torch.tensor(1.0), one, {"logits": torch.zeros(3, 1)}, regression=True)
    assert str(caught.value) == "outputs of student and teacher must have one shape, not (2, 1) and (3, 1)"
    with pytest.raises(ConfigError) as refused:
        distilled(Distillation(), torch.tensor(1.0), one, {"last_hidden_state": torch.zeros(2, 1)})
    assert str(refused.value) == "student and teacher must give logits to compare, not last_hidden_state"
