"""Distillation: a pruned student learns from its dense teacher.

The loss becomes ``(1 - a) L + a T**2 KL(teacher || student) + h MSE(hidden)``,
with logits softened by the temperature T (Hinton, Vinyals and Dean,
arXiv 1503.02531, section 2) and hidden states compared layer by layer
(Jiao et al., arXiv 1909.10351, equation 8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from retrim.errors import ConfigError, ShapeError


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Weights of the distillation terms.

    Parameters
    ----------
    logits : float, default 0.5
        Share a of the teacher's logits, 0 <= a <= 1.
    temperature : float, default 2
    hidden : float, default 0
        Weight h of the hidden states.
    """

    logits: float = 0.5
    temperature: float = 2.0
    hidden: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.logits <= 1:
            raise ConfigError(f"logits must lie between 0 and 1, not {self.logits}")
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"temperature must be a number > 0, not {self.temperature}")
        if not 0 <= self.hidden < math.inf:
            raise ConfigError(f"hidden must be a number >= 0, not {self.hidden}")

    def __call__(
        self,
        loss: torch.Tensor,
        student: torch.Tensor,
        teacher: torch.Tensor,
        student_hidden: Sequence[torch.Tensor] = (),
        teacher_hidden: Sequence[torch.Tensor] = (),
    ) -> torch.Tensor:
        """Mix the training loss with the teacher's word.

        Parameters
        ----------
        loss : Tensor, scalar
        student, teacher : Tensor, shape (..., classes)
            Logits.
        student_hidden, teacher_hidden : sequences of Tensor
            Hidden states to compare, pair by pair.

        Raises
        ------
        ConfigError, ShapeError
            If what is to be compared is not there or differs in shape.
        """
        mixed = (1 - self.logits) * loss
        if self.logits:
            _check_alike("logits", student, teacher)
            classes = student.shape[-1]
            soft = functional.log_softmax(student.reshape(-1, classes) / self.temperature, dim=-1)
            goal = functional.log_softmax(teacher.detach().reshape(-1, classes) / self.temperature, dim=-1)
            divergence = functional.kl_div(soft, goal, reduction="batchmean", log_target=True)
            mixed = mixed + self.logits * self.temperature**2 * divergence
        if self.hidden:
            if not student_hidden or len(student_hidden) != len(teacher_hidden):
                raise ConfigError(
                    "hidden must be 0 unless student and teacher give equally many hidden states, "
                    f"not {len(student_hidden)} and {len(teacher_hidden)}"
                )
            distances = []
            for ours, theirs in zip(student_hidden, teacher_hidden, strict=True):
                _check_alike("hidden states", ours, theirs)
                distances.append(functional.mse_loss(ours, theirs.detach()))
            mixed = mixed + self.hidden * torch.stack(distances).mean()
        return mixed


def _check_alike(what: str, student: torch.Tensor, teacher: torch.Tensor) -> None:
    if student.shape != teacher.shape:
        raise ShapeError(
            f"{what} of student and teacher must have one shape, not {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}"
        )
