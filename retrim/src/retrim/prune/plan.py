"""Plans: which structure and density each named weight gets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from retrim.errors import ConfigError, DensityError, ShapeError
from retrim.structures import Density, Kind, Structure

_KINDS: dict[str, Kind] = {"Linear": "linear", "Conv2d": "conv2d", "Conv1D": "conv1d"}
_LOOKED_UP = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One line of a plan.

    Parameters
    ----------
    weights : str
        Glob over parameter names (``*`` also matches dots), such as
        ``"blocks.*.ffn.*.weight"``.
    structure : Structure
    density : float or tuple of float, or None
        Kept weights over all weights, 0 < density <= 1; None for as many as the structure allows.
    """

    weights: str
    structure: Structure
    density: Density | None


@dataclass(frozen=True, eq=False)
class Target:
    """One weight of a model and the form that a plan gives it.

    Attributes
    ----------
    name : str
        First name of the parameter in the model.
    aliases : tuple of str
        Its other names, where it is shared or tied.
    parameter : torch.nn.Parameter
    kind : {"linear", "conv1d", "conv2d"}
    structure : Structure
    density : float or tuple of float
        As asked for.
    reached : float
        What the structure makes of it.
    bias : torch.nn.Parameter or None
        Shape (out,); held to zero where the structure silences outputs (`Structure.silent`).
    """

    name: str
    aliases: tuple[str, ...]
    parameter: nn.Parameter
    kind: Kind
    structure: Structure
    density: Density
    reached: float
    bias: nn.Parameter | None = None

    def silence_(self, tensor: torch.Tensor) -> None:
        """Zero the entries of silenced outputs in the bias, or in a tensor of its shape."""
        silent = self.structure.silent(self.structure.view_shape(tuple(self.parameter.shape), self.kind))
        if silent is not None:
            tensor[torch.from_numpy(silent).to(tensor.device)] = 0

    def matrix(self, tensor: torch.Tensor | None = None) -> torch.Tensor:
        """The weight, or a tensor of its shape, as the structure's matrix (detached)."""
        tensor = self.parameter if tensor is None else tensor
        view: torch.Tensor = self.structure.view(tensor.detach(), self.kind)
        return view

    def restore(self, matrix: torch.Tensor) -> torch.Tensor:
        """Undo `matrix`."""
        shape = tuple(self.parameter.shape)
        stored: torch.Tensor = self.structure.unview(matrix, shape, self.kind)
        return stored


@dataclass(frozen=True)
class Plan:
    """Rules, each for the weights that its glob matches; no weight may be matched twice."""

    rules: Sequence[Rule]

    def __post_init__(self) -> None:
        if not self.rules:
            raise ConfigError("a plan must have at least one rule")

    def resolve(self, model: nn.Module) -> list[Target]:
        """Find the plan's weights in `model`.

        Returns
        -------
        list of Target
            In the model's order.

        Raises
        ------
        ConfigError
            If a glob matches nothing, two rules match one weight, or a weight
            shares memory with another parameter without being tied to it.
        ShapeError
            If a structure does not fit a weight, naming the weight.
        DensityError
            If a density is out of range or out of reach, naming the weight.
        """
        named = dict(model.named_parameters(remove_duplicate=False))
        names_of: dict[int, list[str]] = {}
        for name, parameter in named.items():
            names_of.setdefault(id(parameter), []).append(name)
        chosen: dict[int, tuple[str, Rule]] = {}
        for rule in self.rules:
            for name in _matching(rule.weights, named):
                first, other = chosen.setdefault(id(named[name]), (name, rule))
                if other is not rule:
                    raise ConfigError(
                        f"a weight must be named by one rule only, but {_both(first, name)} is matched "
                        f"by {other.weights!r} and by {rule.weights!r}"
                    )
        _refuse_overlap({id(parameter): parameter for parameter in named.values()}, chosen.keys(), names_of)
        order = {name: place for place, name in enumerate(named)}
        targets = [_target(model, names_of[key], named[first], rule) for key, (first, rule) in chosen.items()]
        return sorted(targets, key=lambda target: order[target.name])


def _both(first: str, second: str) -> str:
    return repr(first) if first == second else f"{first!r} (tied to {second!r})"


def _matching(glob: str, named: Iterable[str]) -> list[str]:
    found = [name for name in named if fnmatchcase(name, glob)]
    if not found:
        weights = [name for name in named if name.endswith("weight")]
        raise ConfigError(
            f"weights {glob!r} must match a parameter of the model, but matches none: "
            f"its weights are {', '.join(weights[:6])}{', …' if len(weights) > 6 else ''}"
        )
    return found


def _refuse_overlap(
    parameters: dict[int, nn.Parameter], chosen: Collection[int], names_of: dict[int, list[str]]
) -> None:
    """Refuse a weight whose memory another parameter also sees: pruning one would prune both."""
    spans = sorted((*_span(parameter), key) for key, parameter in parameters.items())
    reach, widest = 0, 0
    for start, end, key in spans:
        if start < reach and (key in chosen or widest in chosen):
            pair = sorted((key, widest), key=list(names_of).index)
            first, second = (names_of[one][0] for one in pair)
            raise ConfigError(
                f"{first!r} and {second!r} must not be views of one memory: tie the parameters "
                "themselves, or give each its own"
            )
        if end > reach:
            reach, widest = end, key


def _span(parameter: nn.Parameter) -> tuple[int, int]:
    start = parameter.data_ptr()
    if not start or not parameter.numel():  # no memory of its own yet
        return 0, 0
    steps = sum((n - 1) * stride for n, stride in zip(parameter.shape, parameter.stride(), strict=True))
    return start, start + (1 + steps) * parameter.element_size()


def _target(model: nn.Module, names: list[str], parameter: nn.Parameter, rule: Rule) -> Target:
    name = names[0]
    kind = _kind_of(model, names, parameter)
    try:
        shape = rule.structure.view_shape(tuple(parameter.shape), kind)
        rule.structure.check(shape)
        density = rule.structure.densest(shape) if rule.density is None else rule.density
        reached = rule.structure.reached(shape, density)
    except (ConfigError, ShapeError, DensityError) as error:
        raise type(error)(f"{name}: {error}") from None
    silent = rule.structure.silent(shape)
    bias = None if silent is None else _bias_of(model, names)
    return Target(name, tuple(names[1:]), parameter, kind, rule.structure, density, reached, bias)


def _bias_of(model: nn.Module, names: list[str]) -> nn.Parameter | None:
    """The bias of a weight's layer, where there is one."""
    path, _, leaf = names[0].rpartition(".")
    bias = getattr(model.get_submodule(path), f"{leaf.removesuffix('weight')}bias", None)
    return bias if isinstance(bias, nn.Parameter) else None


def _kind_of(model: nn.Module, names: list[str], parameter: nn.Parameter) -> Kind:
    owners = [model.get_submodule(name.rpartition(".")[0]) for name in names]
    for owner in owners:
        for known in type(owner).__mro__:
            if known.__name__ in _KINDS:
                return _KINDS[known.__name__]
    if parameter.ndim == 2 and not any(isinstance(owner, _LOOKED_UP) for owner in owners):
        return "linear"
    raise ConfigError(
        f"{names[0]} must be the weight of a linear or convolution layer, not of "
        f"{type(owners[0]).__name__} with shape {tuple(parameter.shape)}"
    )
