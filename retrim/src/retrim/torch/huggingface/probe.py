"""The probe of a Hugging Face model, for pruners that compare losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.prune import Probe


def loss_probe(model: nn.Module, batches: Sequence[Mapping[str, torch.Tensor]]) -> Probe:
    """Mean loss of `model` over fixed batches, in evaluation mode and without gradients.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The one that the Trainer is given, not a wrapped one.
    batches : sequence of dict of str to Tensor
        As the model takes them, labels included; the same on every rank.

    Raises
    ------
    ConfigError
        If there are no batches; when called, if the model gives no loss for one.
    """
    kept = [dict(batch) for batch in batches]
    if not kept:
        raise ConfigError("a probe must have one or more batches, not none")

    @torch.no_grad()
    def probe() -> float:
        training = model.training
        model.eval()
        losses = [_loss(model, batch) for batch in kept]
        model.train(training)
        return sum(losses) / len(losses)

    return probe


def _loss(model: nn.Module, batch: dict[str, Any]) -> float:
    device = next(model.parameters()).device
    loss = getattr(model(**{name: value.to(device) for name, value in batch.items()}), "loss", None)
    if loss is None:
        raise ConfigError(
            f"a batch of a probe must have labels, so that the model gives a loss, but has {', '.join(batch)}"
        )
    return float(loss)
