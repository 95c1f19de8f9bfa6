"""Scores against models whose every answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from retrim.errors import CorpusError
from retrim.zoo.evaluation import evaluate

CLASSES = 10


class Successor(nn.Module):
    """Predicts the next number, with a given confidence."""

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin
        self.seen: list[torch.Tensor] = []

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        self.seen.append(ids)
        return self.margin * nn.functional.one_hot((ids + 1) % CLASSES, CLASSES).float()


def test_loss_perplexity_and_accuracy() -> None:
    ids = np.arange(101, dtype=np.uint16) % CLASSES
    score = evaluate(Successor(3.0), ids, context=10)
    loss = math.log(math.exp(3) + CLASSES - 1) - 3
    assert score.loss == pytest.approx(loss, rel=1e-6)
    assert score.perplexity == pytest.approx(math.exp(loss), rel=1e-6)
    assert (score.accuracy, score.tokens) == (1.0, 100)
    wrong = evaluate(Successor(-3.0), ids, context=10)
    assert wrong.accuracy == 0
    assert evaluate(Successor(0.0), ids, context=10).perplexity == pytest.approx(CLASSES, rel=1e-6)


def test_windows_follow_each_other() -> None:
    model = Successor(1.0)
    ids = np.random.default_rng(0).integers(0, CLASSES, 57)
    score = evaluate(model, ids, context=8, batch=3)
    assert score.tokens == 56
    np.testing.assert_array_equal(torch.cat(model.seen).flatten(), ids[:56])


def test_the_size_of_a_batch_does_not_matter() -> None:
    ids = np.random.default_rng(0).integers(0, CLASSES, 200)
    scores = [evaluate(Successor(1.0), ids, context=8, batch=batch) for batch in (1, 7, 64)]
    assert scores[0].accuracy == scores[1].accuracy == scores[2].accuracy
    assert scores[0].loss == pytest.approx(scores[2].loss, rel=1e-6)


def test_an_upper_limit_spreads_the_windows() -> None:
    model = Successor(1.0)
    score = evaluate(model, np.arange(1001) % CLASSES, context=10, most=55)
    assert score.tokens == 50
    starts = torch.cat(model.seen)[:, 0]
    assert len(starts) == 5


def test_text_shorter_than_a_window() -> None:
    assert evaluate(Successor(1.0), np.arange(5), context=10).tokens == 4
    with pytest.raises(CorpusError) as caught:
        evaluate(Successor(1.0), np.arange(1), context=10)
    assert str(caught.value) == "held-out text must have at least 2 tokens, not 1"


def test_a_loss_beyond_all_bounds_is_no_crash() -> None:
    score = evaluate(Successor(-1e4), np.arange(50) % CLASSES, context=10)
    assert math.isfinite(score.perplexity)


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_restored(training: bool) -> None:
    model = Successor(1.0).train(training)
    evaluate(model, np.arange(50) % CLASSES, context=10)
    assert model.training is training
