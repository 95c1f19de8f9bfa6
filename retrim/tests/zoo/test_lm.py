"""The language model: shapes, causality, ties, seeds, and sentences."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from retrim.errors import ArtifactError, ConfigError, ShapeError
from retrim.torch import pack
from retrim.zoo.lm import LMConfig, TransformerLM, build
from retrim.zoo.models import load_dense, load_packed, make

SIZES = {"vocabulary": 50, "width": 32, "layers": 2, "heads": 2, "context": 12}


def test_shapes() -> None:
    model = build(SIZES)
    ids = torch.randint(50, (3, 7))
    assert model(ids).shape == (3, 7, 50)
    states = model.hidden(ids)
    assert [state.shape for state in states] == [(3, 7, 32)] * 3
    torch.testing.assert_close(model.head(model.norm(states[-1])), model(ids))


def test_no_position_sees_what_comes_after_it() -> None:
    model = build(SIZES).eval()
    ids = torch.randint(50, (1, 12))
    other = ids.clone()
    other[0, 8:] = (other[0, 8:] + 1) % 50
    one, two = model(ids), model(other)
    torch.testing.assert_close(one[:, :8], two[:, :8])
    assert not torch.allclose(one[:, 8:], two[:, 8:])


def test_the_output_layer_is_tied() -> None:
    model = build(SIZES)
    assert model.head.weight is model.embed.weight
    blocks = 2 * (4 * 32 * 32 + 4 * 32 + 8 * 32 * 32 + 5 * 32 + 4 * 32)
    assert sum(p.numel() for p in model.parameters()) == 50 * 32 + 12 * 32 + blocks + 64


def test_weights_are_those_of_the_seed() -> None:
    torch.manual_seed(1)
    one = build(SIZES, seed=3)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)  # what others draw is left alone
    two, three = build(SIZES, seed=3), build(SIZES, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.embed.weight, three.embed.weight)


def test_a_sequence_that_is_too_long() -> None:
    with pytest.raises(ShapeError) as caught:
        build(SIZES)(torch.zeros(1, 13, dtype=torch.long))
    assert str(caught.value) == "a sequence must have at most 12 tokens, not 13"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"heads": 3}, "heads must divide the width 32, not 3"),
        ({"layers": 0}, "layers must be a whole number >= 1, not 0"),
        ({"width": 32.0}, "width must be a whole number >= 1, not 32.0"),
        ({"context": True}, "context must be a whole number >= 1, not True"),
        ({"vocabulary": "50"}, "vocabulary must be a whole number >= 1, not '50'"),
    ],
)
def test_sizes_that_make_no_sense(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LMConfig(**{**SIZES, **change})
    assert str(caught.value) == sentence
    with pytest.raises(ArtifactError) as refused:
        make(TransformerLM.architecture, {**SIZES, **change})
    assert str(refused.value) == (
        f"retrim.zoo.TransformerLM must be built from what the artifact says: {sentence}"
    )


def test_models_by_name() -> None:
    model = build(SIZES, seed=5)
    artifact = pack(model, None, architecture=model.architecture, config=model.config.to_dict())
    ids = torch.randint(50, (2, 12))
    for load in (load_dense, load_packed):
        back = load(artifact)
        assert not back.training
        assert torch.equal(back(ids), model.eval()(ids))
    with pytest.raises(ArtifactError) as caught:
        make("mine.Model", {})
    assert str(caught.value) == (
        "architecture must be one of retrim.zoo.TransformerLM, not 'mine.Model': build the model yourself and "
        "use retrim.torch.pack_"
    )
