"""Activations that packed layers of well-known Transformers take in."""

from __future__ import annotations

import re

from torch import nn
from torch.nn import functional
from transformers.activations import GELUActivation, GELUTanh, NewGELUActivation

from retrim.runtime.matrix import Activation
from retrim.torch.packing import put_module, take_activation

_AFTER = {
    r"(.*encoder\.layer\.\d+\.intermediate)\.dense": r"\1.intermediate_act_fn",
    r"(.*transformer\.layer\.\d+\.ffn)\.lin1": r"\1.activation",
    r"(.*h\.\d+\.mlp)\.c_fc": r"\1.act",
}
"""Layers, and the activation that is applied to what each gives, and to nothing else."""


def activation_after(layer: str) -> str:
    """Path of the activation after a layer; empty where there is none to take in."""
    for pattern, after in _AFTER.items():
        if re.fullmatch(pattern, layer):
            return re.sub(pattern, after, layer)
    return ""


def fused(model: nn.Module, layer: str) -> Activation | None:
    """Name of the activation after a layer, if kernels know it; it is then replaced by the identity."""
    path = activation_after(layer)
    try:
        module = model.get_submodule(path) if path else None
    except AttributeError:
        return None
    if module is None:
        return None
    name = _known(module)
    if name is None:
        return take_activation(model, path)
    put_module(model, path, nn.Identity())
    return name


def _known(module: nn.Module) -> Activation | None:
    if isinstance(module, NewGELUActivation | GELUTanh):
        return "gelu_tanh"
    if isinstance(module, GELUActivation) and module.act is functional.gelu:
        return "gelu"
    return None
