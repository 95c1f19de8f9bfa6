"""Lists of columns for several densities by the optimal brain surgeon, on one set of shared values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from retrim.errors import ConfigError
from retrim.prune.surgeon import eliminated, inverted


def surgeon_ladder(
    weight: torch.Tensor, moment: torch.Tensor, counts: Sequence[int], *, inverse: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nested lists of groups of rows, and values that all of a group's lists share.

    Down the counts, columns leave as the optimal brain surgeon has it, what is left making up for them.  Then up the
    counts, what a list adds to the sparser ones, the sparsest to nothing, takes the values with which it comes closest
    to the outputs of `weight` while theirs stand.

    Parameters
    ----------
    weight : torch.Tensor, shape (groups, rows, in)
    moment : torch.Tensor, shape (groups, in, in), or (1, in, in) for all of them
        Second moment of the inputs, positive definite; of the weight's dtype.
    counts : sequence of int
        Columns of each list, never rising.
    inverse : torch.Tensor, optional
        Of the moment.

    Returns
    -------
    depth : torch.Tensor of int64, shape (groups, in)
        How many of the lists keep a column: list i keeps those above i.
    values : torch.Tensor, shape (groups, rows, in)
        Zero where no list keeps.

    Raises
    ------
    ConfigError
        If counts rise, or are not from at most all columns to at least one, or a moment is not positive definite.
    """
    groups, _, columns = weight.shape
    falling = all(more >= less for more, less in pairwise(counts))
    if not counts or not falling or counts[0] > columns or counts[-1] < 1:
        raise ConfigError(f"counts must not rise, from at most {columns} to at least 1, not {tuple(counts)}")
    depth = torch.zeros(groups, columns, dtype=torch.int64, device=weight.device)
    left = torch.arange(columns, device=weight.device).expand(groups, columns)
    kept, inverse = weight, inverted(moment) if inverse is None else inverse
    for count in counts:
        stay, kept, inverse = eliminated(kept, inverse, 1, count)
        left = left.gather(1, stay)
        depth.scatter_add_(1, left, torch.ones_like(left))
    values = torch.zeros_like(weight)
    for number in range(len(counts), 0, -1):
        added = (depth == number).nonzero()[:, 1].reshape(groups, -1)
        if added.shape[1]:
            there = moment.expand(groups, columns, columns).take_along_dim(added[:, None], 2)
            wanted = (weight - values) @ there
            own = torch.linalg.cholesky(there.take_along_dim(added[:, :, None], 1))
            found = torch.cholesky_solve(wanted.mT, own).mT
            values.scatter_(2, added[:, None].expand(-1, weight.shape[1], -1), found)
    return depth, values
