"""Materials: library, formulas, and what is refused."""

from __future__ import annotations

import math

import pytest

from conebeam import materials
from conebeam.errors import DataError
from conebeam.materials import Material, from_formula


@pytest.mark.parametrize("name", sorted(materials.LIBRARY))
def test_library_fractions_sum_to_one(name: str) -> None:
    found = materials.material(name)
    assert math.fsum(found.fractions.values()) == pytest.approx(1.0, abs=1e-12)
    assert found.density_g_cm3 > 0.0


def test_the_library_holds_what_is_promised() -> None:
    promised = {"water", "air", "PMMA", "soft tissue", "lung", "bone", "fat", "muscle", "Al", "Cu", "W", "Ti",
                "Pb", "glass", "CsI"}  # fmt: skip
    assert promised <= set(materials.LIBRARY)


def test_a_formula_is_its_fractions() -> None:
    water = from_formula("w", "H2O", 1.0)
    assert water.fractions["H"] == pytest.approx(0.111894, abs=2e-5)
    assert [z for z, _ in water.by_number()] == [1, 8]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Material(name="m", density_g_cm3=1.0, fractions={"H": 0.2, "O": 0.7}),
            "the mass fractions of 'm' must sum to 1, not 0.9; check the list or scale it",
        ),
        (
            lambda: Material(name="m", density_g_cm3=1.0, fractions={"Xx": 1.0}),
            "an element must be one of H to U by its symbol, not 'Xx'",
        ),
        (
            lambda: Material(name="m", density_g_cm3=1.0, fractions={"Pu": 1.0}),
            "an element must be one of H to U by its symbol, not 'Pu'",
        ),
        (
            lambda: Material(name="m", density_g_cm3=-1.0, fractions={"H": 1.0}),
            "the density of 'm' must be positive, not -1.0 g/cm3",
        ),
        (
            lambda: Material(name="m", density_g_cm3=math.nan, fractions={"H": 1.0}),
            "the density of 'm' must be positive, not nan g/cm3",
        ),
        (
            lambda: Material(name="m", density_g_cm3=1.0, fractions={"H": 1.5, "O": -0.5}),
            "the mass fraction of O in 'm' must be positive, not -0.5",
        ),
        (
            lambda: Material(name="m", density_g_cm3=1.0, fractions={}),
            "material 'm' must have at least one element, not none",
        ),
        (
            lambda: from_formula("m", "H2(O", 1.0),
            "the formula of 'm' must read like H2O or CsI, not 'H2(O'",
        ),
    ],
)
def test_bad_materials_are_refused(build: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        build()  # type: ignore[operator]
    assert str(caught.value) == message


def test_an_unknown_material_lists_what_there_is() -> None:
    with pytest.raises(DataError, match=r"^material 'kryptonite' must be one of the library: Ag, Al, "):
        materials.material("kryptonite")
