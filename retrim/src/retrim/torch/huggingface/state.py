"""A pruner's state on disk: one safetensors file, whatever is no tensor as JSON in its header.

Nothing in it is ever executed.  The file also has the SHA-256 of the weights
that it belongs to, so that it cannot be taken up with those of another run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from retrim.errors import CheckpointError
from retrim.files import replacing

_FORMAT = "retrim.pruner"
_VERSION = "1"
_REFERENCE = "tensor"


def write_state(path: Path, state: dict[str, Any], weights: str) -> None:
    """Write a pruner's state beside `path`, then rename.

    Parameters
    ----------
    state : dict
        As `Pruner.state_dict` gives it: tensors, numbers, strings, lists and dictionaries.
    weights : str
        As `weights_digest` gives it.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_split(state, "", tensors))
    metadata = {"format": _FORMAT, "version": _VERSION, "weights": weights, "state": text}
    content = save(tensors, metadata)
    with replacing(path, "pruner's state", CheckpointError) as beside:
        beside.write_bytes(content)


def read_state(path: Path, weights: str) -> dict[str, Any]:
    """Read what `write_state` wrote, tensors on the CPU.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, newer, or belongs to other weights than `weights`.
    """
    if not path.is_file():
        raise CheckpointError(
            f"the checkpoint must hold the pruner's state {str(path)!r}, but there is no such file: resume from "
            "an older checkpoint, or name the folder in PruneCallback(resume_from=...)"
        )
    damaged = f"the pruner's state {str(path)!r} is damaged or no such state: resume from an older checkpoint"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(damaged) from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(damaged)
    if metadata.get("version") != _VERSION:
        raise CheckpointError(
            f"the pruner's state {str(path)!r} must be of version {_VERSION}, not {metadata.get('version')}: "
            "upgrade retrim"
        )
    if metadata.get("weights") != weights:
        raise CheckpointError(
            f"the pruner's state {str(path)!r} must belong to the weights that training goes on from, but was "
            "saved with others: name the right folder in PruneCallback(resume_from=...)"
        )
    try:
        state: dict[str, Any] = _join(json.loads(metadata["state"]), tensors)
    except (KeyError, ValueError) as error:
        raise CheckpointError(damaged) from error
    return state


def weights_digest(weights: Iterable[torch.Tensor]) -> str:
    """SHA-256 over the bytes of all of them, one after another."""
    found = hashlib.sha256()
    for weight in weights:
        found.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _split(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The value with each tensor replaced by a reference; a dictionary is marked, so that none is taken for one."""
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {_REFERENCE: path}
    if isinstance(value, dict):
        return {"of": {key: _split(part, f"{path}/{key}", tensors) for key, part in value.items()}}
    if isinstance(value, list | tuple):
        return [_split(part, f"{path}/{place}", tensors) for place, part in enumerate(value)]
    return value


def _join(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if _REFERENCE in value:
            return tensors[value[_REFERENCE]]
        return {key: _join(part, tensors) for key, part in value["of"].items()}
    if isinstance(value, list):
        return [_join(part, tensors) for part in value]
    return value
