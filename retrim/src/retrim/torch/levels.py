"""Models of torch that run on a level set: layers that ask for their pack, a root that pins the level, and the
artifacts that hold such models.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from retrim.artifact import Artifact, Level, Pack, PackedWeight
from retrim.artifact.layout import ListView, parse, unpack
from retrim.artifact.lists import groups, pack_lists
from retrim.errors import ConfigError
from retrim.runtime.level_set import LevelSet, Resident
from retrim.runtime.matrix import Activation, PackedMatrix
from retrim.runtime.repack import Stock, Stocked
from retrim.runtime.tuning import tune
from retrim.torch.linear import PackedLinear, applied, taken
from retrim.torch.packing import (
    artifact_of,
    fusions_of,
    kind_of,
    layers_of,
    leave_fast_paths,
    load_tensors,
    put_module,
    put_packed,
    take_activation,
)

Mode = Literal["resident", "nested", "repack"]
PRECISIONS = ("fp32", "bf16")
"""In which packs with levels are loaded again."""
Masks = Mapping[str, torch.Tensor]


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

    @property
    def matrix(self) -> PackedMatrix:
        """The pack that is on."""
        layer = self.levels.layer(self.name)
        found: PackedMatrix = layer if isinstance(layer, PackedMatrix) else layer.matrix
        return found

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
    leave_fast_paths(model, LevelLinear)
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


def check_precisions(precisions: Sequence[str]) -> None:
    """Refuse precisions that packs with levels do not come in.

    Raises
    ------
    ConfigError
        If one is another, one is there twice, or there is none.
    """
    for place, precision in enumerate(precisions):
        if precision not in PRECISIONS:
            raise ConfigError(f"precision of levels must be {' or '.join(PRECISIONS)}, not {precision!r}")
        if precision in precisions[:place]:
            raise ConfigError(f"precisions of levels must differ, but {precision!r} is there twice")
    if not precisions:
        raise ConfigError(f"precision of levels must be {' or '.join(PRECISIONS)}, but there is none")


def pack_levels(
    model: nn.Module,
    levels: Mapping[str, Masks],
    *,
    height: int,
    nested: bool = False,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    architecture: str,
    config: Mapping[str, Any],
    precisions: Sequence[str] = ("fp32",),
    **others: Any,
) -> Artifact:
    """Pack a model with its levels: what any of them keeps, once, and which of it each keeps.

    Parameters
    ----------
    model : torch.nn.Module
        With the weights that all levels share.
    levels : mapping of str to mapping of str to Tensor of bool
        By name, the densest first, the masks of parameters, all of the same ones, each of its parameter's shape.
        Rows of a group agree.
    height : {1, 2, 4, 8}
        Rows of a group.
    nested : bool
        Store each level as the first so much of the next denser one; masks must lie within each other.
    facts : mapping of str to dict, optional
        What is known of levels, ready for JSON.
    architecture, config, others
        As `retrim.torch.pack`.
    precisions : sequence of {"fp32", "bf16"}

    Returns
    -------
    Artifact

    Raises
    ------
    ConfigError
        If there is no level, they differ in parameters, rows of a group differ, nested masks do not lie
        within each other, or precisions are not as `check_precisions` has them.
    """
    check_precisions(precisions)
    if not levels:
        raise ConfigError("a model must have a level at least to be packed with levels")
    names = list(next(iter(levels.values())))
    for level, masks in levels.items():
        if list(masks) != names:
            raise ConfigError(
                f"all levels must mask the same parameters, but {level!r} differs from the first"
            )
    weights = {
        name: _levelled(
            model,
            name,
            [masks[name] for masks in levels.values()],
            height,
            nested=nested,
            precisions=precisions,
        )
        for name in names
    }
    order = {level: len(levels) - place for place, level in enumerate(levels)}
    known = facts or {}
    found = artifact_of(
        model,
        weights,
        architecture=architecture,
        config=config,
        levels={name: Level(order[name] if nested else None, known.get(name, {})) for name in levels},
        **others,
    )
    for alias, name in found.aliases.items():
        both = {alias, name} & weights.keys()
        if both:
            other = ({alias, name} - both) or {alias}
            raise ConfigError(
                f"{both.pop()}: a weight with levels must be of one layer, but is tied to {other.pop()!r}"
            )
    return found


def _levelled(
    model: nn.Module,
    name: str,
    masks: Sequence[torch.Tensor],
    height: int,
    *,
    nested: bool,
    precisions: Sequence[str],
) -> PackedWeight:
    kind = kind_of(model, name)
    parameter = model.get_parameter(name).detach()

    def matrix(value: torch.Tensor) -> np.ndarray:
        own = value if kind == "linear" else value.T
        return np.ascontiguousarray(own.cpu().numpy())

    weight, kept = matrix(parameter.float()), [matrix(mask) for mask in masks]
    try:
        cells = np.stack([groups(weight, mask, height) for mask in kept])
        whole = np.logical_or.reduce(kept)
        stored = kept[::-1] if nested else [whole]
        packs = tuple(Pack(p, height, pack_lists(weight, stored, height, p)) for p in precisions)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return PackedWeight(
        shape=tuple(parameter.shape),
        kind=kind,
        structure={"type": "Elements"},
        density=float(whole.mean()),
        packs=packs,
        levels=None if nested else cells,
    )


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer whose weight has levels."""

    weight: PackedWeight
    pack: Pack
    bias: np.ndarray | None
    activation: Activation | None

    def packed(self, pack: np.ndarray) -> PackedMatrix:
        found = PackedMatrix(pack, self.bias, self.activation)
        tune(found)
        return found


