"""Intervals of means over few seeds."""

from __future__ import annotations

import pytest

from retrim.report.intervals import interval, student


def test_intervals_are_students() -> None:
    """Two-sided 95 % points as tables of Student's t have them, and a wide sample's as SciPy gives it."""
    known = {1: 12.706, 4: 2.776, 10: 2.228, 12: 2.179, 20: 2.086, 30: 2.042, 60: 2.000, 120: 1.980}
    for freedom, point in known.items():
        assert student(freedom) == pytest.approx(point, abs=1.1e-3)
    low, high = interval([float(number) for number in range(11)])
    assert (high - low) / 2 == pytest.approx(2.228 * 3.3166 / 11**0.5, rel=1e-3)
