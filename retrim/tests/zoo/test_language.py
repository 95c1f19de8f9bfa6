"""Language modelling as a task: windows, losses, teachers, scores; and joint training by the common loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from retrim.errors import CheckpointError, ConfigError, CorpusError
from retrim.levels import JointTraining
from retrim.torch import Distillation
from retrim.zoo.fit import Stage, fit
from retrim.zoo.language import LanguageTask
from retrim.zoo.task import FewSteps

LINES = "".join(
    f"the {a} {b} sees the {b} {a} .\n" for a in ("red", "green", "blue") for b in ("cat", "dog", "cow")
)


@pytest.fixture
def task(tmp_path: Path) -> LanguageTask:
    (tmp_path / "train.txt").write_text(LINES * 60)
    (tmp_path / "test.txt").write_text(LINES * 8)
    return LanguageTask(
        text=tmp_path / "train.txt",
        held_out=tmp_path / "test.txt",
        vocabulary=300,
        width=32,
        layers=1,
        heads=2,
        context=16,
        batch=8,
        windows=160,
    )


def test_hidden_states_are_not_distilled(task: LanguageTask) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(task, distillation=Distillation(hidden=1.0))
    assert str(caught.value) == (
        "hidden must be 0 for language, which is distilled by its logits alone, not 1"
    )


def test_windows_depend_on_seed_and_epoch_alone(task: LanguageTask) -> None:
    assert task.steps == 20
    whole = list(task.batches(1, 2))
    assert [tuple(batch.shape) for batch in whole] == [(8, 17)] * 20
    assert all(torch.equal(a, b) for a, b in zip(whole[5:], task.batches(1, 2, start=5), strict=True))
    assert not torch.equal(whole[0], next(task.batches(1, 3)))
    assert not torch.equal(whole[0], next(task.batches(2, 2)))
    assert sum(len(batch) for batch in task.probe()) == 64
    assert torch.equal(task.probe()[0], replace(task).probe()[0])
    every = replace(task, windows=0)
    assert every.steps == len(every._ids.train) // 16 // 8


def test_it_learns_and_is_scored_on_the_held_out_file(task: LanguageTask) -> None:
    model = task.build(0)
    before = task.score(model)
    fit(task, model, Stage(epochs=4, rate=5e-3, optimizer="adam", decay=0.0), seed=0)
    after = task.score(model)
    assert before["accuracy"] < 10
    assert after["accuracy"] > 50
    assert after["perplexity"] < before["perplexity"]


def test_what_a_teacher_adds(task: LanguageTask) -> None:
    teacher, student = task.build(1), task.build(2)
    taught = replace(task, distillation=Distillation(logits=0.7, temperature=2.0)).taught(teacher)
    batch = next(task.batches(0, 0))
    given, wanted = batch[:, :-1], batch[:, 1:].flatten()
    ours, theirs = student(given).flatten(0, 1), teacher(given).flatten(0, 1)
    own = functional.cross_entropy(ours, wanted)
    soft = [functional.log_softmax(logits / 2, dim=-1) for logits in (theirs, ours)]
    apart = 4 * (soft[0].exp() * (soft[0] - soft[1])).sum(-1).mean()
    student.train()
    found = taught.loss(student, batch)
    assert found.item() == pytest.approx((0.3 * own + 0.7 * apart).item(), rel=1e-5)
    found.backward()
    # No gradient reaches the teacher, and students can start from it.
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())
    student.eval()
    assert taught.loss(student, batch).item() == pytest.approx(own.item(), rel=1e-6)
    assert task.taught(teacher) is task


def test_joint_training_resumes_bit_for_bit(task: LanguageTask, tmp_path: Path) -> None:
    stage = Stage(epochs=2, rate=5e-3, optimizer="adam", decay=0.0)
    names = [
        name for name, p in task.build(0).named_parameters() if name.startswith("blocks") and p.ndim == 2
    ]

    def train(
        checkpoint: Path | None, *stops: int | None, identity: str = "masks 0"
    ) -> dict[str, torch.Tensor]:
        model = task.build(0)
        for stop in stops:
            model = task.build(0)
            draw = torch.Generator().manual_seed(0)
            levels = [
                {n: torch.rand(model.get_parameter(n).shape, generator=draw) < share for n in names}
                for share in (0.8, 0.4)
            ]
            joint = JointTraining(model, levels)
            options = {"checkpoint": checkpoint, "stop_after": stop, "identity": identity}
            fit(task, model, stage, seed=0, backward=joint.backward, **options)
        return model.state_dict()

    whole = train(None, None)
    resumed = train(tmp_path / "joint.pt", 1, None)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    plain = task.build(0)
    fit(task, plain, stage, seed=0)
    assert not torch.equal(plain.state_dict()[names[0]], whole[names[0]])
    with pytest.raises(CheckpointError, match="must belong to this very run"):
        train(tmp_path / "joint.pt", None, identity="masks 1")


def test_epochs_of_few_steps(task: LanguageTask) -> None:
    few = FewSteps(task, 7)
    assert (few.steps, few.metric) == (7, "accuracy")
    whole = list(task.batches(0, 1))
    assert all(torch.equal(a, b) for a, b in zip(few.batches(0, 1), whole[:7], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(few.batches(0, 1, start=5), whole[5:7], strict=True))
    assert FewSteps(task, 100).steps == task.steps
    model = few.build(0)
    curve = fit(few, model, Stage(epochs=2, rate=1e-3), seed=0)
    assert len(curve.loss) == 2
    assert few.score(model) == task.score(model)
    teaching = replace(task, distillation=Distillation(logits=0.5))
    taught = FewSteps(teaching, 7).taught(model)
    assert isinstance(taught, FewSteps)
    assert taught.task.teacher is model  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="an epoch must have at least one step, not 0"):
        FewSteps(task, 0)


def test_the_library_is_more_text(task: LanguageTask, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("one two three\n" * 400)
    own = replace(task, text=tmp_path / "more.txt", held_out=None)
    assert len(own._corpus().held_out) == 1
    both = replace(own, library=True)._corpus()
    assert len(both.train) > 100
    assert both.held_out == own._corpus().held_out
    assert both.digest != own._corpus().digest


def test_what_makes_no_sense(task: LanguageTask, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch must be a whole number >= 1, not 0"):
        replace(task, batch=0)
    with pytest.raises(ConfigError, match="heads must divide the width 32, not 3"):
        replace(task, heads=3)
    with pytest.raises(CorpusError, match=r"must have more than 4096 tokens to train on"):
        _ = replace(task, context=4096).score(task.build(0))
    with pytest.raises(CorpusError, match="must be a file or folder that exists"):
        _ = replace(task, text=tmp_path / "none", windows=0).steps
