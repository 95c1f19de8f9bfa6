"""Packing a hardened model, and putting what was saved back into a torch model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from retrim.artifact import Artifact, load, save
from retrim.errors import ArtifactError, ConfigError, RetrimError, ShapeError, WeightError
from retrim.prune import Magnitude, Plan, Pruner, Rule
from retrim.structures import BlockColumns, BlockRows, Channels, Elements, Filters, Structure, Within
from retrim.torch import PackedLinear, dense_state, pack, pack_
from retrim.zoo.lm import LMConfig, TransformerLM

CONFIG = LMConfig(vocabulary=96, width=64, layers=2, heads=2, context=16, expansion=2)


class Conv1D(nn.Module):
    """A linear layer that stores its weight as (in, out), as Hugging Face's does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


class Pair(nn.Module):
    """Two layers with an activation between them that a kernel may take in."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.up = nn.Linear(32, 64)
        self.activation = activation
        self.down = nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.down(self.activation(self.up(x)))
        return out

    def fusions(self) -> dict[str, str]:
        return {"up": "activation"}


class Shared(nn.Module):
    """One layer under two names, and two layers tied by their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(32, 32)
        self.again = self.first
        self.other = nn.Linear(32, 32)
        self.other.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.other(self.again(self.first(x)).relu())
        return out


def language_model(seed: int = 0) -> TransformerLM:
    torch.manual_seed(seed)
    model = TransformerLM(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def hardened(model: nn.Module, weights: str, structure: Structure, density: Any = 0.5) -> Pruner:
    pruner = Magnitude()
    pruner.prepare(model, Plan([Rule(weights=weights, structure=structure, density=density)]))
    pruner.harden()
    return pruner


def artifact_of(
    model: nn.Module, weights: str, structure: Structure | None = None, density: Any = 0.5
) -> Artifact:
    pruner = hardened(model, weights, structure or BlockColumns(32), density)
    return pack(model, pruner, architecture="test", config={})


def through_file(artifact: Artifact, folder: Path) -> Artifact:
    save(folder / "model.safetensors", artifact)
    return load(folder / "model.safetensors")


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def refused(kind: type[RetrimError], sentence: str, attempt: Callable[[], object]) -> None:
    with pytest.raises(RetrimError) as caught:
        attempt()
    assert str(caught.value) == sentence
    assert type(caught.value) is kind


# --- the whole way ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("structure", "density"),
    [
        (BlockColumns(32), 1 / 2),
        (BlockColumns(64, "global"), 1 / 4),
        (BlockRows(32), 1 / 2),
        (Filters(), 1 / 4),
        (Channels(), 1 / 4),
        (Elements(), 1 / 4),
        (Within(BlockColumns(32), Elements()), (1 / 2, 1 / 2)),
    ],
    ids=repr,
)
def test_a_language_model_gives_the_same_logits(structure: Structure, density: Any, tmp_path: Path) -> None:
    model = language_model()
    artifact = through_file(artifact_of(model, "blocks.*.*.*.weight", structure, density), tmp_path)
    ids = torch.randint(96, (3, 16))
    dense, packed = language_model(seed=1), language_model(seed=2)
    dense.load_state_dict(dense_state(artifact))
    assert pack_(packed, artifact) is packed
    assert not packed.training
    with torch.inference_mode():
        wanted = model.eval()(ids)
        assert torch.equal(dense.eval()(ids), wanted)
        assert_close(packed(ids), wanted)
    assert sum(isinstance(layer, PackedLinear) for layer in packed.modules()) == 8


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("activation", [nn.GELU(), nn.GELU("tanh"), nn.ReLU(), nn.Tanh()], ids=repr)
def test_activations_are_taken_into_the_kernel(activation: nn.Module, fuse: bool) -> None:
    torch.manual_seed(0)
    model = Pair(activation)
    artifact = artifact_of(model, "*.weight")
    x = torch.randn(5, 32)
    wanted = model(x).detach()
    packed = pack_(Pair(copy.deepcopy(activation)), artifact, fuse=fuse)
    with torch.inference_mode():
        assert_close(packed(x), wanted)
    known = {"GELU(approximate='none')": "gelu", "GELU(approximate='tanh')": "gelu_tanh", "ReLU()": "relu"}
    fused = known.get(repr(activation)) if fuse else None
    assert packed.up.matrix.activation == fused
    assert isinstance(packed.activation, nn.Identity) == (fused is not None)
    assert packed.down.matrix.activation is None


def test_an_activation_stays_where_the_layer_before_it_is_dense() -> None:
    artifact = artifact_of(Pair(nn.ReLU()), "down.weight")
    packed = pack_(Pair(nn.ReLU()), artifact)
    assert isinstance(packed.activation, nn.ReLU)
    assert isinstance(packed.up, nn.Linear)


