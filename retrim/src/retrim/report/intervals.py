"""Intervals of means over few seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Two-sided 95 % points of Student's t, by degrees of freedom."""


def student(freedom: int) -> float:
    """Two-sided 95 % point of Student's t; from 10 degrees of freedom on by its expansion (Abramowitz and Stegun, 26.7.5), to 0.001."""
    if freedom in T95:
        return T95[freedom]
    z = statistics.NormalDist().inv_cdf(0.975)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % interval of the mean by Student's t; none of a single value."""
    if len(values) < 2:
        return None, None
    half = student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values) - half, statistics.mean(values) + half
