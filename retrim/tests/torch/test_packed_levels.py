"""Artifacts with levels: every level that comes back is the one that went in, in each mode."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from retrim.artifact import Artifact, Level, load, save
from retrim.errors import ArtifactError, ConfigError
from retrim.torch import PackedLinear, dense_state, pack_
from retrim.torch.levels import LevelLinear, load_levels_, pack_levels
from retrim.zoo.lm import LMConfig, TransformerLM
from retrim.zoo.models import load_dense, load_packed

CONFIG = LMConfig(vocabulary=96, width=64, layers=1, heads=2, context=16, expansion=2)
DENSITIES = {"l3": 0.7, "l2": 0.5, "l1": 0.2}
IDS = torch.arange(24).reshape(2, 12)
Masks = dict[str, dict[str, torch.Tensor]]


def network() -> TransformerLM:
    torch.manual_seed(0)
    model = TransformerLM(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def masks(model: nn.Module, *, nested: bool, height: int = 4) -> Masks:
    draw = np.random.default_rng(0)
    found: Masks = {level: {} for level in DENSITIES}
    for name, parameter in model.named_parameters():
        if (".attention." not in name and ".ffn." not in name) or parameter.ndim != 2:
            continue
        rows, columns = parameter.shape
        cells = draw.random((len(DENSITIES), rows // height, columns))
        for place, (level, density) in enumerate(DENSITIES.items()):
            kept = (cells[0] if nested else cells[place]) < density
            found[level][name] = torch.from_numpy(np.repeat(kept, height, axis=0))
    return found


def made(model: TransformerLM, levels: Masks, **options: Any) -> Artifact:
    options = {"height": 4, "architecture": model.architecture, "config": CONFIG.to_dict()} | options
    return pack_levels(model, levels, **options)


def at(model: TransformerLM, kept: dict[str, torch.Tensor]) -> TransformerLM:
    found = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in kept.items():
            found.get_parameter(name).mul_(mask)
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("nested", "mode"),
    [(False, "resident"), (False, "repack"), (True, "nested"), (True, "resident"), (True, "repack")],
)
def test_a_level_comes_back_as_it_went_in(tmp_path: Path, nested: bool, mode: Any, precision: str) -> None:
    model = network()
    levels = masks(model, nested=nested)
    facts = {"l3": {"mhz": 1400}}
    save(
        tmp_path / "model.safetensors",
        made(model, levels, nested=nested, facts=facts, precisions=(precision,)),
    )
    artifact = load(tmp_path / "model.safetensors")
    assert list(artifact.levels) == list(DENSITIES)
    assert artifact.levels["l3"].facts == {"mhz": 1400}
    running = load_levels_(TransformerLM(CONFIG), artifact, mode=mode)
    assert isinstance(running.blocks[0].ffn.up, LevelLinear)
    assert isinstance(running.blocks[0].ffn.activation, nn.Identity)  # fused
    tolerance = 1e-4 if precision == "fp32" else 0.1
    outputs = []
    with torch.inference_mode():
        for level in (*DENSITIES, "l3"):
            running.levels.switch(level)
            wanted = at(model, levels[level])(IDS)
            outputs.append(running(IDS))
            assert torch.allclose(outputs[-1], wanted, atol=tolerance * float(wanted.abs().max()))
        assert torch.equal(outputs[0], outputs[-1])
        assert not torch.allclose(outputs[0], outputs[1], atol=tolerance * float(outputs[0].abs().max()))


def test_the_first_level_is_on_unless_another_is_asked_for() -> None:
    model = network()
    levels = masks(model, nested=False)
    artifact = made(model, levels)
    assert load_packed(artifact).levels.level == "l3"
    assert load_packed(artifact, level="l1").levels.level == "l1"
    with torch.inference_mode():
        for level in DENSITIES:
            wanted = at(model, levels[level])(IDS)
            assert torch.equal(load_dense(artifact, level)(IDS), wanted)
            assert torch.allclose(load_packed(artifact, level=level)(IDS), wanted, atol=1e-4)
    state = dense_state(artifact)
    name = "blocks.0.ffn.up.weight"
    assert torch.equal(state[name], model.get_parameter(name).detach() * levels["l3"][name])


def test_layers_that_store_their_weight_transposed_have_levels() -> None:
    class Conv1D(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(16, 32))
            self.bias = nn.Parameter(torch.randn(32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight + self.bias

    torch.manual_seed(0)
    model = nn.Sequential(Conv1D())
    kept = torch.from_numpy(np.repeat(np.random.default_rng(0).random((16, 8)) < 0.5, 4, axis=1))
    artifact = pack_levels(model, {"only": {"0.weight": kept}}, height=4, architecture="conv", config={})
    x = torch.randn(3, 16)
    with torch.inference_mode():
        wanted = x @ (model[0].weight * kept) + model[0].bias
        assert torch.allclose(load_levels_(nn.Sequential(Conv1D()), artifact)(x), wanted, atol=1e-5)
        assert torch.equal(dense_state(artifact)["0.weight"], model[0].weight * kept)


def test_levels_that_keep_the_same_share_a_pack() -> None:
    model = network()
    levels = masks(model, nested=False)
    levels["l2"] = levels["l3"]
    running = load_levels_(TransformerLM(CONFIG), made(model, levels))
    path = "blocks.0.ffn.up"
    found = []
    for level in DENSITIES:
        running.levels.switch(level)
        found.append(running.levels.layer(path))
    assert found[0] is found[1]
    assert found[1] is not found[2]


def test_what_has_no_levels_or_other_ones_is_refused() -> None:
    model = network()
    levels = masks(model, nested=False)
    artifact = made(model, levels)
    with pytest.raises(ConfigError, match="must be nested to share a pack, but this artifact's are free"):
        load_levels_(TransformerLM(CONFIG), artifact, mode="nested")
    with pytest.raises(ConfigError, match="level must be one of l3, l2, l1, not 'l9'"):
        load_packed(artifact, level="l9")
    with pytest.raises(ConfigError, match="level must be one of l3, l2, l1, not 'l9'"):
        load_dense(artifact, "l9")
    with pytest.raises(ConfigError, match=r"must be loaded with retrim\.torch\.levels\.load_levels_"):
        pack_(TransformerLM(CONFIG), artifact)
    plain = replace(artifact, levels={}, weights={})
    with pytest.raises(ConfigError, match="an artifact must have levels to be loaded with them"):
        load_levels_(TransformerLM(CONFIG), plain)
    with pytest.raises(ConfigError, match="must have levels for one to be chosen"):
        load_packed(plain, level="l1")
    with pytest.raises(ArtifactError, match="precision must be one that the weight was packed in"):
        load_levels_(TransformerLM(CONFIG), artifact, precision="bf16")


def test_precisions_that_levels_do_not_come_in() -> None:
    model = network()
    levels = masks(model, nested=False)
    for precisions, sentence in (
        (("int8",), "precision of levels must be fp32 or bf16, not 'int8'"),
        (("fp32", "fp33"), "precision of levels must be fp32 or bf16, not 'fp33'"),
        (("bf16", "bf16"), "precisions of levels must differ, but 'bf16' is there twice"),
        ((), "precision of levels must be fp32 or bf16, but there is none"),
    ):
        with pytest.raises(ConfigError) as error:
            made(model, levels, precisions=precisions)
        assert str(error.value) == sentence


def test_masks_that_make_no_levels_are_refused() -> None:
    model = network()
    levels = masks(model, nested=False)
    with pytest.raises(ConfigError, match="must have a level at least"):
        made(model, {})
    with pytest.raises(ConfigError, match="all levels must mask the same parameters, but 'l1' differs"):
        made(model, levels | {"l1": {}})
    with pytest.raises(
        ConfigError, match=r"blocks\.0\.attention\.qkv\.weight: masks of levels must be nested"
    ):
        made(model, levels, nested=True)
    with pytest.raises(ConfigError, match="must be alike in each 8 neighbouring rows"):
        made(model, levels, height=8)
    with pytest.raises(ConfigError, match="must be that of a linear layer to have levels, not of Embedding"):
        made(model, {"a": {"embed.weight": torch.ones_like(model.embed.weight, dtype=torch.bool)}})
    with pytest.raises(
        ConfigError,
        match=r"head\.weight: a weight with levels must be of one layer, but is tied to 'embed\.weight'",
    ):
        made(model, {"a": {"head.weight": torch.ones_like(model.head.weight, dtype=torch.bool)}})


def test_artifacts_whose_levels_are_damaged_are_refused(tmp_path: Path) -> None:
    model = network()
    artifact = made(model, masks(model, nested=False))
    nested = made(model, masks(model, nested=True), nested=True)
    name = "blocks.0.ffn.up.weight"
    weight = artifact.weights[name]
    assert weight.levels is not None

    def refused(broken: Artifact, match: str) -> None:
        with pytest.raises(ArtifactError, match=match):
            save(tmp_path / "broken.safetensors", broken)

    def with_levels(found: np.ndarray) -> Artifact:
        return replace(artifact, weights={**artifact.weights, name: replace(weight, levels=found)})

    refused(with_levels(weight.levels[:2]), "masks of levels must be of shape")
    refused(with_levels(np.ones_like(weight.levels)), "levels must keep only what the pack stores")
    refused(replace(artifact, levels={}), "masks of levels must be of shape")
    refused(replace(artifact, levels={**artifact.levels, "l1": Level(1)}), "nested all or none")
    refused(
        replace(artifact, levels={key: Level(1) for key in DENSITIES}), "must not have masks of their own"
    )
    refused(
        replace(nested, levels={**nested.levels, "l3": Level(4)}),
        "must have the 4 segments of level 'l3', not 3",
    )


def test_layers_without_levels_run_beside_those_with() -> None:
    model = network()
    levels = masks(model, nested=False)
    artifact = made(model, levels)
    name = "blocks.0.ffn.up.weight"
    fixed = replace(artifact.weights[name], levels=None)
    running = load_levels_(
        TransformerLM(CONFIG), replace(artifact, weights={**artifact.weights, name: fixed})
    )
    assert isinstance(running.blocks[0].ffn.up, PackedLinear)
    assert isinstance(running.blocks[0].ffn.down, LevelLinear)
    running(IDS)
