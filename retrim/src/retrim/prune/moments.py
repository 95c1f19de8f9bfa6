"""Sums of x xᵀ over the inputs x of layers, measured while a model runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from retrim.errors import WeightError
from retrim.prune.plan import Target

_LAYERS = ("Linear", "Conv1D", "Conv2d")
_MASK = "attention_mask"


class InputMoments:
    """Hooks that add up x xᵀ of every input x that a weight's matrix is multiplied with, until `stop`.

    Tokens that the model's argument ``attention_mask`` hides (whole numbers or bool, shape (batch, tokens)) are left
    out, and a pass that is computed again for its gradient counts once.

    Parameters
    ----------
    model : torch.nn.Module
    targets : sequence of Target
    training : bool
        Count passes of layers in training mode, or those in evaluation mode.
    diagonal : bool
        Only the diagonals.

    Attributes
    ----------
    metered : dict of str to Target
        Those that can be measured: weights of linear layers and of convolutions, but for convolutions in groups or
        with padding that is not zeros.
    sums : dict of str to torch.Tensor
        Shape (in, in), or (in,) of diagonals, by weight; of weights whose layers ran.
    """

    def __init__(
        self, model: nn.Module, targets: Sequence[Target], *, training: bool, diagonal: bool = False
    ) -> None:
        self.metered: dict[str, Target] = {}
        self.sums: dict[str, torch.Tensor] = {}
        self._training, self._diagonal, self._running = training, diagonal, False
        self._shown: torch.Tensor | None = None
        self._handles: list[Any] = []
        place = _place_of_mask(model)

        def begin(args: Sequence[Any], named: Mapping[str, Any]) -> None:
            self._running, self._shown = True, _shown(place, args, named)

        def end(args: Sequence[Any], named: Mapping[str, Any]) -> None:
            self._running, self._shown = False, None

        for target in targets:
            for name in (target.name, *target.aliases):
                owner = model.get_submodule(name.rpartition(".")[0])
                if _measurable(owner, target):
                    self.metered[target.name] = target
                    meter = _Hook(self._meter(owner, target))
                    self._handles.append(owner.register_forward_pre_hook(meter, with_kwargs=True))
        # Of the model itself last: where it is a layer too, it must have begun.
        first = model.register_forward_pre_hook(_Hook(begin), with_kwargs=True, prepend=True)
        last = model.register_forward_hook(_Hook(end), with_kwargs=True, always_call=True)
        self._handles += [first, last]

    def stop(self) -> None:
        """Remove the hooks; sums stay."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _meter(self, owner: nn.Module, target: Target) -> Callable[[Sequence[Any], Mapping[str, Any]], None]:
        @torch.no_grad()
        def measure(args: Sequence[Any], named: Mapping[str, Any]) -> None:
            # A pass that is computed again for its gradient runs without the model.
            if owner.training is not self._training or not self._running:
                return
            x = args[0] if args else next(iter(named.values()))
            rows = self._inputs(owner, x.detach(), torch.promote_types(target.parameter.dtype, torch.float32))
            with torch.autocast(rows.device.type, enabled=False):
                moment = rows.square().sum(dim=0) if self._diagonal else rows.T @ rows
            held = self.sums.get(target.name)
            self.sums[target.name] = moment if held is None else held + moment

        return measure

    def _inputs(self, owner: nn.Module, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """What a layer's matrix is multiplied with, shape (rows, in), without hidden tokens."""
        x = x.to(dtype)
        if isinstance(owner, nn.Conv2d):
            padding: Any = owner.padding
            x = x if x.ndim == 4 else x[None]
            columns = functional.unfold(x, owner.kernel_size, owner.dilation, padding, owner.stride)
            kernel = columns.shape[1] // owner.in_channels
            parts = columns.reshape(len(x), owner.in_channels, kernel, -1).permute(0, 3, 2, 1)
            return parts.reshape(-1, kernel * owner.in_channels)
        shown = self._shown
        if shown is not None and x.ndim > 2 and x.shape[:2] == shown.shape:
            return x[shown.to(x.device)].reshape(-1, x.shape[-1])
        return x.reshape(-1, x.shape[-1])


class StepMoments:
    """Sums of x xᵀ over whole training steps, of all processes: `measure` before a step, `gather` after it.

    Parameters
    ----------
    diagonal : bool
        Only the diagonals.

    Attributes
    ----------
    sums : dict of str to torch.Tensor
        Shape (in, in), or (in,) of diagonals, by weight.
    """

    def __init__(self, *, diagonal: bool = False) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self._diagonal = diagonal
        self._inputs: InputMoments | None = None  # its sums are of this step, in this process

    def measure(self, model: nn.Module, targets: Sequence[Target]) -> None:
        """Start measuring, unless it is on already."""
        if self._inputs is None:
            self._inputs = InputMoments(model, targets, training=True, diagonal=self._diagonal)

    def gather(self) -> None:
        """Add this step's sums, of all processes, to those of the steps before."""
        if self._inputs is None:
            return
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        for name, target in self._inputs.metered.items():
            fresh = self._inputs.sums.pop(name, None)
            if together:  # also where this process saw nothing: the others wait
                columns = target.matrix().shape[1]
                if fresh is None:
                    fresh = torch.zeros(
                        (columns,) if self._diagonal else (columns, columns),
                        dtype=torch.promote_types(target.parameter.dtype, torch.float32),
                        device=target.parameter.device,
                    )
                torch.distributed.all_reduce(fresh)
            if fresh is not None:
                held = self.sums.get(name)
                self.sums[name] = fresh if held is None else held.to(fresh.device) + fresh

    def stop(self) -> None:
        """Measure no more; sums stay."""
        if self._inputs is not None:
            self._inputs.stop()
        self._inputs = None

    def clear(self) -> None:
        """Stop measuring, and forget the sums."""
        self.stop()
        self.sums = {}

    def load(self, sums: Mapping[str, torch.Tensor], targets: Sequence[Target]) -> None:
        """Stop measuring, and take over saved sums."""
        self.stop()
        self.sums = {t.name: sums[t.name].to(t.parameter.device) for t in targets if t.name in sums}


def damped(name: str, total: torch.Tensor, damping: float) -> torch.Tensor | None:
    """A second moment over the mean of its diagonal, with `damping` on the diagonal; None if all inputs were zero.

    Raises
    ------
    WeightError
        If inputs were not finite, naming the weight.
    """
    mean = mean_square(name, torch.diagonal(total))
    if mean == 0:
        return None
    return total / mean + damping * torch.eye(total.shape[0], device=total.device, dtype=total.dtype)


def mean_square(name: str, squares: torch.Tensor) -> float:
    """The mean of sums of squares of inputs, shape (in,).

    Raises
    ------
    WeightError
        If inputs were not finite, naming the weight.
    """
    mean = float(squares.mean())
    if not mean < float("inf"):
        raise WeightError(
            f"{name}: the inputs of a layer must be finite to prune it by them, but hold NaN or infinity: "
            "go back to a checkpoint from before training diverged"
        )
    return mean


class _Hook:
    """A hook of one module: its copies, and those in files, do nothing."""

    def __init__(self, act: Callable[[Sequence[Any], Mapping[str, Any]], None] | None = None) -> None:
        self._act = act

    def __call__(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any], *out: Any) -> None:
        if self._act is not None:
            self._act(args, named)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


