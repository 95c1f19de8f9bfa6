"""Reachable densities: rounding, refusal."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrim.errors import DensityError
from retrim.structures import BlockColumns, Densities, Elements, Within


@given(steps=st.integers(1, 400), density=st.floats(1e-4, 1))
def test_a_request_is_rounded_to_the_nearest_or_refused(steps: int, density: float) -> None:
    distance = {k: abs(Fraction(k, steps) - Fraction(density)) for k in range(1, steps + 1)}
    closest = min(distance.values())
    if closest > Fraction(density) * Fraction(1, 10) * (1 + Fraction(1, 10**9)):
        with pytest.raises(DensityError):
            Densities(steps).count(density)
    elif closest < Fraction(density) * Fraction(1, 10) * (1 - Fraction(1, 10**9)):
        kept = Densities(steps).count(density)
        assert distance[kept] <= closest + Fraction(1, 10**12)
        assert Densities(steps).nearest(density) == kept / steps


def test_half_rounds_up() -> None:
    assert Densities(16).count(8.5 / 16) == 9
    assert Densities(16).count(9.5 / 16) == 10


def test_a_form_of_one_density_takes_that_one_only() -> None:
    circulant = Densities(1, scale=1 / 4)
    assert len(circulant) == 1
    assert circulant.count(0.25) == 1
    assert circulant.nearest(0.26) == 0.25
    with pytest.raises(DensityError) as caught:
        circulant.nearest(0.5)
    assert str(caught.value) == (
        "density must be within 10% of one that the structure reaches here, not 0.5: the nearest is 0.25"
    )


def test_the_least_number_of_groups_is_kept() -> None:
    assert len(Densities(8, least=4)) == 5
    with pytest.raises(DensityError) as caught:
        Densities(8, least=4).count(0.4)
    assert str(caught.value) == (
        "density must be within 10% of one that the structure reaches here, not 0.4: the nearest is 0.5"
    )


def test_the_nearest_density_is_named() -> None:
    with pytest.raises(DensityError) as caught:
        BlockColumns(4).reached((8, 6), 0.05)
    assert str(caught.value) == (
        "density must be within 10% of one that the structure reaches here, not 0.05: the nearest is 0.166667"
    )


def test_a_global_budget_reaches_more_densities() -> None:
    assert len(BlockColumns(4).densities((16, 6))) == 6
    assert len(BlockColumns(4, "global").densities((16, 6))) == 24
    assert BlockColumns(4, "global").reached((16, 6), 0.3) == 7 / 24
    assert BlockColumns(4).reached((16, 6), 0.34) == 2 / 6


def test_one_number_for_a_composed_structure_is_shared_out() -> None:
    structure = Within(BlockColumns(4), Elements())
    assert structure.reached((16, 16), 0.25) == 0.25
    assert structure.reached((16, 16), 0.36) == 10 / 16 * round(math.sqrt(0.36) * 160) / 160
    assert structure.reached((16, 16), (0.5, 0.25)) == 0.125


@pytest.mark.parametrize("density", [10**400, math.inf, math.nan])
def test_what_is_no_density(density: float) -> None:
    with pytest.raises(DensityError) as error:
        Densities(steps=4).count(density)
    assert str(error.value) == f"density must be a number with 0 < density <= 1, not {density}"
