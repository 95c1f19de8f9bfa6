"""Changing a model for a moment: what was lent is put back, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def lent(parameter: nn.Parameter) -> Iterator[torch.Tensor]:
    """A copy of a parameter, which may be written to meanwhile; its own bits come back in the end."""
    kept = parameter.detach().clone()
    try:
        yield kept
    finally:
        with torch.no_grad():
            parameter.copy_(kept)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode; its modes come back in the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
