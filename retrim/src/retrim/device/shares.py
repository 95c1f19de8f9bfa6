"""How the energy of a battery is shared between levels: by name, or as numbers."""

from __future__ import annotations

from collections.abc import Sequence

from retrim.device.discharge import Cost
from retrim.errors import DeviceError

NAMES = ("equal-energy", "equal-inferences", "equal-time", "fast-first", "slow-first")
"""``fast-first`` and ``slow-first``: shares n, n-1, … 1 from the fastest level to the slowest, and back."""


def named(name: str, costs: Sequence[Cost]) -> tuple[float, ...]:
    """Shares of energy, which add up to 1.

    Parameters
    ----------
    name : str
        One of `NAMES`, or numbers with commas between them.
    costs : sequence of Cost
        One for each level, the fastest first.

    Raises
    ------
    DeviceError
        If the name is unknown, or there are not so many numbers.
    """
    count = len(costs)
    weights = {
        "equal-energy": [1.0] * count,
        "equal-inferences": [price.millijoules for price in costs],
        "equal-time": [price.millijoules / price.cycle_ms for price in costs],
        "fast-first": [float(count - i) for i in range(count)],
        "slow-first": [float(1 + i) for i in range(count)],
    }.get(name)
    if weights is None:
        weights = _numbers(name, count)
    return tuple(weight / sum(weights) for weight in weights)


def _numbers(text: str, count: int) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(0 <= value < float("inf") for value in found) or not sum(found) > 0:
        raise DeviceError(
            f"shares must be one of {', '.join(NAMES)}, or {count} numbers with commas between them, not {text!r}"
        )
    return found
