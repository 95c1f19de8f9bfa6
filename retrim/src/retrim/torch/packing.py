"""From a hardened model to an artifact, and from an artifact back into a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from retrim.artifact import Artifact, Level, Pack, PackedWeight, Tensor
from retrim.artifact.layout import PRECISIONS
from retrim.errors import ArtifactError, ConfigError, ShapeError, WeightError
from retrim.prune import Pruner, Target
from retrim.runtime import pages
from retrim.runtime.matrix import Activation
from retrim.structures import Mask, Support
from retrim.structures.base import to_numpy
from retrim.torch.linear import PackedLinear, matrix_of

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

_KINDS = {"Linear": "linear", "Conv1D": "conv1d"}
"""Layers that can run packed, by the names of their classes; Hugging Face's Conv1D stores (in, out)."""


def pack(
    model: nn.Module,
    pruner: Pruner | None,
    *,
    architecture: str,
    config: Mapping[str, Any],
    tokenizer: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    precisions: Sequence[str] = ("fp32",),
) -> Artifact:
    """Pack a hardened model, or (without a pruner) a dense one.

    Parameters
    ----------
    pruner : Pruner, optional
        Hardened; its targets are packed by the structures of its plan.
    architecture, config : str, dict
        What builds the model again.
    precisions : sequence of {"fp32", "bf16", "int8"}
        Every weight is packed once in each; the first is what `pack_` takes.

    Raises
    ------
    ConfigError
        If the pruner was not hardened, or a weight has left its structure since, or a precision is unknown.
    WeightError
        If a weight is not finite.
    """
    if pruner is not None and not pruner.hardened:
        raise ConfigError("a model must be hardened before it is packed: call pruner.harden()")
    if isinstance(precisions, str) or not _are_precisions(precisions):
        raise ConfigError(
            f"precisions must be one or more of {', '.join(PRECISIONS)}, each once, not {precisions!r}"
        )
    targets = {} if pruner is None else {target.name: target for target in pruner.targets}
    weights = {
        name: _packed(target, pruner.supports[name], precisions)  # type: ignore[union-attr]
        for name, target in targets.items()
    }
    aliases = {alias: target.name for target in targets.values() for alias in target.aliases}
    return artifact_of(
        model,
        weights,
        architecture=architecture,
        config=config,
        aliases=aliases,
        tokenizer=tokenizer,
        metrics=metrics,
        provenance=provenance,
    )


