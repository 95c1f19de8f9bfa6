"""Every structure in every precision: pruned, packed, written, read, and run as the dense model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from retrim.artifact import Artifact, load, save
from retrim.prune import Magnitude, Plan, Rule
from retrim.structures import BlockColumns, BlockRows, Channels, Elements, Filters, Structure, Within
from retrim.torch import PackedLinear, dense_state, pack, pack_

PRECISIONS = {"fp32": 1e-5, "bf16": 1e-2, "int8": 3e-2}
"""What outputs may be off by, as a share of the largest."""

STRUCTURES: list[tuple[Structure, Any]] = [
    (Elements(), 0.3),
    (Elements(), 0.02),  # rows and whole blocks without a weight
    (Filters(), 0.25),
    (Channels(), 0.25),
    (BlockColumns(4), 0.25),
    (BlockColumns(32), 1 / 3),
    (BlockColumns(96), 1.0),
    (BlockColumns(48, "global"), 0.2),
    (BlockColumns(32, group=2), 0.25),
    (BlockColumns(32, group=4), 0.25),
    (BlockColumns(8, "global", group=4), 0.2),
    (BlockRows(6), 0.3),
    (BlockRows(24, "global"), 0.2),
    (Within(BlockColumns(32), Elements()), (0.5, 0.5)),
    (Within(Filters(), BlockColumns(4)), (0.5, 0.5)),
    (Within(Channels(), BlockRows(4, "global")), (0.5, 0.5)),
]


class Conv1D(nn.Module):
    """As Hugging Face's: a linear layer that stores its weight as (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.nx = nx
        self.weight = nn.Parameter(torch.empty(nx, nf).normal_())
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = (*x.size()[:-1], self.nf)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(size)


def layer_of(kind: str, outputs: int, inputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs) if kind == "Linear" else Conv1D(outputs, inputs)


class Mlp(nn.Module):
    """A Transformer's two layers, and a third one that ties its weight to the first's."""

    def __init__(self, kind: str, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.up = layer_of(kind, 192, 96)
        self.act = nn.GELU("tanh")
        self.down = layer_of(kind, 96, 192)
        self.again = layer_of(kind, 192, 96)
        self.again.weight = self.up.weight
        for layer in (self.up, self.down, self.again):
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.weight, std=layer.weight.numel() ** -0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(self.act(self.up(x)))
        out: torch.Tensor = self.again(x)
        return out

    def fusions(self) -> dict[str, str]:
        return {"up": "act"}


def hardened(kind: str, structure: Structure, density: Any, precisions: tuple[str, ...]) -> Artifact:
    model, pruner = Mlp(kind, 0), Magnitude()
    pruner.prepare(model, Plan([Rule(weights="*.weight", structure=structure, density=density)]))
    pruner.harden()
    return pack(model, pruner, architecture="test", config={}, precisions=precisions)


def through_file(artifact: Artifact, folder: Path) -> Artifact:
    save(folder / "model.safetensors", artifact)
    return load(folder / "model.safetensors")


def assert_close(got: torch.Tensor, wanted: torch.Tensor, share: float) -> None:
    assert got.shape == wanted.shape
    assert float((got.float() - wanted).abs().max()) <= share * float(wanted.abs().max())


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("structure", "density"), STRUCTURES, ids=lambda value: str(value).replace(" ", ""))
def test_packed_runs_as_dense_does(
    structure: Structure, density: Any, precision: str, kind: str, tmp_path: Path
) -> None:
    artifact = through_file(hardened(kind, structure, density, (precision,)), tmp_path)
    assert artifact.aliases == {"again.weight": "up.weight"}
    dense, packed = Mlp(kind, 1).eval(), pack_(Mlp(kind, 2), artifact)
    dense.load_state_dict(dense_state(artifact))
    assert [type(part) for part in (packed.up, packed.act, packed.down, packed.again)] == [
        PackedLinear,
        nn.Identity,
        PackedLinear,
        PackedLinear,
    ]
    assert (packed.up.activation, packed.up.precision) == ("gelu_tanh", precision)
    with torch.inference_mode():
        for shape in [(96,), (1, 96), (7, 96), (2, 9, 96), (0, 96)]:
            x = torch.randn(shape)
            if x.dim() == 1:
                assert_close(packed(x), dense(x[None])[0], PRECISIONS[precision])
            elif len(x) == 0:
                assert packed(x).shape == (0, 192)
            else:
                assert_close(packed(x), dense(x), PRECISIONS[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("structure", "density"), STRUCTURES, ids=lambda value: str(value).replace(" ", ""))
def test_packs_of_all_precisions_beside_each_other(
    structure: Structure, density: Any, precision: str, tmp_path: Path
) -> None:
    artifact = through_file(hardened("Linear", structure, density, ("int8", "fp32", "bf16")), tmp_path)
    dense, packed = Mlp("Linear", 1).eval(), pack_(Mlp("Linear", 2), artifact, precision=precision)
    dense.load_state_dict(dense_state(artifact))  # of the most precise pack
    x = torch.randn(5, 96)
    with torch.inference_mode():
        assert_close(packed(x), dense(x), PRECISIONS[precision])
        first = pack_(Mlp("Linear", 2), artifact)
        assert first.up.precision == "int8"
        assert torch.equal(first(x), pack_(Mlp("Linear", 2), artifact, precision="int8")(x))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_model_in_bfloat16(precision: str, tmp_path: Path) -> None:
    artifact = through_file(hardened("Linear", BlockColumns(32), 0.5, (precision,)), tmp_path)
    dense, packed = Mlp("Linear", 1), pack_(Mlp("Linear", 2).bfloat16(), artifact)
    dense.load_state_dict(dense_state(artifact))
    x = torch.randn(5, 96).bfloat16()
    with torch.inference_mode():
        y = packed(x)
        assert y.dtype == torch.bfloat16
        assert_close(y, dense(x.float()), PRECISIONS[precision])


def test_precisions_agree_on_what_is_kept() -> None:
    artifact = hardened("Linear", Elements(), 0.1, ("fp32", "bf16", "int8"))
    for weight in artifact.weights.values():
        assert [pack.precision for pack in weight.packs] == ["fp32", "bf16", "int8"]
        assert int(np.count_nonzero(weight.mask())) == round(weight.density * weight.mask().size)
        sizes = [pack.data.nbytes for pack in weight.packs]
        assert sizes == sorted(sizes, reverse=True)
