"""How long switches of a level set take."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from retrim.runtime.level_set import LevelSet


def switch_ms(levels: LevelSet[Any], rounds: int = 20, names: Sequence[str] | None = None) -> list[float]:
    """Milliseconds of switches from every level to every other one; the level that was on is on again after them.

    Parameters
    ----------
    rounds : int
        Of all pairs.
    names : sequence of str, optional
        Of the levels that are switched between; default: all.

    Returns
    -------
    list of float
        Empty where there is but one level.
    """
    was, found = levels.level, []
    try:
        for _ in range(rounds):
            for before, after in itertools.permutations(names or levels.names, 2):
                levels.switch(before)
                began = time.perf_counter()
                levels.switch(after)
                found.append(1e3 * (time.perf_counter() - began))
    finally:
        levels.switch(was)
    return found
