"""A dense teacher for transformers' Trainer.

While training, the loss becomes

    (1 - a) L + a D(teacher, student) + h MSE(hidden states),

D being T² KL of the softened logits (arXiv 1503.02531, section 2), or the mean squared
error where the model is a regression; hidden states are compared in all layers,
embeddings first (arXiv 1909.10351, equation 8).  Tokens that the attention mask leaves
out count nowhere.  In evaluation the loss is L alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from transformers.trainer import Trainer

from retrim.errors import ConfigError, ShapeError
from retrim.torch.distil import Distillation

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class DistillationMixin(_Base):
    """Put before any Trainer class, adds a teacher to its loss.

    Parameters
    ----------
    teacher : transformers.PreTrainedModel
        Frozen, in evaluation mode from here on; of the student's task and tokenizer, and for hidden
        states of its depth and width.
    distillation : Distillation, optional
        Shares of the terms.
    *args, **kwargs
        The Trainer's.

    Raises
    ------
    ConfigError
        If the teacher is the student itself, or classes do not exclude each other; in training, if the two give
        nothing to compare.
    ShapeError
        In training, if logits or hidden states differ in shape.

    Notes
    -----
    With gradient accumulation, losses are means over each batch, and averaged.
    """

    loss_is_scaled_for_ga = False

    def __init__(
        self, *args: Any, teacher: nn.Module, distillation: Distillation | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if teacher is self.model:
            raise ConfigError(
                "the teacher must be a model of its own, not the student: load it a second time, or copy.deepcopy it"
            )
        if getattr(getattr(self.model, "config", None), "problem_type", None) == "multi_label_classification":
            raise ConfigError(
                "classes must exclude each other for a teacher's softmax to mean anything, but the model's "
                "problem_type is 'multi_label_classification'"
            )
        self.teacher = teacher.eval().requires_grad_(False).to(self.args.device)
        self.distillation = Distillation() if distillation is None else distillation

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The mixed loss while `model` trains, its own loss else."""
        if not model.training:
            return super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        extra = {"output_hidden_states": True} if self.distillation.hidden else {}
        asked = {name: value for name, value in inputs.items() if name != "labels"} | extra
        loss, ours = super().compute_loss(model, {**inputs, **extra}, return_outputs=True)
        with torch.no_grad(), self.accelerator.autocast():
            theirs = self.teacher(**asked)
        mixed = distilled(
            self.distillation, loss, ours, theirs, inputs.get("attention_mask"), is_regression(self.model)
        )
        return (mixed, ours) if return_outputs else mixed


class DistillationTrainer(DistillationMixin, Trainer):
    """transformers' Trainer with a teacher."""


def distilled(
    distillation: Distillation,
    loss: torch.Tensor,
    student: Mapping[str, Any],
    teacher: Mapping[str, Any],
    mask: torch.Tensor | None = None,
    regression: bool = False,
) -> torch.Tensor:
    """Mix a loss with what the teacher says.

    Parameters
    ----------
    loss : Tensor, scalar
    student, teacher : transformers.utils.ModelOutput
        With ``logits``, or ``start_logits`` and ``end_logits``; with ``hidden_states`` where those count.
    mask : Tensor, shape (batch, tokens), optional
        1 for tokens that count.
    regression : bool
        Compare outputs by their mean squared error.

    Raises
    ------
    ConfigError, ShapeError
    """
    ours, theirs = _logits(student, mask), _logits(teacher, mask)
    hidden = [
        [_counted(state.float(), mask) for state in output.get("hidden_states") or ()]
        if distillation.hidden
        else []
        for output in (student, teacher)
    ]
    if not regression:
        return distillation(loss, ours, theirs, *hidden)
    if ours.shape != theirs.shape:
        raise ShapeError(
            f"outputs of student and teacher must have one shape, not {tuple(ours.shape)} and {tuple(theirs.shape)}"
        )
    share = distillation.logits
    mixed = (1 - share) * loss + share * functional.mse_loss(ours, theirs.detach())
    return Distillation(logits=0, hidden=distillation.hidden)(mixed, ours, theirs, *hidden)


def is_regression(model: Any) -> bool:
    """Whether a model's outputs are numbers, not scores of classes."""
    config = model.config
    return "ForSequenceClassification" in type(model).__name__ and (
        config.problem_type == "regression" or (config.problem_type is None and config.num_labels == 1)
    )


def _logits(output: Mapping[str, Any], mask: torch.Tensor | None) -> torch.Tensor:
    """Shape (..., classes), in float32; start and end of an answer are two rows over the tokens."""
    if output.get("logits") is not None:
        return _counted(output["logits"].float(), mask)
    if output.get("start_logits") is not None:
        found = torch.stack([output["start_logits"].float(), output["end_logits"].float()], dim=1)
        if mask is None:
            return found
        return found.masked_fill(~mask.bool()[:, None], torch.finfo(found.dtype).min)
    raise ConfigError(f"student and teacher must give logits to compare, not {', '.join(output)}")


def _counted(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Values of the tokens that count, shape (tokens, ...), where there is one for each token."""
    if mask is None or values.dim() < 3:
        return values
    mask = mask.flatten(0, -2).bool()  # choices of one question are rows of their own
    return values[mask] if values.shape[:2] == mask.shape else values
