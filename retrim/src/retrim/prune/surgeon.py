"""Optimal brain surgeon, layer by layer: what is pruned is made up for by what is kept.

Of each layer with inputs x the error E|Wx - W'x|² depends on H = E[x xᵀ] alone.  Removing a column j
costs |w_j|² / [H⁻¹]_jj if all others are moved to where the error is least,
W' = W - w_j [H⁻¹]_j· / [H⁻¹]_jj (Hassibi and Stork; for layers and in rounds Frantar and Alistarh,
arXiv 2208.11580).  docs/retrim/pruners/surgeon.md.
"""

from __future__ import annotations

from typing import Any

import torch

from retrim.errors import ConfigError
from retrim.prune.magnitude import CubicSchedule, on_the_way
from retrim.prune.moments import StepMoments, damped
from retrim.prune.plan import Target
from retrim.prune.pruner import Hardened, Probe, Pruner
from retrim.structures import BlockColumns, Density, Mask, Segments, Support

ROUND = 64
"""Of the columns that are left, one in so many goes in each round."""


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
        self._moments = StepMoments()
        self._by_norm: dict[str, None] = {}

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Weights that were pruned by norm, since no inputs were seen.

        Those of other layers than linear ones and convolutions, of convolutions in groups or with padding that is
        not zeros, and all of a model that was not called in training mode.
        """
        return tuple(self._by_norm)

    def harden(self) -> list[Hardened]:
        report = super().harden()
        self._moments.clear()
        return report

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if not self._hardened:
            self._measure_if_due()

    def _begin(self) -> None:
        self._moments.clear()
        self._by_norm = {}
        self._measure_if_due()

    def _add_gradient(self) -> None:
        pass  # nothing is penalised

    def _advance(self, probe: Probe | None) -> None:
        self._moments.gather()
        if self._due(self._steps):
            for target in self.targets:
                density = self._density(target)
                if density is not None:
                    pruned, support = self._pruned(target, target.matrix(), density)
                    target.parameter.copy_(target.restore(pruned))
                    self._supports[target.name] = support
            self._moments.clear()
        self._measure_if_due()

    def _projected(self, target: Target, matrix: torch.Tensor) -> tuple[torch.Tensor, Support]:
        projected, support = super()._projected(target, matrix)
        if torch.equal(projected, matrix):
            return projected, support
        return self._pruned(target, matrix, target.density)

    def _state(self) -> dict[str, Any]:
        return {"moments": dict(self._moments.sums), "by_norm": list(self._by_norm)}

    def _load(self, state: dict[str, Any]) -> None:
        self._moments.load(state["moments"], self.targets)
        self._by_norm = dict.fromkeys(state.get("by_norm", ()))

    # --- when ---------------------------------------------------------------------

    def _due(self, step: int) -> bool:
        return step == self.batches if self.schedule is None else self.schedule.due(step)

    def _density(self, target: Target) -> Density | None:
        return target.density if self.schedule is None else on_the_way(self.schedule, self._steps, target)

    def _measure_if_due(self) -> None:
        """Measure the inputs of the next step if a pruning comes within `batches` of them."""
        if any(self._due(self._steps + ahead) for ahead in range(1, self.batches + 1)):
            self._moments.measure(self.model, self.targets)

    def _second_moment(self, target: Target) -> torch.Tensor | None:
        """H with its damping, shape (in, in), over the mean of its diagonal."""
        total = self._moments.sums.get(target.name)
        return None if total is None else damped(target.name, total, self.damping)

    def _pruned(self, target: Target, matrix: torch.Tensor, density: Density) -> tuple[torch.Tensor, Support]:
        projected, support = target.structure.project(matrix, density)
        moment = self._second_moment(target)
        if moment is None or not isinstance(support, Mask):
            self._by_norm[target.name] = None
            return projected, support
        weight = matrix.to(moment.dtype)
        structure = target.structure
        if isinstance(structure, BlockColumns):
            found, kept = _without_columns(weight, moment, structure, support.mask)
            return found.to(matrix.dtype), Mask(kept)
        if isinstance(structure, Segments) and isinstance(structure.inner, BlockColumns):
            found, kept = _inside_segments(weight, moment, structure, structure.inner, support.mask)
            return found.to(matrix.dtype), Mask(kept)
        return _fitted(weight, moment, support.mask).to(matrix.dtype), support


def _without_columns(
    weight: torch.Tensor, moment: torch.Tensor, structure: BlockColumns, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix whose row blocks keep as many columns as in `mask`, and what is kept.

    Columns that are zero already cost nothing, and go first.
    """
    counts = mask[:: structure.rows].sum(dim=1).tolist()
    found, kept = torch.zeros_like(weight), torch.zeros_like(weight, dtype=torch.bool)
    inverse = inverted(moment)
    for block, count in enumerate(counts):
        rows = slice(block * structure.rows, (block + 1) * structure.rows)
        columns, values, _ = eliminated(weight[rows][None], inverse[None], structure.group, count)
        found[rows, columns[0]] = values[0]
        kept[rows, columns[0]] = True
    return found, kept


