"""Batches: a function of seed and step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrim.errors import ConfigError
from retrim.zoo.batches import Batches


@given(seed=st.integers(0, 2**32), step=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_batches_are_a_function_of_seed_and_step(seed: int, step: int) -> None:
    ids = np.arange(1000, dtype=np.uint16)
    batches = Batches(ids, batch=5, context=7, seed=seed)
    inputs, targets = batches(step)
    batches(step + 1)
    again = Batches(ids, batch=5, context=7, seed=seed)(step)
    assert torch.equal(inputs, again[0])
    assert torch.equal(targets, again[1])
    assert inputs.shape == targets.shape == (5, 7)
    assert torch.equal(inputs + 1, targets)  # each target is what follows
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert not torch.equal(inputs, batches(step + 1)[0])
    assert not torch.equal(inputs, Batches(ids, batch=5, context=7, seed=seed + 1)(step)[0])


def test_batches_that_cannot_be_drawn() -> None:
    for length, context in ((9, 8), (5, 100)):
        with pytest.raises(ConfigError) as caught:
            Batches(np.zeros(length, np.uint16), 2, context, 0)
        assert str(caught.value) == (
            f"context must be shorter than the {length} training tokens, not {context}"
        )
    assert Batches(np.zeros(10, np.uint16), 2, 8, 0)(0)[0].shape == (2, 8)
    with pytest.raises(ConfigError) as caught:
        Batches(np.zeros(50, np.uint16), 2, 8, -1)
    assert str(caught.value) == "seed must be a whole number >= 0, not -1"
