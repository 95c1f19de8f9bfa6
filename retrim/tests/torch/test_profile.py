"""Packed models take their kernels from the machine's profile, and their packs to huge pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from retrim.artifact import Artifact
from retrim.errors import ProfileError
from retrim.prune import Magnitude, Plan, Rule
from retrim.runtime import isa, pages, profile_file, tuning
from retrim.runtime.entry import Entry, Request
from retrim.runtime.matrix import VARIANTS
from retrim.runtime.profile import Profile
from retrim.structures import BlockColumns
from retrim.torch import PackedLinear, pack, pack_


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv(profile_file.VARIABLE, str(tmp_path / "profile.json"))
    monkeypatch.delenv(isa.VARIABLE, raising=False)
    monkeypatch.setattr(tuning, "_chosen", tuning._UNSET)
    tuning.forget()
    yield
    tuning.forget()


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32)).eval()


@pytest.fixture
def artifact() -> Artifact:
    dense = model()
    pruner = Magnitude()
    pruner.prepare(dense, Plan([Rule(weights="*.weight", structure=BlockColumns(32), density=0.5)]))
    pruner.harden()
    return pack(dense, pruner, architecture="x", config={}, precisions=("fp32", "bf16"))


def profile_of(layer: PackedLinear, variant: str) -> Profile:
    request = Request.of(layer.matrix.view, 8, 1)
    fields = {name: getattr(request, name) for name in Request.__dataclass_fields__}
    return Profile(entries=(Entry(**fields, isa="portable", variant=variant, microseconds=1.0, runs=3),))


def test_kernels_of_the_profile(artifact: Artifact, tmp_path: Path) -> None:
    layer = pack_(model(), artifact)[0]  # type: ignore[index]
    best = isa.index(isa.available()[0])
    assert layer.matrix._kernels == [(best, 0)]
    profile_file.write(tmp_path / "profile.json", profile_of(layer, "packed"))
    tuning.forget()
    found = pack_(model(), artifact)
    tuned = found[0]  # type: ignore[index]
    assert tuned.matrix._from == [1, 4, 17]
    assert tuned.matrix._kernels[1] == (isa.index("portable"), VARIANTS["packed"])
    x = torch.randn(8, 64)
    torch.testing.assert_close(tuned(x), layer(x), rtol=1e-5, atol=1e-5)


def test_a_damaged_profile_that_was_named_is_an_error(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text("{")
    with pytest.raises(ProfileError, match="must be written by retrim, but is damaged"):
        pack_(model(), artifact)


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_packs_lie_in_huge_pages(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, precision: str | None
) -> None:
    x = torch.randn(3, 64)
    expected = pack_(model(), artifact, precision=precision)(x)
    monkeypatch.setattr(pages, "LEAST", 1)
    packed = pack_(model(), artifact, precision=precision)
    torch.testing.assert_close(packed(x), expected, rtol=0, atol=0)
    first, second = packed[0], packed[2]  # type: ignore[index]
    own = artifact.weights["0.weight"]
    running = own.packs[0] if precision is None else own.pack(precision)
    assert second._pack.data_ptr() - first._pack.data_ptr() == running.data.nbytes
    kept = first.weight.pack("fp32" if precision else "bf16")
    assert kept is own.pack(kept.precision)  # what does not run stays where it is
