"""Models of torch that run on a level set: layers that ask for their pack, and a root that pins the level."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.runtime.level_set import LevelSet
from retrim.runtime.matrix import PackedMatrix
from retrim.torch.linear import PackedLinear, applied, taken
from retrim.torch.packing import put_module


class LevelLinear(nn.Module):
    """A linear layer whose pack belongs to the level that is on; for inference.

    Parameters
    ----------
    levels : LevelSet of PackedLinear or PackedMatrix
    name : str
        Of the layer in the set.
    """

    def __init__(self, levels: LevelSet[Any], name: str) -> None:
        super().__init__()
        self.levels, self.name = levels, name
        self.in_features, self.out_features = _features(levels.layer(name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.levels.layer(self.name)
        if isinstance(layer, PackedMatrix):
            return applied(layer, taken(layer, x))
        found: torch.Tensor = layer(x)
        return found

    def extra_repr(self) -> str:
        """Shape and the names of the levels, as torch prints modules."""
        names = ", ".join(self.levels.names)
        return f"in_features={self.in_features}, out_features={self.out_features}, levels={names}"


def _features(layer: PackedLinear | PackedMatrix) -> tuple[int, int]:
    """Inputs and outputs."""
    matrix = layer if isinstance(layer, PackedMatrix) else layer.matrix
    return matrix.inputs, matrix.outputs


def put_levels_(model: nn.Module, levels: LevelSet[Any]) -> nn.Module:
    """Replace a model's layers by those of a level set, in place; each call of `model` then runs on one level.

    Parameters
    ----------
    model : torch.nn.Module
    levels : LevelSet of PackedLinear or PackedMatrix
        Layers by their paths in the model.

    Returns
    -------
    torch.nn.Module
        `model`, in evaluation mode; ``model.levels`` is the set, to switch.

    Raises
    ------
    ConfigError
        If the model has no such layer, or one of other features.
    """
    with levels.pinned() as on:
        for path, layer in on.layers.items():
            try:
                there: Any = model.get_submodule(path)
            except AttributeError:
                raise ConfigError(
                    f"a level's layer must be one of the model's, but it has no {path!r}"
                ) from None
            sizes = tuple(getattr(there, name, None) for name in ("in_features", "out_features"))
            inputs, outputs = _features(layer)
            if sizes not in ((inputs, outputs), (None, None)):
                raise ConfigError(
                    f"{path}: the layer must have {inputs} inputs and {outputs} outputs, not {sizes[0]} and {sizes[1]}"
                )
        for path in on.layers:
            put_module(model, path, LevelLinear(levels, path))
    calls = threading.local()  # a thread's calls of this model, innermost last: the outermost alone unpins

    def begin(*_: Any) -> None:
        calls.began = [*getattr(calls, "began", ()), levels.pin()]

    def end(*_: Any) -> None:
        if calls.began.pop():
            levels.unpin()

    model.register_forward_pre_hook(begin)
    model.register_forward_hook(end, always_call=True)
    model.__dict__["levels"] = levels
    return model.eval()