def test_an_activation_of_ones_own_is_left_alone() -> None:
    class GELU(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    model = Pair(GELU())
    artifact = artifact_of(model, "up.weight")
    x = torch.randn(5, 32)
    wanted = model(x).detach()
    with torch.inference_mode():
        assert_close(pack_(Pair(GELU()), artifact)(x), wanted)


def test_any_sequence_of_linear_layers() -> None:
    def build(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        norm = nn.BatchNorm1d(40)
        return nn.Sequential(nn.Linear(20, 40), norm, nn.ReLU(), nn.Linear(40, 7, bias=False), Conv1D(7, 9))

    model = build(0)
    model(torch.randn(8, 20))  # running statistics are tensors of the model as well
    artifact = artifact_of(model.eval(), "*[034].weight", Filters(), 0.6)
    assert "1.running_mean" in artifact.tensors
    x = torch.randn(2, 3, 20).flatten(0, 1)
    with torch.inference_mode():
        packed = pack_(build(1), artifact)
        assert_close(packed(x), model(x))
    assert [type(layer).__name__ for layer in packed] == [
        "PackedLinear",
        "BatchNorm1d",
        "ReLU",
        "PackedLinear",
        "PackedLinear",
    ]


def test_a_transposed_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Conv1D(24, 64))
    artifact = artifact_of(model, "0.weight", BlockColumns(32), 0.25)
    assert artifact.weights["0.weight"].shape == (24, 64)
    assert artifact.weights["0.weight"].kind == "conv1d"
    assert torch.equal(dense_state(artifact)["0.weight"], model[0].weight)
    x = torch.randn(4, 24)
    with torch.inference_mode():
        assert_close(pack_(nn.Sequential(Conv1D(24, 64)), artifact)(x), model(x))


@pytest.mark.parametrize("structure", [Filters(), Channels(), BlockColumns(4)], ids=repr)
def test_a_convolution_comes_back_dense(structure: Structure, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3))
    artifact = through_file(artifact_of(model, "0.weight", structure), tmp_path)
    assert torch.equal(dense_state(artifact)["0.weight"], model[0].weight)
    refused(
        ConfigError,
        "0.weight: a packed weight must be that of a linear layer to run packed, not of Conv2d: "
        "load the dense state instead",
        lambda: pack_(nn.Sequential(nn.Conv2d(4, 8, 3)), artifact),
    )


def test_a_dense_model_is_packed_without_a_pruner(tmp_path: Path) -> None:
    model = language_model()
    artifact = through_file(pack(model, None, architecture="test", config={}), tmp_path)
    assert artifact.weights == {}
    assert artifact.aliases == {"head.weight": "embed.weight"}
    ids = torch.randint(96, (2, 16))
    with torch.inference_mode():
        assert torch.equal(pack_(language_model(1), artifact)(ids), model.eval()(ids))


def test_what_goes_into_the_artifact() -> None:
    model = language_model()
    pruner = hardened(model, "blocks.*.ffn.*.weight", Elements(), 0.25)
    artifact = pack(
        model,
        pruner,
        architecture="a",
        config=CONFIG.to_dict(),
        tokenizer="{}",
        metrics={"loss": 1.0},
        provenance={"seed": 0},
    )
    assert (artifact.architecture, artifact.config, artifact.tokenizer) == ("a", CONFIG.to_dict(), "{}")
    assert (artifact.metrics, artifact.provenance) == ({"loss": 1.0}, {"seed": 0})
    assert list(artifact.weights) == [target.name for target in pruner.targets]
    assert artifact.density == 0.25
    for target in pruner.targets:
        weight = artifact.weights[target.name]
        np.testing.assert_array_equal(weight.matrix(), target.matrix())
        np.testing.assert_array_equal(weight.mask(), pruner.supports[target.name].mask)
        assert weight.structure == {"type": "Elements"}
    kept = sum(parameter.numel() for parameter in model.parameters())
    pruned = sum(target.parameter.numel() for target in pruner.targets)
    assert artifact.parameters == kept - pruned + pruned // 4
    with torch.no_grad():
        model.embed.weight.zero_()
    assert artifact.tensors["embed.weight"].data.any()  # the artifact has numbers of its own


def test_tensors_of_all_types(tmp_path: Path) -> None:
    model = nn.Module()
    kinds = [
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
    ]
    for kind in [*kinds, torch.int8, torch.uint8, torch.bool]:
        model.register_buffer(str(kind).replace(".", "_"), (torch.randn(3, 4) * 3).to(kind))
    model.register_buffer("number", torch.tensor(5))
    model.register_buffer("empty", torch.zeros(0, 3))
    state = dense_state(through_file(pack(model, None, architecture="x", config={}), tmp_path))
    assert state.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert state[name].dtype == value.dtype
        assert torch.equal(state[name], value)
    state["number"].add_(1)  # the tensors are the caller's own, not the mapped file's
    assert load(tmp_path / "model.safetensors").tensors["number"].data == 5


