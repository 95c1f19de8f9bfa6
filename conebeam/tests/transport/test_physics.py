"""Tables: interpolation, published coefficients, edges, keys of the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conebeam import materials
from conebeam.data import elements, store
from conebeam.errors import DataError
from conebeam.transport import physics as module
from conebeam.transport.physics import (
    PHOTO,
    PHOTO_COMPTON,
    TOTAL,
    TRANSFER,
    build_physics,
    interpolated,
    momentum_grid,
)

ALL = [
    "water",
    "air",
    "PMMA",
    "lung",
    "cortical bone",
    "Al",
    "Cu",
    "W",
    "Ti",
    "Pb",
    "glass",
    "CsI",
    "Gd2O2S",
    "Au",
]


@pytest.fixture(scope="module")
def tables() -> module.Physics:
    return build_physics([materials.material(name) for name in ALL])


@pytest.mark.parametrize("name", ALL)
def test_cross_sections_interpolate_within_a_thousandth(tables: module.Physics, name: str) -> None:
    rng = np.random.default_rng(7)
    energies = np.exp(rng.uniform(np.log(1.02), np.log(149.0), 1500))
    parts = materials.material(name).by_number()
    jumps = np.array([e for z, _ in parts for e in elements.edges(z)] or [1e9])
    energies = energies[np.abs(energies[:, None] / jumps - 1.0).min(axis=1) > 1e-3]
    photo, compton, rayleigh = np.sum([f * elements.cross_sections(z, energies) for z, f in parts], axis=0)
    number = ALL.index(name)
    for column, exact in (
        (TOTAL, photo + compton + rayleigh),
        (PHOTO, photo),
        (PHOTO_COMPTON, photo + compton),
    ):
        found = interpolated(tables, number, column, energies)
        assert np.abs(found / exact - 1.0).max() < 1e-3


@pytest.mark.parametrize("name", ["water", "Pb", "cortical bone"])
def test_form_factor_and_s_interpolate_within_a_thousandth(tables: module.Physics, name: str) -> None:
    t = momentum_grid()
    x = np.random.default_rng(8).uniform(0.0, 12.0, 800)
    parts = materials.material(name).by_number()
    weights = [(z, f / elements.atomic_weight(z)) for z, f in parts]
    electrons = sum(z * n for z, n in weights)
    exact = np.sum([n * elements.incoherent_function(z, x) for z, n in weights], axis=0) / electrons
    found = np.interp(x * x, t, tables.incoherent[ALL.index(name)].astype(float))
    assert np.abs(found - exact).max() < 1e-3
    # The integral of F² between two points, against a fine sum.
    fine = np.linspace(0.0, 3.0, 200_001)
    f2 = np.sum([n * elements.form_factor(z, fine) ** 2 for z, n in weights], axis=0)
    whole = np.trapezoid(f2 * 2.0 * fine, fine)
    assert np.interp(9.0, t, tables.coherent[ALL.index(name)].astype(float)) == pytest.approx(whole, rel=1e-3)


# μen/ρ, cm²/g: J. H. Hubbell and S. M. Seltzer, NISTIR 5632, tables 3 and 4.
NIST = {
    "water": {10: 4.944, 20: 0.5503, 30: 0.1557, 40: 0.06947, 60: 0.03190, 80: 0.02597, 100: 0.02546},
    "air": {10: 4.742, 20: 0.5389, 30: 0.1537, 40: 0.06833, 60: 0.03041, 80: 0.02407, 100: 0.02325},
    "Al": {10: 25.43, 20: 3.094, 30: 0.8778, 40: 0.3601, 60: 0.1099, 80: 0.05511, 100: 0.03794},
    "cortical bone": {20: 3.602, 30: 1.070, 40: 0.4507, 60: 0.1400, 80: 0.06896, 100: 0.04585},
}


@pytest.mark.parametrize(("name", "energy"), [(n, e) for n, row in NIST.items() for e in row])
def test_energy_transfer_is_close_to_published_absorption(
    tables: module.Physics, name: str, energy: int
) -> None:
    found = interpolated(tables, ALL.index(name), TRANSFER, np.array([float(energy)]))[0]
    # Two libraries of photoelectric cross sections differ by up to 2 %.
    assert found == pytest.approx(NIST[name][energy], rel=0.02)


def test_an_edge_is_a_jump(tables: module.Physics) -> None:
    edge = elements.edges(82)[-1]
    below, above = interpolated(
        tables, ALL.index("Pb"), PHOTO, np.array([edge * (1.0 - 1e-5), edge * (1.0 + 1e-5)])
    )
    assert above / below > 4.0
    assert 87.9 < edge < 88.1


def test_fluorescence_takes_energy_away(tables: module.Physics) -> None:
    edge = elements.edges(82)[-1]
    sides = np.array([edge * (1.0 - 1e-5), edge * (1.0 + 1e-5)])
    share = interpolated(tables, ALL.index("Pb"), TRANSFER, sides) / interpolated(
        tables, ALL.index("Pb"), PHOTO, sides
    )
    assert share[0] > 0.9
    assert share[1] < 0.45


def test_tables_come_back_from_disk_and_follow_their_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONEBEAM_CACHE", str(tmp_path))
    calls: list[int] = []

    def build() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"a": np.arange(3.0)}

    for _ in range(2):
        assert store.stored("kind", {"version": 1}, build)["a"].tolist() == [0.0, 1.0, 2.0]
    assert len(calls) == 1
    store.stored("kind", {"version": 2}, build)
    assert len(calls) == 2
    for path in (tmp_path / "tables").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:40])
    store.stored("kind", {"version": 1}, build)
    assert len(calls) == 3


def test_a_folder_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CONEBEAM_CACHE", str(tmp_path / "file"))
    assert store.stored("kind", {}, lambda: {"a": np.ones(1)})["a"].tolist() == [1.0]


def test_a_cut_outside_the_tables_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        build_physics([materials.material("water")], cut_kev=0.5)
    assert str(caught.value) == "the cut must lie in 1 to 150 keV, not 0.5"
