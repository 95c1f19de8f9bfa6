"""One choice for each of several items, of least cost under a budget of sizes: a multiple-choice knapsack.

Dynamic programming over the items (Sinha and Zoltners, Operations Research 27 (1979) 503,
name the problem).  Sizes are counted beyond the least of each item, in units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from retrim.errors import ConfigError, DensityError

Option = tuple[int, float]
"""Size and cost of one choice."""

UNITS = 1 << 16
"""Units that a budget is cut into at most."""


def allocate(options: Sequence[Sequence[Option]], budget: int, units: int = UNITS) -> list[int]:
    """Choose one option of each item so that the costs add up to least and the sizes to at most `budget`.

    Exact where the budget beyond the least sizes is at most `units` times the
    greatest common divisor of the sizes beyond the least.  Else units are coarser and
    sizes rounded up to them: the budget holds, and the cost is at most the
    optimum of a budget smaller by one unit for each item.

    Parameters
    ----------
    options : sequence of sequences of (int, float)
        For each item its choices: size >= 0 and cost.
    budget : int
    units : int

    Returns
    -------
    list of int
        Place of the chosen option of each item; of equal costs the largest size in all, then from the last
        item on the smaller size, then the first.

    Raises
    ------
    ConfigError
        If an item has no option, or a cost is not finite.
    DensityError
        If even the smallest options exceed the budget.
    """
    for place, choices in enumerate(options):
        if not choices:
            raise ConfigError(f"item {place} must have an option to choose from, but has none")
        if not all(math.isfinite(cost) for _, cost in choices):
            raise ConfigError(f"costs of item {place} must be finite, not {[cost for _, cost in choices]}")
    least = [min(size for size, _ in choices) for choices in options]
    room = budget - sum(least)
    if room < 0:
        raise DensityError(f"the budget must hold the smallest options, {sum(least)} together, not {budget}")
    beyond = [[size - base for size, _ in choices] for choices, base in zip(options, least, strict=True)]
    room = min(room, sum(max(sizes) for sizes in beyond))
    unit = math.gcd(*(size for sizes in beyond for size in sizes)) or 1
    if room > units * unit:
        unit = -(-room // units)
    items = [
        [(-(-size // unit), cost) for size, (_, cost) in zip(sizes, choices, strict=True)]
        for sizes, choices in zip(beyond, options, strict=True)
    ]
    return _walk(_tables(items, room // unit), items)


def _tables(items: Sequence[Sequence[Option]], room: int) -> tuple[np.ndarray, np.ndarray]:
    """Least cost for exactly s units, shape (room + 1,), and the option of each item there, shape (items, room + 1)."""
    best = np.full(room + 1, np.inf)
    best[0] = 0.0
    chosen = np.zeros((len(items), room + 1), dtype=np.int32)
    for place, choices in enumerate(items):
        following = np.full(room + 1, np.inf)
        for number in sorted(range(len(choices)), key=lambda n: choices[n][0]):
            size, cost = choices[number]
            if size > room:
                continue
            reached = best[: room + 1 - size] + cost
            better = reached < following[size:]
            following[size:][better] = reached[better]
            chosen[place, size:][better] = number
        best = following
    return best, chosen


def _walk(tables: tuple[np.ndarray, np.ndarray], items: Sequence[Sequence[Option]]) -> list[int]:
    """The options that lead to the least cost, from the last item back."""
    best, chosen = tables
    left = len(best) - 1 - int(np.argmin(best[::-1]))
    found = []
    for place in range(len(items) - 1, -1, -1):
        number = int(chosen[place, left])
        found.append(number)
        left -= items[place][number][0]
    return found[::-1]
