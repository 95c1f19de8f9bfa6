"""A pruner's state on disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from retrim.errors import CheckpointError
from retrim.torch.huggingface.state import read_state, weights_digest, write_state

STATE: dict[str, Any] = {
    "steps": 7,
    "done": False,
    "nothing": None,
    "loss": math.inf,
    "rate": 0.1,
    "empty": {},
    "masks": {"a.weight": torch.tensor([[True, False]]), "of": torch.zeros(2, 3).T},
    "tensor": {"tensor": torch.arange(3).bfloat16()},
    "updates": [{"k": 1, "copy": torch.ones(1)}, {"k": 2, "copy": torch.ones(1)}],
}


def alike(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(alike(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(alike, first, second))
    return bool(first == second) and type(first) is type(second)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path / "pruner.safetensors", STATE, "abc")
    assert alike(read_state(tmp_path / "pruner.safetensors", "abc"), STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["pruner.safetensors"]


def test_a_file_that_is_newer_or_foreign(tmp_path: Path) -> None:
    path = tmp_path / "pruner.safetensors"
    save_file({"x": torch.zeros(1)}, path, {"format": "retrim.pruner", "version": "2"})
    with pytest.raises(CheckpointError) as caught:
        read_state(path, "abc")
    assert str(caught.value) == (
        f"the pruner's state {str(path)!r} must be of version 1, not 2: upgrade retrim"
    )
    for metadata in (None, {"format": "pt"}, {"format": "retrim.pruner", "version": "1", "weights": "abc"}):
        save_file(load_file(path), path, metadata)
        with pytest.raises(
            CheckpointError, match="is damaged or no such state: resume from an older checkpoint"
        ):
            read_state(path, "abc")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="cannot be written: No such file or directory; free some space"
    ):
        write_state(tmp_path / "none" / "pruner.safetensors", STATE, "abc")


def test_the_digest_is_of_bytes_in_order() -> None:
    one, two = torch.zeros(2), torch.ones(2)
    assert weights_digest([one, two]) == weights_digest([torch.tensor([0.0, 0.0, 1.0, 1.0])])
    assert weights_digest([one, two]) != weights_digest([two, one])
    assert weights_digest([one.bfloat16().requires_grad_()]) == weights_digest([torch.zeros(1)])
