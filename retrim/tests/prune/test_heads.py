"""Heads of torch's own attention, described by hand."""

from __future__ import annotations

import torch
from torch import nn

from retrim.prune import Attention, Magnitude, Plan, Rule, head_energies, keep_heads, with_heads
from retrim.structures import Filters


def test_torchs_own_attention() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        model.in_proj_bias.normal_()
    layer = Attention(inputs=("in_proj_weight",), output="out_proj.weight", heads=4)
    (kept,) = keep_heads(head_energies(model, [layer]), 0.5)
    plan = with_heads(
        Plan([Rule(weights="*proj*weight", structure=Filters(), density=None)]), model, [layer], [kept]
    )
    pruner = Magnitude()
    pruner.prepare(model, plan)
    pruner.harden()
    rows = torch.tensor(
        [part * 16 + head * 4 + row for part in range(3) for head in kept for row in range(4)]
    )
    x = torch.randn(2, 5, 16)
    q, k, v = (
        (x @ model.in_proj_weight[rows].T + model.in_proj_bias[rows])
        .reshape(2, 5, 3, 2, 4)
        .permute(2, 0, 3, 1, 4)
    )
    mixed = torch.softmax(q @ k.transpose(-1, -2) / 2, -1) @ v
    columns = torch.tensor([head * 4 + row for head in kept for row in range(4)])
    wanted = (
        mixed.transpose(1, 2).reshape(2, 5, 8) @ model.out_proj.weight[:, columns].T + model.out_proj.bias
    )
    with torch.no_grad():
        found, _ = model.eval()(x, x, x)
        torch.testing.assert_close(found, wanted)
    gone = torch.tensor([row for row in range(48) if row not in rows.tolist()])
    assert (model.in_proj_weight[gone] == 0).all() and (model.in_proj_bias[gone] == 0).all()
    assert (model.in_proj_weight[rows] != 0).all() and (model.in_proj_bias[rows] != 0).all()
    others = torch.tensor([column for column in range(16) if column not in columns.tolist()])
    assert (model.out_proj.weight[:, others] == 0).all() and (model.out_proj.weight[:, columns] != 0).all()


def test_a_score_is_of_the_output_too() -> None:
    torch.manual_seed(0)
    model = nn.MultiheadAttention(16, 4)
    layer = Attention(inputs=("in_proj_weight",), output="out_proj.weight", heads=4)
    before = head_energies(model, [layer])[0]
    with torch.no_grad():
        model.out_proj.weight[:, 4:8] = 0
        model.in_proj_weight[16 + 8 : 16 + 12] = 0  # the third head's key
    after = head_energies(model, [layer])[0]
    assert (after < before).tolist() == [False, True, True, False]
