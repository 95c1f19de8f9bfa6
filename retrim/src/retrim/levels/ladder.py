"""Lists of columns for several densities by the optimal brain surgeon, on one set of shared values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from retrim.errors import ConfigError
from retrim.prune.surgeon import eliminated


def surgeon_ladder(
    weight: torch.Tensor, moment: torch.Tensor, counts: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nested lists of one group of rows, and values that all of them share.

    Down the counts, columns leave as the optimal brain surgeon has it, what is left making up for them.  What the
    smallest count keeps takes the values that are best by themselves; then, up the counts, what a list adds takes the
    values with which it comes closest to the outputs of `weight`, those that sparser lists share standing fixed.

    Parameters
    ----------
    weight : torch.Tensor, shape (rows, in)
    moment : torch.Tensor, shape (in, in)
        Second moment of the inputs, positive definite.
    counts : sequence of int
        Columns of each list, never rising.

    Returns
    -------
    lists : torch.Tensor of int64, shape (in,)
        How many of the lists keep a column: list i keeps those above i.
    values : torch.Tensor, shape (rows, in)
        Zero where no list keeps.

    Raises
    ------
    ConfigError
        If counts rise, or are not from at most all columns to at least one.
    """
    columns = weight.shape[1]
    falling = all(more >= less for more, less in pairwise(counts))
    if not counts or not falling or counts[0] > columns or counts[-1] < 1:
        raise ConfigError(f"counts must not rise, from at most {columns} to at least 1, not {tuple(counts)}")
    lists = torch.zeros(columns, dtype=torch.int64, device=weight.device)
    left = torch.arange(columns, device=weight.device)
    kept, inverse = weight, torch.linalg.inv(moment)
    for count in counts:
        stay, kept, inverse = eliminated(kept, inverse, 1, count)
        left = left[stay]
        lists[left] += 1
    values = torch.zeros_like(weight)
    values[:, left] = kept
    for number in range(len(counts) - 1, 0, -1):
        added = (lists == number).nonzero().flatten()
        if len(added):
            wanted = (weight - values) @ moment[:, added]
            values[:, added] = torch.linalg.solve(moment[added][:, added], wanted.T).T
    return lists, values
