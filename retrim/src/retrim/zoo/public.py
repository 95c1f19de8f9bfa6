"""Weights that others published, read safely and checked name by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from retrim.errors import ArtifactError

_SUFFIXES = (".th", ".pt", ".pth", ".safetensors")
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
_COUNTER = "num_batches_tracked"  # of batch norm: absent from old files, and nothing is computed with it
_SHOWN = 3


def load_public(model: nn.Module, path: Path | str, *, ignore: Sequence[str] = ()) -> nn.Module:
    """Put published weights into `model`, all of them or none.

    Parameters
    ----------
    model : Module
        With the names of the published implementation; changed in place.
    path : Path
        `.th`, `.pt`, `.pth` (tensors only: nothing in the file is executed) or
        `.safetensors`.  The weights may lie under "state_dict" or "model", and
        their names may all begin with "module." (DataParallel).
    ignore : sequence of str
        Beginnings of names that the file may hold and the model need not:
        `("fc.",)` for a backbone, `("aux_",)` for lanes without the auxiliary branch.

    Returns
    -------
    Module
        `model`, for chaining.

    Raises
    ------
    ArtifactError
        If the file cannot be read, or names or shapes differ; `model` is as it was.
    """
    path = Path(path)
    given = _without_prefix(read_public(path))
    wanted = model.state_dict()
    given = {name: tensor for name, tensor in given.items() if name in wanted or not _begins(name, ignore)}
    _check(path, given, wanted)
    model.load_state_dict(given, strict=False)
    return model


def read_public(path: Path | str) -> dict[str, torch.Tensor]:
    """All tensors of a file of weights, by name, on the CPU; see `load_public`."""
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise ArtifactError(f"weights {str(path)!r} must end in {', '.join(_SUFFIXES)}, not {path.suffix!r}")
    if not path.is_file():
        raise ArtifactError(f"weights {str(path)!r} must be a file that exists")
    try:
        content = _read(path)
    except Exception as error:
        raise ArtifactError(
            f"weights {str(path)!r} must be a whole file of plain tensors, but cannot be read "
            f"({type(error).__name__}): fetch it again, or save its state_dict alone"
        ) from error
    return _tensors(path, content)


def _read(path: Path) -> Any:
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _tensors(path: Path, content: Any) -> dict[str, torch.Tensor]:
    while isinstance(content, Mapping):
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    if isinstance(content, Mapping):
        named = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
        if named and len(named) == len(content):
            return named
    raise ArtifactError(
        f"weights {str(path)!r} must hold tensors by name (a state_dict), not {_describe(content)}: save the "
        "model's state_dict()"
    )


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        others = [repr(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
        return f"a dict with {_list(others)} that are none" if others else "an empty dict"
    return f"a {type(content).__name__}"


def _without_prefix(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    prefix = "module."
    if all(name.startswith(prefix) for name in named):
        return {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    return named


def _begins(name: str, beginnings: Sequence[str]) -> bool:
    return any(name.startswith(beginning) for beginning in beginnings)


def _check(path: Path, given: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    missing = [name for name in wanted if name not in given and not name.endswith(_COUNTER)]
    unexpected = [name for name in given if name not in wanted]
    misshaped = [
        f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
        for name in given
        if name in wanted and given[name].shape != wanted[name].shape
    ]
    wrong = [
        f"{len(names)} {what} ({_list(names)})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshaped))
        if names
    ]
    if wrong:
        raise ArtifactError(
            f"weights {str(path)!r} must fit the network name by name, but there are {', '.join(wrong)}: build "
            "the network that the weights were trained for"
        )
    broken = [name for name, tensor in given.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ArtifactError(
            f"weights {str(path)!r} must be finite, but those of {_list(broken)} are not: fetch the file again"
        )


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
