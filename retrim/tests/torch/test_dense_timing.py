"""torch's dense layers beside ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from retrim.runtime.calibration import calibrate
from retrim.runtime.entry import Request
from retrim.runtime.profile import Profile
from retrim.torch import dense_timing

REQUEST = Request(
    precision="fp32",
    activations=None,
    outputs=64,
    inputs=48,
    density=0.5,
    rows=32,
    group=1,
    tokens=5,
    threads=1,
)
BF16 = replace(REQUEST, precision="bf16")
STATIC = replace(REQUEST, precision="int8", activations="static")
DYNAMIC = replace(STATIC, activations="dynamic")


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (REQUEST, {"linear", "onednn", "mkl"}),
        (BF16, {"linear", "onednn"}),
        (STATIC, {"onednn"}),
        (DYNAMIC, {"dynamic"}),
    ],
)
def test_layers_run(request_: Request, names: set[str], one_thread: None) -> None:
    engine = torch.backends.quantized.engine
    with dense_timing.dense(replace(request_.dense(), threads=2), 3) as runs:
        assert torch.get_num_threads() == 2
        assert set(runs) <= names
        if request_.precision in ("fp32", "bf16"):
            assert "linear" in runs
        for run in runs.values():
            run()
    assert torch.get_num_threads() == 1 and torch.backends.quantized.engine == engine


def test_what_torch_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(weight: torch.Tensor, tokens: int) -> None:
        raise RuntimeError("this build of torch has no oneDNN")

    monkeypatch.setitem(dense_timing._KINDS["fp32"], "onednn", missing)
    with dense_timing.dense(REQUEST.dense(), 1) as runs:
        assert "linear" in runs and "onednn" not in runs


def test_times_of_torch_are_in_the_profile() -> None:
    found = calibrate(Profile(), [REQUEST], seconds=0.05, rivals=[dense_timing.dense])
    assert {e.variant for e in found.entries if e.isa == "torch"} >= {"linear"}
    assert all(e.density == 1 for e in found.entries if e.isa == "torch")
