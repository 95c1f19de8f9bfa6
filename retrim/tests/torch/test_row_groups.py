"""Pattern sets from training to a packed model, an artifact and torch's operator: users notice no other layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from retrim.artifact import load, save
from retrim.artifact.layout import ListView
from retrim.prune import Magnitude, Plan, Rule
from retrim.structures import PatternSet
from retrim.torch.linear import PackedLinear
from retrim.torch.packing import pack, pack_

PATTERNS = PatternSet(("a5a5", "5a5a", "ff00", "00ff"), (8, 8), 4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_of_patterns_runs_packed(tmp_path: Path, precision: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 40))
    pruner = Magnitude()
    pruner.prepare(model, Plan([Rule(weights="*weight", structure=PATTERNS, density=0.5)]))
    pruner.harden()
    save(tmp_path / "model", pack(model, pruner, architecture="x", config={}, precisions=("fp32", "bf16")))
    found = load(tmp_path / "model")
    assert [p.rows for p in found.weights["0.weight"].packs] == [4, 4]
    fresh = nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 40))
    pack_(fresh, found, precision=precision)
    layer = fresh[0]
    assert isinstance(layer, PackedLinear)
    assert isinstance(layer.matrix.view, ListView)
    x = torch.randn(5, 3, 64)
    with torch.inference_mode():
        y = fresh(x)
        called = torch.ops.retrim.packed_linear(x, layer._pack, layer._bias, 48, None, None)
        near = 1e-5 if precision == "fp32" else 2e-2
        torch.testing.assert_close(y, model(x), rtol=near, atol=near)
        torch.testing.assert_close(called, layer(x), rtol=0, atol=0)