@pytest.mark.parametrize("padded", [False, True])
def test_transformer_layers_of_torch_itself(padded: bool) -> None:
    """Their fast paths read weights past the layers' forward, and must be left."""

    def build(seed: int) -> nn.TransformerEncoder:
        torch.manual_seed(seed)
        layer = nn.TransformerEncoderLayer(32, 2, 64, activation="gelu", batch_first=True)
        return nn.TransformerEncoder(layer, 2).eval()

    model = build(0)
    artifact = artifact_of(model, "*linear?.weight")
    x, mask = torch.randn(2, 5, 32), None
    if padded:
        mask = torch.tensor([[False] * 5, [False, False, False, True, True]])
    with torch.inference_mode():
        got = pack_(build(1), artifact)(x, src_key_padding_mask=mask)
        torch.backends.mha.set_fastpath_enabled(False)  # it warns of itself
        try:
            wanted = model(x, src_key_padding_mask=mask)
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    keep = torch.ones(2, 5, dtype=torch.bool) if mask is None else ~mask
    assert_close(got[keep], wanted[keep])


# --- tied and shared weights ----------------------------------------------------------------


def test_shared_and_tied_layers_are_packed_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Shared()
    artifact = through_file(artifact_of(model, "first.weight"), tmp_path)
    assert artifact.aliases == {
        "again.weight": "first.weight",
        "again.bias": "first.bias",
        "other.weight": "first.weight",
    }
    assert list(artifact.weights) == ["first.weight"]
    x = torch.randn(3, 32)
    wanted = model(x).detach()
    packed = pack_(Shared(), artifact)
    with torch.inference_mode():
        assert_close(packed(x), wanted)
    assert packed.again is packed.first
    assert isinstance(packed.other, PackedLinear)
    state = dense_state(artifact)
    assert state["other.weight"] is state["first.weight"]
    fresh = Shared()
    fresh.load_state_dict(state)
    assert torch.equal(fresh(x), wanted)


def test_a_tied_tensor_reaches_a_model_that_does_not_tie(tmp_path: Path) -> None:
    model = language_model()
    artifact = through_file(artifact_of(model, "blocks.*.*.*.weight"), tmp_path)
    apart = language_model(1)
    apart.head.weight = nn.Parameter(torch.zeros_like(apart.embed.weight))
    ids = torch.randint(96, (2, 16))
    with torch.inference_mode():
        assert_close(pack_(apart, artifact)(ids), model.eval()(ids))


def test_a_pruned_embedding_must_stay_dense() -> None:
    artifact = artifact_of(language_model(), "head.weight")
    assert list(artifact.weights) == ["embed.weight"]
    refused(
        ConfigError,
        "embed.weight: a packed weight must be that of a linear layer to run packed, not of Embedding: "
        "load the dense state instead",
        lambda: pack_(language_model(), artifact),
    )
    model = language_model(1)
    model.load_state_dict(dense_state(artifact))
    assert int(torch.count_nonzero(model.head.weight)) == 96 * 64 // 2


# --- what cannot be packed --------------------------------------------------------------------


def test_a_model_must_be_hardened_first() -> None:
    model, pruner = Pair(nn.ReLU()), Magnitude()
    pruner.prepare(model, Plan([Rule(weights="up.weight", structure=Filters(), density=0.5)]))
    refused(
        ConfigError,
        "a model must be hardened before it is packed: call pruner.harden()",
        lambda: pack(model, pruner, architecture="x", config={}),
    )


def test_weights_that_are_not_finite() -> None:
    model = Pair(nn.ReLU())
    pruner = hardened(model, "up.weight", Filters())
    with torch.no_grad():
        model.up.weight[model.up.weight.abs().sum(1) > 0] = math.nan
    refused(
        WeightError,
        "up.weight: a weight must be finite to be packed, but holds NaN or infinity: "
        "go back to a checkpoint from before training diverged",
        lambda: pack(model, pruner, architecture="x", config={}),
    )


def test_weights_that_left_their_structure() -> None:
    model = Pair(nn.ReLU())
    pruner = hardened(model, "up.weight", Filters())
    with torch.no_grad():
        model.up.weight += 0.01
    refused(
        ConfigError,
        "up.weight: a weight must keep its structure until it is packed, but what was pruned is no longer "
        "zero: call pruner.step() after every optimiser step, or harden again",
        lambda: pack(model, pruner, architecture="x", config={}),
    )


