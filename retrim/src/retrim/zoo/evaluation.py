"""Perplexity and next-token accuracy on held-out text."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from retrim.errors import CorpusError


@dataclass(frozen=True)
class Score:
    """How well a language model predicts held-out tokens.

    Attributes
    ----------
    loss : float
        Mean cross entropy, nats.
    perplexity : float
    accuracy : float
        Share of tokens that the model ranked first, 0 to 1.
    tokens : int
    """

    loss: float
    perplexity: float
    accuracy: float
    tokens: int


@torch.no_grad()
def evaluate(
    model: nn.Module, ids: np.ndarray, context: int, *, batch: int = 16, most: int | None = None
) -> Score:
    """Score `model` on consecutive windows of `context` tokens.

    Parameters
    ----------
    ids : ndarray of int, shape (n,)
    context : int
        Length of a window; every window is scored at all its positions.
    most : int, optional
        Upper limit of tokens to score; windows are then spread evenly.

    Raises
    ------
    CorpusError
        If there is nothing to score.
    """
    if len(ids) < 2:
        raise CorpusError(f"held-out text must have at least 2 tokens, not {len(ids)}")
    windows = max(1, (len(ids) - 1) // context)
    starts = np.arange(windows) * context
    if most is not None and windows * context > most:
        chosen = np.linspace(0, windows - 1, max(1, most // context)).round().astype(int)
        starts = starts[np.unique(chosen)]
    was_training = model.training
    model.eval()
    loss, right, count = 0.0, 0, 0
    for first in range(0, len(starts), batch):
        rows = [ids[start : start + context + 1] for start in starts[first : first + batch]]
        window = torch.from_numpy(np.stack(rows).astype(np.int64))
        logits = model(window[:, :-1]).flatten(0, 1)
        wanted = window[:, 1:].flatten()
        loss += float(functional.cross_entropy(logits, wanted, reduction="sum"))
        right += int((logits.argmax(-1) == wanted).sum())
        count += len(wanted)
    model.train(was_training)
    mean = loss / count
    return Score(mean, math.exp(min(mean, 700.0)), right / count, count)
