"""Distillation against its equation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from retrim.errors import ConfigError, RetrimError, ShapeError
from retrim.torch import Distillation


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """Mean over positions of sum_i p_i log(p_i / q_i), from the definition."""
    p, q = ((logits.flatten(0, -2) / temperature).softmax(-1) for logits in (teacher, student))
    return float((p * (p / q).log()).sum(-1).mean())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_the_equation(share: float, temperature: float) -> None:
    student, teacher = draw(2, 5, 7), draw(2, 5, 7, seed=1)
    hidden = [(draw(2, 5, 3, seed=k), draw(2, 5, 3, seed=k + 10)) for k in (2, 3)]
    loss = torch.tensor(1.5, dtype=torch.float64)
    ours, theirs = zip(*hidden, strict=True)
    mixed = Distillation(logits=share, temperature=temperature, hidden=0.2)(
        loss, student, teacher, ours, theirs
    )
    distance = sum(float(((a - b) ** 2).mean()) for a, b in hidden) / 2
    expected = (1 - share) * 1.5 + share * temperature**2 * divergence(student, teacher, temperature)
    assert float(mixed) == pytest.approx(expected + 0.2 * distance, rel=1e-12)


def test_a_share_of_nothing_is_the_training_loss() -> None:
    loss = torch.tensor(1.5)
    assert Distillation(logits=0)(loss, torch.zeros(1, 2), torch.full((1, 2), math.nan)) == 1.5


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    logits = draw(4, 7).requires_grad_()
    mixed = Distillation(logits=1, hidden=1)(torch.tensor(9.0), logits, logits, [logits], [logits])
    mixed.backward()
    assert float(mixed.detach()) == pytest.approx(0, abs=1e-12)
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-12


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = draw(4, 7).requires_grad_(), draw(4, 7, seed=1).requires_grad_()
    mixed = Distillation(hidden=1.0)(student.sum(), student, teacher, [student], [teacher])
    mixed.backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"logits": 1.5}, "logits must lie between 0 and 1, not 1.5"),
        ({"logits": -0.1}, "logits must lie between 0 and 1, not -0.1"),
        ({"logits": math.nan}, "logits must lie between 0 and 1, not nan"),
        ({"temperature": 0.0}, "temperature must be a number > 0, not 0.0"),
        ({"temperature": math.inf}, "temperature must be a number > 0, not inf"),
        ({"hidden": -1.0}, "hidden must be a number >= 0, not -1.0"),
        ({"hidden": math.inf}, "hidden must be a number >= 0, not inf"),
    ],
)
def test_weights_out_of_range(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Distillation(**fields)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("kind", "sentence", "teacher", "ours", "theirs"),
    [
        (
            ConfigError,
            "hidden must be 0 unless student and teacher give equally many hidden states, not 0 and 0",
            (2, 7),
            [],
            [],
        ),
        (
            ConfigError,
            "hidden must be 0 unless student and teacher give equally many hidden states, not 1 and 2",
            (2, 7),
            [(2, 3)],
            [(2, 3), (2, 3)],
        ),
        (
            ShapeError,
            "hidden states of student and teacher must have one shape, not (2, 3) and (2, 4)",
            (2, 7),
            [(2, 3)],
            [(2, 4)],
        ),
        (
            ShapeError,
            "logits of student and teacher must have one shape, not (2, 7) and (2, 8)",
            (2, 8),
            [(2, 3)],
            [(2, 3)],
        ),
    ],
)
def test_what_cannot_be_compared(
    kind: type[RetrimError], sentence: str, teacher: Any, ours: Any, theirs: Any
) -> None:
    with pytest.raises(RetrimError) as caught:
        Distillation(hidden=1.0)(
            torch.tensor(1.0),
            draw(2, 7),
            draw(*teacher),
            [draw(*s) for s in ours],
            [draw(*s) for s in theirs],
        )
    assert str(caught.value) == sentence
    assert type(caught.value) is kind