def artifact_of(
    model: nn.Module,
    weights: Mapping[str, PackedWeight],
    *,
    architecture: str,
    config: Mapping[str, Any],
    aliases: Mapping[str, str] | None = None,
    levels: Mapping[str, Level] | None = None,
    tokenizer: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Artifact:
    """Packed weights with everything else of the model; parameters as `pack`."""
    tensors, tied = _dense(model, weights.keys())
    tied |= aliases or {}
    for alias in tied:
        tensors.pop(alias, None)
    return Artifact(
        architecture=architecture,
        config=dict(config),
        tensors=tensors,
        aliases=tied,
        weights=dict(weights),
        levels=dict(levels or {}),
        tokenizer=tokenizer,
        metrics=dict(metrics or {}),
        provenance=dict(provenance or {}),
    )


def _are_precisions(named: Sequence[str]) -> bool:
    return len(named) > 0 and set(named) <= set(PRECISIONS) and len(set(named)) == len(named)


def _packed(target: Target, support: Support, precisions: Sequence[str]) -> PackedWeight:
    structure = target.structure
    matrix = target.matrix()
    if not bool(torch.isfinite(matrix).all()):
        raise WeightError(
            f"{target.name}: a weight must be finite to be packed, but holds NaN or infinity: "
            "go back to a checkpoint from before training diverged"
        )
    if not torch.equal(support.apply(matrix), matrix):
        raise ConfigError(
            f"{target.name}: a weight must keep its structure until it is packed, but what was pruned is no "
            "longer zero: call pruner.step() after every optimiser step, or harden again"
        )
    packs = tuple(
        Pack(precision, structure.pack_height, structure.pack(matrix, support, precision))
        for precision in precisions
    )
    mask = to_numpy(support.mask) if isinstance(support, Mask) else None
    told = structure.unpack(packs[0].data)[1].mask
    return PackedWeight(
        shape=tuple(target.parameter.shape),
        kind=target.kind,
        structure=structure.to_dict(),
        density=support.density,
        packs=packs,
        support=None if mask is None or np.array_equal(mask, told) else mask,
    )


def _dense(model: nn.Module, packed: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of the state dict that are not packed, each once, and the other names of shared ones."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[int, Any, Any], str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        value = value.detach()
        key = (value.data_ptr(), tuple(value.shape), value.stride())
        if value.numel() and key in first:
            aliases[name] = first[key]
            continue
        first[key] = name
        if name not in packed:
            tensors[name] = _tensor(name, value)
    return tensors, aliases


def _tensor(name: str, value: torch.Tensor) -> Tensor:
    if value.dtype not in _TYPES:
        raise ArtifactError(f"{name}: a tensor must not be of type {value.dtype}: convert it before packing")
    value = value.cpu().contiguous()
    bits = value.view(torch.int16) if value.dtype == torch.bfloat16 else value
    array = bits.numpy()
    if value.dtype == torch.bfloat16:
        array = array.view(np.uint16)
    return Tensor(_TYPES[value.dtype], array.copy())


def dense_state(artifact: Artifact, level: str | None = None) -> dict[str, torch.Tensor]:
    """State dict of the whole model with dense weights (zeros in place), tied names included.

    Parameters
    ----------
    level : str, optional
        Of an artifact with levels; default: its first.

    Raises
    ------
    ConfigError
        If there is no such level.
    """
    if level is not None and level not in artifact.levels:
        raise ConfigError(f"level must be one of {', '.join(artifact.levels) or 'none'}, not {level!r}")
    state = {name: _to_torch(tensor) for name, tensor in artifact.tensors.items()}
    chosen = level or next(iter(artifact.levels), None)
    for name, weight in artifact.weights.items():
        dense = torch.from_numpy(matrix_of(weight))
        if chosen is not None:
            mask = torch.from_numpy(
                weight.level_mask(list(artifact.levels).index(chosen), artifact.levels[chosen])
            )
            dense *= mask.T if weight.kind == "conv1d" else mask.reshape(dense.shape)
        state[name] = dense
    return state | {alias: state[name] for alias, name in artifact.aliases.items()}


def _to_torch(tensor: Tensor) -> torch.Tensor:
    value = torch.from_numpy(np.array(tensor.data))  # a copy: the file is mapped read-only
    return value.view(torch.bfloat16) if tensor.dtype == "BF16" else value


def pack_(
    model: nn.Module, artifact: Artifact, *, fuse: bool = True, precision: str | None = None
) -> nn.Module:
    """Put an artifact's weights into `model`, packed, in place.

    Layers whose weight is packed become `PackedLinear`; every other tensor is
    loaded as it is.  The profile of this machine, where there is one, chooses
    their kernels (`retrim.runtime.tuning`); packs of 4 MiB and more together are
    copied to huge pages.

    Parameters
    ----------
    model : torch.nn.Module
        Of the artifact's architecture.
    fuse : bool, default True
        Take an activation into the layer before it where the model names the
        pair (``model.fusions()``: layer name to activation name).
    precision : {"fp32", "bf16", "int8"}, optional
        Which pack of each weight runs; default: its first.

    Returns
    -------
    torch.nn.Module
        `model`, in evaluation mode.

    Raises
    ------
    ShapeError
        If the model and the artifact do not have the same names and shapes.
    ConfigError
        If a packed weight is not that of a linear layer, or of one that stores it transposed.
    ArtifactError
        If a weight was not packed in the precision.
    """
    if artifact.levels:
        raise ConfigError(
            "an artifact with levels must be loaded with retrim.torch.levels.load_levels_: pack_ knows one shape alone"
        )
    layers = layers_of(model, artifact, precision)
    load_tensors(model, artifact)
    put_packed(model, artifact, layers, fusions_of(model) if fuse else {}, precision)
    leave_fast_paths(model)
    return model.eval()


def layers_of(
    model: nn.Module, artifact: Artifact, precision: str | None
) -> dict[str, tuple[str, nn.Module]]:
    """Path and layer of every name of a packed weight, after checking that model and artifact fit."""
    check_fit(model, artifact)
    if precision is not None:
        for name, weight in artifact.weights.items():
            _check_precision(name, weight, precision)
    return {
        name: owner_of(model, name, artifact.weights[own].kind)
        for name, own in _named(artifact)
        if own in artifact.weights
    }


def _named(artifact: Artifact) -> list[tuple[str, str]]:
    """Every name, and the one that its numbers are stored under."""
    return [(name, name) for name in (*artifact.tensors, *artifact.weights)] + list(artifact.aliases.items())


def load_tensors(model: nn.Module, artifact: Artifact) -> None:
    """Copy what is not packed into the model, which fits."""
    state = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, own in _named(artifact):
            if own in artifact.tensors:
                state[name].copy_(_to_torch(artifact.tensors[own]))


def put_packed(
    model: nn.Module,
    artifact: Artifact,
    layers: Mapping[str, tuple[str, nn.Module]],
    fusions: Mapping[str, str],
    precision: str | None,
) -> None:
    """Replace layers, by the names of their weights, by packed ones."""
    weights = placed_weights(artifact, precision)
    done: dict[nn.Module, PackedLinear] = {}  # one layer may have several names
    for name, (path, layer) in layers.items():
        if layer in done:
            put_module(model, path, done[layer])
            continue
        activation = take_activation(model, fusions.get(path))
        bias = getattr(layer, "bias", None)
        own = artifact.aliases.get(name, name)
        done[layer] = PackedLinear(weights[own], bias, activation, precision)
        put_module(model, path, done[layer])


def placed_weights(artifact: Artifact, precision: str | None) -> Mapping[str, PackedWeight]:
    """The weights, the packs that will run in huge pages if there are enough of them."""
    running = {
        name: weight.packs[0] if precision is None else weight.pack(precision)
        for name, weight in artifact.weights.items()
    }
    if sum(pack.data.nbytes for pack in running.values()) < pages.LEAST:
        return artifact.weights
    placed = pages.place([pack.data for pack in running.values()])
    moved = {id(pack): replace(pack, data=data) for pack, data in zip(running.values(), placed, strict=True)}
    return {
        name: replace(weight, packs=tuple(moved.get(id(pack), pack) for pack in weight.packs))
        for name, weight in artifact.weights.items()
    }


def fusions_of(model: nn.Module) -> dict[str, str]:
    """Layer name to name of the activation after it, where the model's ``fusions()`` says so."""
    find: Callable[[], dict[str, str]] | None = getattr(model, "fusions", None)
    return {} if find is None else find()


def check_fit(model: nn.Module, artifact: Artifact) -> None:
    """Refuse a model that does not have the artifact's names and shapes.

    Raises
    ------
    ShapeError
        Naming the first tensor that differs.
    """
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    stored = {name: tuple(tensor.data.shape) for name, tensor in artifact.tensors.items()}
    stored |= {name: weight.shape for name, weight in artifact.weights.items()}
    stored |= {alias: stored[name] for alias, name in artifact.aliases.items()}
    for name in sorted(shapes.keys() ^ stored.keys()):
        where = "the artifact" if name in stored else "the model"
        raise ShapeError(
            f"the model must be the artifact's ({artifact.architecture}), but only {where} has {name!r}"
        )
    for name, shape in stored.items():
        if shapes[name] != shape:
            raise ShapeError(
                f"{name}: the model must have the artifact's shape {shape}, not {shapes[name]}: build it from "
                "the artifact's configuration"
            )


def _check_precision(name: str, weight: PackedWeight, precision: str) -> None:
    try:
        weight.pack(precision)
    except ArtifactError as error:
        raise ArtifactError(f"{name}: {error}: pack the model with it in `precisions`") from None


def kind_of(model: nn.Module, name: str) -> str:
    """How the layer of a weight stores it.

    Raises
    ------
    ConfigError
        If it is no linear layer's.
    """
    layer = model.get_submodule(name.rpartition(".")[0])
    kinds = [_KINDS[known.__name__] for known in type(layer).__mro__ if known.__name__ in _KINDS]
    if not kinds:
        raise ConfigError(
            f"{name}: a weight must be that of a linear layer to have levels, not of {type(layer).__name__}"
        )
    return kinds[0]


def owner_of(model: nn.Module, name: str, kind: str) -> tuple[str, nn.Module]:
    """Path and layer of a packed weight, after checking that the layer means by it what the pack does."""
    path, _, leaf = name.rpartition(".")
    layer = model.get_submodule(path)
    kinds = [known.__name__ for known in type(layer).__mro__]
    # torch's own mark for a linear layer whose owner (attention) reads the weight past its forward
    opaque = "NonDynamicallyQuantizableLinear" in kinds
    found = next((_KINDS[known] for known in kinds if known in _KINDS), None)
    if leaf != "weight" or found is None or opaque:
        raise ConfigError(
            f"{name}: a packed weight must be that of a linear layer to run packed, not of {type(layer).__name__}: "
            "load the dense state instead"
        )
    if found != kind:  # a square weight would fit, and be read transposed
        raise ConfigError(
            f"{name}: a weight packed as {kind} must be that of a layer that stores it so, not of "
            f"{type(layer).__name__}: build the model that was packed, or load the dense state if that one ties "
            "both kinds"
        )
    return path, layer


def take_activation(model: nn.Module, path: str | None) -> Activation | None:
    """Name of the activation at `path` if kernels know it; it is then replaced by the identity."""
    if path is None:
        return None
    module = model.get_submodule(path)
    name: Activation | None = None
    if type(module) is nn.ReLU:
        name = "relu"
    elif type(module) is nn.GELU:
        name = "gelu_tanh" if module.approximate == "tanh" else "gelu"
    if name is not None:
        put_module(model, path, nn.Identity())
    return name


def leave_fast_paths(model: nn.Module, kind: type[nn.Module] = PackedLinear) -> None:
    """Make torch's own Transformer layers call their linear layers: their fast paths read the weights."""
    for module in model.modules():
        packed = any(isinstance(part, kind) for part in module.modules())
        if packed and isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # not one that the fast path knows
        elif packed and isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False


def put_module(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