def test_types_that_a_file_cannot_hold() -> None:
    model = nn.Module()
    model.register_buffer("waves", torch.zeros(2, dtype=torch.complex64))
    refused(
        ArtifactError,
        "waves: a tensor must not be of type torch.complex64: convert it before packing",
        lambda: pack(model, None, architecture="x", config={}),
    )


@pytest.mark.parametrize("precisions", [(), ("fp32", "fp64"), ("bf16", "bf16"), "bf16"], ids=repr)
def test_precisions_that_there_are_not(precisions: Any) -> None:
    model = Pair(nn.ReLU())
    pruner = hardened(model, "up.weight", Filters())
    refused(
        ConfigError,
        f"precisions must be one or more of fp32, bf16, int8, each once, not {precisions!r}",
        lambda: pack(model, pruner, architecture="x", config={}, precisions=precisions),
    )


# --- models that do not fit -------------------------------------------------------------------


def test_a_model_of_another_shape_is_left_alone() -> None:
    artifact = artifact_of(Pair(nn.ReLU()), "up.weight")
    other = Pair(nn.ReLU())
    other.down = nn.Linear(64, 16)
    before = copy.deepcopy(other.state_dict())
    refused(
        ShapeError,
        "down.weight: the model must have the artifact's shape (32, 64), not (16, 64): build it from the "
        "artifact's configuration",
        lambda: pack_(other, artifact),
    )
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    assert isinstance(other.up, nn.Linear)


def test_a_precision_that_was_not_packed_leaves_the_model_alone() -> None:
    artifact = artifact_of(Pair(nn.ReLU()), "up.weight")
    other = Pair(nn.ReLU())
    before = copy.deepcopy(other.state_dict())
    refused(
        ArtifactError,
        "up.weight: precision must be one that the weight was packed in (fp32), not 'int8': pack the model with "
        "it in `precisions`",
        lambda: pack_(other, artifact, precision="int8"),
    )
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_square_weight_of_a_layer_that_stores_it_transposed() -> None:
    artifact = artifact_of(nn.Sequential(Conv1D(32, 32)), "0.weight")
    refused(
        ConfigError,
        "0.weight: a weight packed as conv1d must be that of a layer that stores it so, not of Linear: "
        "build the model that was packed, or load the dense state if that one ties both kinds",
        lambda: pack_(nn.Sequential(nn.Linear(32, 32)), artifact),
    )
    tied = nn.Sequential(nn.Linear(32, 32), Conv1D(32, 32))
    tied[1].weight = tied[0].weight
    artifact = artifact_of(tied, "*.weight")
    refused(
        ConfigError,
        "1.weight: a weight packed as linear must be that of a layer that stores it so, not of Conv1D: "
        "build the model that was packed, or load the dense state if that one ties both kinds",
        lambda: pack_(copy.deepcopy(tied), artifact),
    )


def test_a_packed_weight_of_another_shape() -> None:
    artifact = artifact_of(Pair(nn.ReLU()), "up.weight")
    other = Pair(nn.ReLU())
    other.up = nn.Linear(16, 64)
    refused(
        ShapeError,
        "up.weight: the model must have the artifact's shape (64, 32), not (64, 16): build it from the "
        "artifact's configuration",
        lambda: pack_(other, artifact),
    )


def test_a_model_with_other_names() -> None:
    artifact = artifact_of(Pair(nn.ReLU()), "up.weight")
    refused(
        ShapeError,
        "the model must be the artifact's (test), but only the model has '0.bias'",
        lambda: pack_(nn.Sequential(nn.Linear(32, 64)), artifact),
    )
    fewer = replace(artifact, tensors={k: t for k, t in artifact.tensors.items() if k != "down.bias"})
    refused(
        ShapeError,
        "the model must be the artifact's (test), but only the model has 'down.bias'",
        lambda: pack_(Pair(nn.ReLU()), fewer),
    )
    lean = Pair(nn.ReLU())
    lean.up = nn.Linear(32, 64, bias=False)
    refused(
        ShapeError,
        "the model must be the artifact's (test), but only the artifact has 'up.bias'",
        lambda: pack_(lean, artifact),
    )


def test_a_layer_whose_owner_reads_its_weight() -> None:
    """Attention of torch itself takes the weight of its output layer, and never calls the layer."""
    artifact = artifact_of(nn.MultiheadAttention(32, 2), "out_proj.weight")
    refused(
        ConfigError,
        "out_proj.weight: a packed weight must be that of a linear layer to run packed, not of "
        "NonDynamicallyQuantizableLinear: load the dense state instead",
        lambda: pack_(nn.MultiheadAttention(32, 2), artifact),
    )
