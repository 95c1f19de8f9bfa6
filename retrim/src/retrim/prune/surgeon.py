"""Optimal brain surgeon, layer by layer: what is pruned is made up for by what is kept.

Of each layer with inputs x the error E|Wx - W'x|² depends on H = E[x xᵀ] alone.  Removing a column j
costs |w_j|² / [H⁻¹]_jj if all others are moved to where the error is least,
W' = W - w_j [H⁻¹]_j· / [H⁻¹]_jj (Hassibi and Stork; for layers and in rounds Frantar and Alistarh,
arXiv 2208.11580).  docs/retrim/pruners/surgeon.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from retrim.errors import ConfigError, RetrimError, WeightError
from retrim.prune.magnitude import CubicSchedule, on_the_way
from retrim.prune.plan import Plan, Target
from retrim.prune.pruner import Hardened, Probe, Pruner
from retrim.structures import BlockColumns, Density, Mask, Support

ROUND = 64
"""Of the columns that are left, one in so many goes in each round."""
_LAYERS = ("Linear", "Conv1D", "Conv2d")
_MASK = "attention_mask"


class OptimalBrainSurgeon(Pruner):
    """Prune by the error at each layer's outputs, and correct what is kept.

    Block columns are removed one after the other by what they cost.  Of other structures the support
    is that of largest norm, and what is kept is fitted to the layer's outputs.

    Parameters
    ----------
    schedule : CubicSchedule, optional
        Prune gradually; without it, once, after `batches` steps.
    batches : int, default 32
        Up to so many steps' inputs are measured before each pruning.
    damping : float, default 0.01
        Added to the diagonal of H, times its mean.

    Notes
    -----
    Inputs are measured in the model's own training passes; tokens that the model's argument
    ``attention_mask`` hides (whole numbers or bool, shape (batch, tokens)) are left out.
    """

    def __init__(
        self, schedule: CubicSchedule | None = None, *, batches: int = 32, damping: float = 0.01
    ) -> None:
        super().__init__()
        if type(batches) is not int or batches < 1:
            raise ConfigError(f"batches must be a whole number >= 1, not {batches}")
        if not 0 < damping < float("inf"):
            raise ConfigError(f"damping must be a number > 0, not {damping}")
        self.schedule, self.batches, self.damping = schedule, batches, damping
        self._model: nn.Module | None = None
        self._moments: dict[str, torch.Tensor] = {}  # of the steps that are done, over all processes
        self._fresh: dict[str, torch.Tensor] = {}  # of this step, in this process
        self._metered: dict[str, Target] = {}
        self._handles: list[Any] = []
        self._running = False
        self._shown: torch.Tensor | None = None
        self._by_norm: dict[str, None] = {}

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Weights that were pruned by norm, since no inputs were seen.

        Those of other layers than linear ones and convolutions, of convolutions in groups or with padding that is
        not zeros, and all of a model that was not called in training mode.
        """
        return tuple(self._by_norm)

    def prepare(self, model: nn.Module, plan: Plan) -> None:
        before, self._model = self._model, model
        try:
            super().prepare(model, plan)
        except RetrimError:
            self._model = before
            raise

    def harden(self) -> list[Hardened]:
        report = super().harden()
        self._stop_measuring()
        self._moments = {}
        return report

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._stop_measuring()
        if not self._hardened:
            self._measure_if_due()

    def _begin(self) -> None:
        self._stop_measuring()
        self._moments, self._by_norm = {}, {}
        self._measure_if_due()

    def _add_gradient(self) -> None:
        pass  # nothing is penalised

    def _advance(self, probe: Probe | None) -> None:
        self._gather()
        if self._due(self._steps):
            for target in self.targets:
                density = self._density(target)
                if density is not None:
                    pruned, support = self._pruned(target, target.matrix(), density)
                    target.parameter.copy_(target.restore(pruned))
                    self._supports[target.name] = support
            self._stop_measuring()
            self._moments = {}
        self._measure_if_due()

    def _final(self, target: Target, matrix: torch.Tensor) -> tuple[torch.Tensor, Support]:
        projected, support = super()._final(target, matrix)
        if torch.equal(projected, matrix):
            return projected, support
        return self._pruned(target, matrix, target.density)

    def _state(self) -> dict[str, Any]:
        return {"moments": dict(self._moments)}

    def _load(self, state: dict[str, Any]) -> None:
        held = state["moments"]
        self._moments = {t.name: held[t.name].to(t.parameter.device) for t in self.targets if t.name in held}

    # --- when ---------------------------------------------------------------------

    def _due(self, step: int) -> bool:
        return step == self.batches if self.schedule is None else self.schedule.due(step)

    def _density(self, target: Target) -> Density | None:
        return target.density if self.schedule is None else on_the_way(self.schedule, self._steps, target)

    def _measure_if_due(self) -> None:
        """Measure the inputs of the next step if a pruning comes within `batches` of them."""
        if any(self._due(self._steps + ahead) for ahead in range(1, self.batches + 1)):
            self._start_measuring()

    # --- inputs -------------------------------------------------------------------

    def _start_measuring(self) -> None:
        model = self._model
        if self._handles or model is None:
            return
        place = _place_of_mask(model)

        def begin(args: Sequence[Any], named: Mapping[str, Any]) -> None:
            self._running, self._shown = True, _shown(place, args, named)

        def end(args: Sequence[Any], named: Mapping[str, Any]) -> None:
            self._running, self._shown = False, None

        for target in self.targets:
            for name in (target.name, *target.aliases):
                owner = model.get_submodule(name.rpartition(".")[0])
                if _measurable(owner, target):
                    self._metered[target.name] = target
                    meter = _Hook(self._meter(owner, target))
                    self._handles.append(owner.register_forward_pre_hook(meter, with_kwargs=True))
        # Of the model itself last: where it is a layer too, it must have begun.
        first = model.register_forward_pre_hook(_Hook(begin), with_kwargs=True, prepend=True)
        last = model.register_forward_hook(_Hook(end), with_kwargs=True, always_call=True)
        self._handles += [first, last]

    def _stop_measuring(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles, self._metered, self._fresh = [], {}, {}
        self._running, self._shown = False, None

    def _meter(self, owner: nn.Module, target: Target) -> Callable[[Sequence[Any], Mapping[str, Any]], None]:
        @torch.no_grad()
        def measure(args: Sequence[Any], named: Mapping[str, Any]) -> None:
            # A pass that is computed again for its gradient runs without the model.
            if not (owner.training and self._running):
                return
            x = args[0] if args else next(iter(named.values()))
            rows = self._inputs(owner, x.detach(), torch.promote_types(target.parameter.dtype, torch.float32))
            with torch.autocast(rows.device.type, enabled=False):
                moment = rows.T @ rows
            held = self._fresh.get(target.name)
            self._fresh[target.name] = moment if held is None else held + moment

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

    def _gather(self) -> None:
        """Add this step's sums, of all processes, to those of the steps before."""
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        for name, target in self._metered.items():
            fresh = self._fresh.pop(name, None)
            if together:  # also where this process saw nothing: the others wait
                columns = target.matrix().shape[1]
                dtype = torch.promote_types(target.parameter.dtype, torch.float32)
                if fresh is None:
                    fresh = torch.zeros(columns, columns, dtype=dtype, device=target.parameter.device)
                torch.distributed.all_reduce(fresh)
            if fresh is not None:
                held = self._moments.get(name)
                self._moments[name] = fresh if held is None else held.to(fresh.device) + fresh

    def _second_moment(self, target: Target) -> torch.Tensor | None:
        """H with its damping, shape (in, in), over the mean of its diagonal."""
        total = self._moments.get(target.name)
        if total is None:
            return None
        mean = float(torch.diagonal(total).mean())
        if not mean < float("inf"):
            raise WeightError(
                f"{target.name}: the inputs of a layer must be finite to prune it by them, but hold NaN or infinity: "
                "go back to a checkpoint from before training diverged"
            )
        if mean == 0:
            return None
        return total / mean + self.damping * torch.eye(total.shape[0], device=total.device, dtype=total.dtype)

    def _pruned(self, target: Target, matrix: torch.Tensor, density: Density) -> tuple[torch.Tensor, Support]:
        projected, support = target.structure.project(matrix, density)
        moment = self._second_moment(target)
        if moment is None or not isinstance(support, Mask):
            self._by_norm[target.name] = None
            return projected, support
        weight = matrix.to(moment.dtype)
        if isinstance(target.structure, BlockColumns):
            counts = support.mask[:: target.structure.rows].sum(dim=1).tolist()
            found, kept = _without_columns(weight, moment, target.structure, counts)
            return found.to(matrix.dtype), Mask(kept)
        return _fitted(weight, moment, support.mask).to(matrix.dtype), support


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


def _without_columns(
    weight: torch.Tensor, moment: torch.Tensor, structure: BlockColumns, counts: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix whose row blocks keep so many columns, and what is kept.

    Columns that are zero already cost nothing, and go first.
    """
    found, kept = torch.zeros_like(weight), torch.zeros_like(weight, dtype=torch.bool)
    inverse = torch.linalg.inv(moment)
    for block, count in enumerate(counts):
        rows = slice(block * structure.rows, (block + 1) * structure.rows)
        columns, values = _eliminated(weight[rows], inverse, structure.group, count)
        found[rows, columns] = values
        kept[rows, columns] = True
    return found, kept


def _eliminated(
    weight: torch.Tensor, inverse: torch.Tensor, group: int, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns that are left of one block, `count` of them, ascending, and their values."""
    left = torch.arange(weight.shape[1], device=weight.device)
    weight, inverse = weight.clone(), inverse.clone()
    while len(left) > count:
        goes = min(max(1, len(left) // (ROUND * group)), (len(left) - count) // group)
        cheapest = torch.topk(_costs(weight, inverse, group), goes, largest=False).indices
        out = (cheapest[:, None] * group + torch.arange(group, device=left.device)).flatten()
        stays = torch.ones(len(left), dtype=torch.bool, device=left.device)
        stays[out] = False
        gain = torch.linalg.solve(inverse[out][:, out], inverse[out][:, stays])
        weight = weight[:, stays] - weight[:, out] @ gain
        inverse = inverse[stays][:, stays] - inverse[stays][:, out] @ gain
        left = left[stays]
    return left, weight


def _costs(weight: torch.Tensor, inverse: torch.Tensor, group: int) -> torch.Tensor:
    """Error that each group of neighbouring columns would leave, shape (groups,)."""
    if group == 1:
        return weight.square().sum(dim=0) / torch.diagonal(inverse)
    groups = weight.shape[1] // group
    place = torch.arange(groups, device=weight.device)
    small = inverse.reshape(groups, group, groups, group)[place, :, place]  # (groups, group, group)
    columns = weight.reshape(-1, groups, group).permute(1, 2, 0)
    costs: torch.Tensor = (columns * torch.linalg.solve(small, columns)).sum(dim=(1, 2))
    return costs


def _fitted(weight: torch.Tensor, moment: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Rows on their supports, at the least error of the outputs."""
    supports, place = torch.unique(mask, dim=0, return_inverse=True)
    found = torch.zeros_like(weight)
    for number, support in enumerate(supports):
        there, rows = support.nonzero().flatten(), (place == number).nonzero().flatten()
        if bool(support.all()):
            found[rows] = weight[rows]
        elif len(there):
            wanted = moment[there] @ weight[rows].T
            found[rows[:, None], there] = torch.linalg.solve(moment[there][:, there], wanted).T
    return found