def _inside_segments(
    weight: torch.Tensor, moment: torch.Tensor, structure: Segments, inner: BlockColumns, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Block columns of the kept segments; columns of the others go first, and those that stay make up for them too."""
    shape = (weight.shape[0], weight.shape[1])
    if structure.axis == "columns":
        stays = structure.put(torch.ones_like(structure.take(mask)), shape)
        weight = _fitted(weight, moment, stays)
        moment = structure.take(structure.take(moment).T)
    found, kept = _without_columns(structure.take(weight), moment, inner, structure.take(mask))
    return structure.put(found, shape), structure.put(kept, shape)


def inverted(moments: torch.Tensor) -> torch.Tensor:
    """Inverses of second moments, shape (…, in, in).

    Raises
    ------
    ConfigError
        If one is not positive definite.
    """
    factors, failed = torch.linalg.cholesky_ex(moments)
    if bool(failed.any()):
        raise ConfigError(
            "second moments of inputs must be positive definite to prune by them: raise damping"
        )
    return torch.cholesky_inverse(factors)


def eliminated(
    weight: torch.Tensor, inverse: torch.Tensor, group: int, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Columns that are left of each block, `count` of them, ascending, their values, and the inverses of their moments.

    Parameters
    ----------
    weight : torch.Tensor, shape (blocks, rows, in)
    inverse : torch.Tensor, shape (blocks, in, in), or (1, in, in) for all of them
        Of the second moment of a block's inputs.
    group : int
        Neighbouring columns that stay or go together.
    count : int
        As many groups, whole, must go.

    Raises
    ------
    ConfigError
        If no whole number of groups does.
    """
    blocks, _, columns = weight.shape
    if (columns - count) % group or not 0 <= count <= columns:
        raise ConfigError(f"of {columns} columns {count} cannot be left in groups of {group}")
    left = torch.arange(columns, device=weight.device).expand(blocks, columns)
    alive = torch.ones(blocks, columns // group, dtype=torch.bool, device=weight.device)
    weight, inverse = weight.clone(), inverse.expand(blocks, columns, columns).clone()
    remaining = columns
    while remaining > count:
        goes = min(max(1, remaining // (ROUND * group)), (remaining - count) // group)
        costs = _costs(weight, inverse, group).masked_fill(~alive, torch.inf)
        cheapest = torch.topk(costs, goes, dim=1, largest=False).indices
        _take_out_(weight, inverse, cheapest, group)
        alive.scatter_(1, cheapest, False)
        remaining -= goes * group
        if remaining == count or remaining < 0.75 * weight.shape[2]:  # until then they lie idle
            stay = alive.repeat_interleave(group, dim=1).nonzero()[:, 1].reshape(blocks, remaining)
            left, weight = left.gather(1, stay), _columns(weight, stay)
            inverse = _columns(inverse.take_along_dim(stay[:, :, None], 1), stay)
            alive = torch.ones(blocks, remaining // group, dtype=torch.bool, device=weight.device)
    return left, weight, inverse


def _take_out_(weight: torch.Tensor, inverse: torch.Tensor, groups: torch.Tensor, group: int) -> None:
    """Zero groups of columns, all others moved to where the error is least; the inverse as if the groups were never there.

    On its diagonal they have ones.
    """
    out = (groups[:, :, None] * group + torch.arange(group, device=groups.device)).flatten(1)
    there = inverse.take_along_dim(out[:, :, None], 1)
    corner = _columns(there, out)
    if corner.shape[1] == 1:
        gain = there / corner
    else:  # one by one: LU of a batch fails at times in several threads (pytorch issue 142815)
        gain = torch.stack([torch.linalg.solve(*pair) for pair in zip(corner, there, strict=True)])
    weight.baddbmm_(_columns(weight, out), gain, alpha=-1)
    inverse.baddbmm_(there.mT, gain, alpha=-1)
    weight.scatter_(2, out[:, None].expand(-1, weight.shape[1], -1), 0.0)
    inverse.scatter_(1, out[:, :, None].expand(-1, -1, inverse.shape[2]), 0.0)
    inverse.scatter_(2, out[:, None].expand(-1, inverse.shape[1], -1), 0.0)
    torch.diagonal(inverse, dim1=1, dim2=2).scatter_(1, out, 1.0)


def _columns(matrices: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Some columns of each matrix, shapes (blocks, rows, in) and (blocks, columns)."""
    found: torch.Tensor = matrices.take_along_dim(places[:, None], 2)
    return found


def _costs(weight: torch.Tensor, inverse: torch.Tensor, group: int) -> torch.Tensor:
    """Error that each group of neighbouring columns would leave, shape (blocks, groups)."""
    if group == 1:
        return weight.square().sum(dim=1) / torch.diagonal(inverse, dim1=1, dim2=2)
    blocks, rows, columns = weight.shape
    groups = columns // group
    cut = inverse.reshape(blocks, groups, group, groups, group)
    small = torch.diagonal(cut, dim1=1, dim2=3).permute(0, 3, 1, 2)  # (blocks, groups, group, group)
    values = weight.reshape(blocks, rows, groups, group).permute(0, 2, 3, 1)
    costs: torch.Tensor = (values * torch.linalg.solve(small, values)).sum(dim=(2, 3))
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
