"""Whole attention heads: four slices of weights that stay or go together.

A head is rows of the query's, key's and value's weights and columns of the
output's.  It is scored by all four slices at once, those that stay are chosen, and
the choice becomes part of each weight's form (`retrim.structures.Segments`), so that
every pruner and every other structure works inside it.

References
----------
Michel, Levy and Neubig, Are sixteen heads really better than one?, arXiv 1905.10650 (heads of a
trained network by their importance).  Molchanov et al., arXiv 1611.06440, equation 7 (Taylor).
"""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from retrim.errors import ConfigError, ShapeError
from retrim.prune.lending import evaluating, lent
from retrim.prune.plan import Plan, Rule, Target
from retrim.prune.pruner import Probe
from retrim.structures import Filters, Segments
from retrim.structures.densities import Densities

PARTS = 3
"""Query, key and value."""

Scores = Sequence[torch.Tensor]
"""One number per head, shape (heads,), for each attention layer; heads of larger ones stay."""


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One attention layer's weights, by the names of their parameters.

    Parameters
    ----------
    inputs : tuple of str
        Query, key and value, matrices of shape (heads * size, in); or one of all three, stacked in this order.
    output : str
        Matrix of shape (out, heads * size).
    heads : int
    """

    inputs: tuple[str, ...]
    output: str
    heads: int

    def __post_init__(self) -> None:
        if len(self.inputs) not in (1, PARTS):
            raise ConfigError(
                f"inputs of an attention layer must be one weight or three, not {len(self.inputs)}"
            )
        if self.heads < 1:
            raise ConfigError(f"heads of an attention layer must be a whole number >= 1, not {self.heads}")

    @property
    def names(self) -> tuple[str, ...]:
        """All of its weights."""
        return (*self.inputs, self.output)

    @property
    def stacked(self) -> int:
        """Parts that lie in one input weight."""
        return PARTS // len(self.inputs)

    def segments(self, kept: Iterable[int]) -> tuple[int, ...]:
        """Segments of an input weight that belong to these heads."""
        heads = sorted(kept)
        return tuple(part * self.heads + head for part in range(self.stacked) for head in heads)

    def joined(self, targets: Mapping[str, Target], *, gradients: bool = False) -> torch.Tensor:
        """All four slices of every head side by side, shape (heads, entries of a head).

        Raises
        ------
        ShapeError
            If the weights are not those of so many heads.
        """
        slices = []
        for name in self.names:
            target = targets[name]
            given = target.parameter.grad if gradients else None
            matrix = torch.zeros_like(target.parameter) if gradients and given is None else given
            lines = target.matrix(matrix)
            lines, parts = (lines.T, 1) if name == self.output else (lines, self.stacked)
            if len(lines) % (parts * self.heads):
                raise ShapeError(
                    f"{name}: a weight of an attention layer must be that of {self.heads} heads, not of shape "
                    f"{tuple(target.parameter.shape)}"
                )
            by_head = lines.reshape(parts, self.heads, -1, lines.shape[1]).transpose(0, 1)
            slices.append(by_head.reshape(self.heads, -1))
        return torch.cat(slices, dim=1)


def head_energies(model: nn.Module, layers: Sequence[Attention]) -> list[torch.Tensor]:
    """Sum of squares over the four slices of each head, float64."""
    targets = _targets(model, layers)
    return [layer.joined(targets).double().square().sum(dim=1) for layer in layers]


def head_taylor(
    model: nn.Module,
    layers: Sequence[Attention],
    loss: Callable[[nn.Module, Any], torch.Tensor],
    batches: Iterable[Any],
) -> list[torch.Tensor]:
    """First-order loss change of dropping each head: mean over batches of ``|sum of W dL/dW|`` over its four slices.

    Parameters
    ----------
    loss : callable
        Mean loss of the model over a batch, a scalar; called in evaluation mode.

    Notes
    -----
    Gradients of the model are gone afterwards.
    """
    targets = _targets(model, layers)
    found = [torch.zeros(layer.heads, dtype=torch.float64) for layer in layers]
    count = 0
    with evaluating(model):
        for batch in batches:
            model.zero_grad(set_to_none=True)
            loss(model, batch).backward()  # type: ignore[no-untyped-call]
            for total, layer in zip(found, layers, strict=True):
                products = layer.joined(targets).double() * layer.joined(targets, gradients=True).double()
                total += products.sum(dim=1).abs().cpu()
            count += 1
    model.zero_grad(set_to_none=True)
    if not count:
        raise ConfigError("heads must be scored on one or more batches, not none")
    return [total / count for total in found]


@torch.no_grad()
def head_sensitivities(model: nn.Module, layers: Sequence[Attention], probe: Probe) -> list[torch.Tensor]:
    """By how much the loss grows when one head at a time is taken out, all four slices and biases.

    The weights are the same bits afterwards.

    Raises
    ------
    ConfigError
        If a loss is not finite.
    """
    dense = _finite(probe(), "the model as it is")
    found = []
    for number, layer in enumerate(layers):
        scores = torch.zeros(layer.heads, dtype=torch.float64)
        for head in range(layer.heads if layer.heads > 1 else 0):
            others = [one for one in range(layer.heads) if one != head]
            with ExitStack() as stack:
                _take_out(model, layer, others, stack)
                scores[head] = _finite(probe(), f"attention layer {number} without head {head}") - dense
        found.append(scores)
    return found


def keep_heads(scores: Scores, density: float, *, even: bool = True) -> list[tuple[int, ...]]:
    """Heads that stay: those of the largest scores, of equal ones the first.

    Parameters
    ----------
    scores : sequence of Tensor, shape (heads,)
    density : float
        Kept heads over all heads, rounded to the nearest that there is.
    even : bool
        The same number in every layer; else the best of the model, at least one in each layer.

    Returns
    -------
    list of tuple of int

    Raises
    ------
    ConfigError
        If a score is not finite, or there is no layer.
    DensityError
        If the density is out of range or reach.
    """
    if not scores or not all(bool(torch.isfinite(score).all()) for score in scores):
        raise ConfigError("scores of heads must be finite, and of one layer or more")
    if even:
        return [_best(score, Densities(len(score)).count(density)) for score in scores]
    first = [_best(score, 1)[0] for score in scores]  # every layer keeps its best
    room = Densities(sum(map(len, scores)), least=len(scores)).count(density) - len(scores)
    rest = [
        (-float(value), layer, head)
        for layer, score in enumerate(scores)
        for head, value in enumerate(score)
        if head != first[layer]
    ]
    chosen = {(layer, head) for _, layer, head in sorted(rest)[:room]} | set(enumerate(first))
    return [
        tuple(head for head in range(len(score)) if (layer, head) in chosen)
        for layer, score in enumerate(scores)
    ]


def with_heads(
    plan: Plan, model: nn.Module, layers: Sequence[Attention], kept: Sequence[Sequence[int]]
) -> Plan:
    """A plan of the same weights in which only some heads stay, the plan's structures inside them.

    A weight's density stays what it is, or falls to what its heads leave.

    Parameters
    ----------
    kept : sequence of sequences of int
        For each layer the heads that stay, counted from 0.

    Raises
    ------
    ConfigError
        If a weight of a layer is not in the plan, or the heads of a layer are none of its.
    ShapeError
        If a structure does not fit what the heads leave of a weight, naming the weight.
    """
    if len(kept) != len(layers):
        raise ConfigError(
            f"heads must be given for each of the {len(layers)} attention layers, not for {len(kept)}"
        )
    targets = {target.name: target for target in plan.resolve(model)}
    rules = {
        name: Rule(weights=_quoted(name), structure=t.structure, density=t.density)
        for name, t in targets.items()
    }
    for number, (layer, heads) in enumerate(zip(layers, kept, strict=True)):
        heads = sorted(heads)
        if not heads or len(set(heads)) < len(heads) or not 0 <= heads[0] <= heads[-1] < layer.heads:
            raise ConfigError(
                f"heads of attention layer {number} must be one or more of 0 to {layer.heads - 1}, each once, not {heads}"
            )
        for name in layer.names:
            if name not in targets:
                raise ConfigError(
                    f"a plan must have all weights of an attention layer whose heads are pruned, but {name!r} is in "
                    "none of its rules"
                )
            rules[name] = _inside(targets[name], layer, heads)
    return Plan(list(rules.values()))


def _inside(target: Target, layer: Attention, heads: Sequence[int]) -> Rule:
    """The rule of one weight of a layer."""
    rows, columns = target.matrix().shape
    output = target.name == layer.output
    extent, parts = (columns, 1) if output else (rows, layer.stacked)
    if extent % (parts * layer.heads):
        raise ShapeError(
            f"{target.name}: a weight of an attention layer must be that of {layer.heads} heads, not of shape "
            f"{tuple(target.parameter.shape)}"
        )
    structure = Segments(
        inner=target.structure,
        size=extent // (parts * layer.heads),
        kept=tuple(heads) if output else layer.segments(heads),
        axis="columns" if output else "rows",
    )
    try:
        structure.check((rows, columns))
    except ShapeError as error:
        raise ShapeError(f"{target.name}: {error}") from None
    density = target.density
    if not isinstance(density, tuple):
        density = min(density, structure.densest((rows, columns)))
    return Rule(weights=_quoted(target.name), structure=structure, density=density)


def _take_out(model: nn.Module, layer: Attention, others: Sequence[int], stack: ExitStack) -> None:
    """Zero all but these heads of a layer, until the stack is closed."""
    whole = Plan([Rule(weights=_quoted(name), structure=Filters(), density=None) for name in layer.names])
    for target in with_heads(whole, model, [layer], [others]).resolve(model):
        stack.enter_context(lent(target.parameter))
        projected, _ = target.structure.project(target.matrix(), target.density)
        target.parameter.copy_(target.restore(projected))
        if target.bias is not None:
            stack.enter_context(lent(target.bias))
            target.silence_(target.bias)


def _targets(model: nn.Module, layers: Sequence[Attention]) -> dict[str, Target]:
    names = [name for layer in layers for name in layer.names]
    if not names:
        raise ConfigError("heads must be those of one attention layer or more, not of none")
    plan = Plan([Rule(weights=_quoted(name), structure=Filters(), density=None) for name in names])
    return {target.name: target for target in plan.resolve(model)}


def _best(scores: torch.Tensor, count: int) -> tuple[int, ...]:
    order = sorted(range(len(scores)), key=lambda head: (-float(scores[head]), head))
    return tuple(sorted(order[:count]))


def _finite(loss: float, what: str) -> float:
    if not math.isfinite(loss):
        raise ConfigError(
            f"the probe's loss must be finite, but is {loss} for {what}: check the model and its batches"
        )
    return loss


def _quoted(name: str) -> str:
    """A glob that matches this name alone."""
    return glob.escape(name)