def _place_of_mask(model: nn.Module) -> int | None:
    """Place of the argument that hides tokens, among those of the model's call."""
    names = list(inspect.signature(model.forward).parameters)
    return names.index(_MASK) if _MASK in names else None


def _shown(place: int | None, args: Sequence[Any], named: Mapping[str, Any]) -> torch.Tensor | None:
    """Which tokens of a batch are shown, shape (batch, tokens); None where nothing is said."""
    found = named.get(_MASK)
    if found is None and place is not None and place < len(args):
        found = args[place]
    if not isinstance(found, torch.Tensor) or found.ndim != 2 or found.is_floating_point():
        return None
    return found.bool()


def _measurable(owner: nn.Module, target: Target) -> bool:
    """Whether a layer's matrix is multiplied with its inputs as they come (or unfolded)."""
    if getattr(owner, "weight", None) is not target.parameter:
        return False
    if not any(known.__name__ in _LAYERS for known in type(owner).__mro__):
        return False
    if isinstance(owner, nn.Conv2d):
        weight = owner.weight
        plain = owner.groups == 1 and owner.padding_mode == "zeros" and not isinstance(owner.padding, str)
        order = torch.arange(weight.numel(), device=weight.device).reshape(weight.shape)
        return plain and torch.equal(target.matrix(order), order.permute(0, 2, 3, 1).flatten(1))
    return True
