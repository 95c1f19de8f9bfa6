"""Pruning under torch's DistributedDataParallel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = """
import os, sys
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
from retrim.prune import ADMM, OptimalBrainSurgeon, Plan, ReweightedGroupLasso, Rule
from retrim.structures import BlockColumns

ranks = int(os.environ.get("WORLD_SIZE", "1"))
rank = int(os.environ.get("RANK", "0"))
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 4))
inner = model
if ranks > 1:
    distributed.init_process_group("gloo")
    model = DistributedDataParallel(model)
pruner = {
    "lasso": lambda: ReweightedGroupLasso(refresh_every=3),
    "lasso by inputs": lambda: ReweightedGroupLasso(over=6, by_inputs=True, batches=3),
    "admm by inputs": lambda: ADMM(every=2, pull=0.1, by_inputs=True, batches=3),
    "surgeon": lambda: OptimalBrainSurgeon(batches=4),
}[sys.argv[2]]()
pruner.prepare(model, Plan([Rule(weights="*0.weight", structure=BlockColumns(16), density=0.5)]))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
data = torch.randn(12, 8, 12), torch.randint(4, (12, 8))
for step in range(12):
    x, y = (part[step, rank::ranks] for part in data)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    pruner.add_gradient_()
    optimizer.step()
    pruner.step()
    if step == 7:
        pruner.harden()
torch.save(inner.state_dict(), f"{sys.argv[1]}/{ranks}-{rank}.pt")
if ranks > 1:
    distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["lasso", "lasso by inputs", "admm by inputs", "surgeon"])
def test_ranks_agree_with_each_other_and_with_one_process(pruner: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for command in ([sys.executable], torchrun):
        subprocess.run(
            [*command, str(script), str(tmp_path), pruner],
            check=True,
            capture_output=True,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    alone, first, second = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")
    )
    assert int((alone["0.weight"] == 0).sum()) == 32 * 6
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-4)
        assert torch.equal(first[name] == 0, value == 0)
