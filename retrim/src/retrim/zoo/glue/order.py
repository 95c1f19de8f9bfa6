"""Which examples make which batch."""

from __future__ import annotations

import numpy as np

POOL = 50
"""Batches whose examples are sorted by length together."""


def shuffled(lengths: np.ndarray, size: int, seed: int, epoch: int, *, bucketed: bool) -> list[np.ndarray]:
    """Batches of one epoch: each example once, in an order that depends on the arguments alone.

    Parameters
    ----------
    lengths : ndarray of int, shape (n,)
        Tokens of each example.
    size : int
        Examples of a batch; one batch has what is left over.
    seed, epoch : int
    bucketed : bool
        Examples of about one length together, which saves padding: the shuffled ones are sorted in pools of
        `POOL` batches, and batches shuffled after that.

    Returns
    -------
    list of ndarray of int
    """
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(len(lengths))
    if not bucketed:
        return cut(order, size)
    batches = []
    for pool in cut(order, size * POOL):
        batches += cut(pool[np.argsort(lengths[pool], kind="stable")], size)
    return [batches[number] for number in draw.permutation(len(batches))]


def cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Pieces of `size`; the last may be shorter."""
    return [order[start : start + size] for start in range(0, len(order), size)]