def load_levels_(
    model: nn.Module,
    artifact: Artifact,
    *,
    mode: Mode | None = None,
    level: str | None = None,
    precision: str | None = None,
    fuse: bool = True,
) -> nn.Module:
    """Put an artifact with levels into `model`, in place; ``model.levels.switch`` then chooses one.

    Parameters
    ----------
    model : torch.nn.Module
        Of the artifact's architecture.
    mode : {"resident", "nested", "repack"}, optional
        What a switch costs and what memory levels take (`retrim.runtime.level_set`).  Default: nested where the
        artifact's levels are, else resident.
    level : str, optional
        That is on first; default: the artifact's first.
    precision, fuse
        As `retrim.torch.pack_`.

    Returns
    -------
    torch.nn.Module
        `model`, in evaluation mode.

    Raises
    ------
    ConfigError
        If the artifact has no levels, no such level, or none that are nested; or a precision does not run.
    ShapeError, ArtifactError
        As `retrim.torch.pack_`.
    """
    if not artifact.levels:
        raise ConfigError("an artifact must have levels to be loaded with them: use retrim.torch.pack_")
    nested = all(found.segments is not None for found in artifact.levels.values())
    mode = mode or ("nested" if nested else "resident")
    if mode == "nested" and not nested:
        raise ConfigError(
            "levels must be nested to share a pack, but this artifact's are free: use mode 'resident' or 'repack'"
        )
    if level is not None and level not in artifact.levels:
        raise ConfigError(f"level must be one of {', '.join(artifact.levels)}, not {level!r}")
    owners = layers_of(model, artifact, precision)
    load_tensors(model, artifact)
    levelled = [name for name, weight in artifact.weights.items() if _has_levels(weight)]
    others = {name: owner for name, owner in owners.items() if name not in levelled}
    fusions = fusions_of(model) if fuse else {}
    put_packed(model, artifact, others, fusions, precision)
    layers: dict[str, _Layer] = {}
    for name in levelled:
        (path, owner), weight = owners[name], artifact.weights[name]
        bias = getattr(owner, "bias", None)
        layers[path] = _Layer(
            weight,
            weight.packs[0] if precision is None else weight.pack(precision),
            None if bias is None else bias.detach().float().numpy().copy(),
            take_activation(model, fusions.get(path)),
        )
    levels = LevelSet(_SOURCES[mode](artifact.levels, layers), level or next(iter(artifact.levels)))
    return put_levels_(model, levels)


def _has_levels(weight: PackedWeight) -> bool:
    view = parse(weight.packs[0].data)
    return weight.levels is not None or (isinstance(view, ListView) and view.segments > 1)


def _resident(levels: Mapping[str, Level], layers: Mapping[str, _Layer]) -> Resident[PackedMatrix]:
    """Levels of equal masks share their packs."""
    found: dict[str, dict[str, PackedMatrix]] = {name: {} for name in levels}
    for path, layer in layers.items():
        weight = unpack(layer.pack.data)[0]
        made: dict[bytes, PackedMatrix] = {}
        for place, (name, level) in enumerate(levels.items()):
            mask = layer.weight.level_mask(place, level)
            key = np.packbits(mask).tobytes()
            if key not in made:
                made[key] = layer.packed(pack_lists(weight, mask, layer.pack.rows, layer.pack.precision))
            found[name][path] = made[key]
    return Resident(found)


def _nested(levels: Mapping[str, Level], layers: Mapping[str, _Layer]) -> Resident[PackedMatrix]:
    packed = {path: layer.packed(layer.pack.data) for path, layer in layers.items()}
    return Resident(
        {
            name: {path: matrix.at(level.segments or 1) for path, matrix in packed.items()}
            for name, level in levels.items()
        }
    )


def _repack(levels: Mapping[str, Level], layers: Mapping[str, _Layer]) -> Stocked:
    return Stocked(
        {
            path: Stock(
                unpack(layer.pack.data)[0],
                {
                    name: layer.weight.level_mask(place, level)
                    for place, (name, level) in enumerate(levels.items())
                },
                layer.pack.rows,
                layer.pack.precision,
                layer.bias,
                layer.activation,
            )
            for path, layer in layers.items()
        }
    )


_SOURCES: dict[str, Callable[[Mapping[str, Level], Mapping[str, _Layer]], Any]] = {
    "resident": _resident,
    "nested": _nested,
    "repack": _repack,
}
