"""Tables of electrons against published values and against themselves."""

from __future__ import annotations

import numpy as np
import pytest

from conebeam.data import elements
from conebeam.data.electrons import bremsstrahlung, elastic, ionisation, partial_waves, stopping
from conebeam.data.electrons.goudsmit_saunderson import STEPS, XI
from conebeam.data.electrons.grids import ANGLE_ENERGIES
from conebeam.data.electrons.potential import yukawa_terms
from conebeam.data.electrons.targets import ELEMENTS, Target, target
from conebeam.errors import DataError
from conebeam.transport.electron import tables
from conebeam.transport.electron.moller import scattered_cosine
from conebeam.transport.electron.tables import build_electrons

W = target("W")
NONE = np.full(4, -1, dtype=np.int64)


@pytest.mark.parametrize(
    ("symbol", "low", "high"), [("W", 20.0, 100.0), ("Mo", 20.0, 100.0), ("Cu", 20.0, 100.0)]
)
def test_range_is_the_published_one(symbol: str, low: float, high: float) -> None:
    """Ranges in continuous slowing down that SpekPy installs: a difference of two, within 1 %."""
    z = ELEMENTS[symbol].z
    table = bremsstrahlung._table("CSDA.npz")
    published = np.diff(np.interp([low, high], table[f"E{z:03d}"], table[f"rng{z}"]))[0]
    energies = np.linspace(low, high, 400)
    radiated = bremsstrahlung.rates(target(symbol), bremsstrahlung.build(z)["chi"], energies, 1e9)[1]
    total = stopping.stopping_power(target(symbol), energies, np.inf) + radiated
    ours = np.trapezoid(1.0 / total, energies) * target(symbol).density_g_cm3
    assert ours == pytest.approx(published, rel=0.01)


def test_losses_below_and_above_the_cut_make_the_whole() -> None:
    """The cut moves losses from S to Møller collisions and nothing else."""
    energy, cut = 100.0, 5.0
    tau = energy / 510.99895
    e = np.geomspace(cut / energy, 0.5, 4000)
    shape = (
        1 / e**2 + 1 / (1 - e) ** 2 + (tau / (tau + 1)) ** 2 - (2 * tau + 1) / (tau + 1) ** 2 / (e * (1 - e))
    )
    mean = np.trapezoid(e * shape, e) / np.trapezoid(shape, e) * energy
    at = np.array([energy])
    hard = stopping.moller_rate(W, at, cut)[0] * mean
    assert stopping.stopping_power(W, at, cut)[0] + hard == pytest.approx(
        stopping.stopping_power(W, at, np.inf)[0], rel=2e-3
    )


@pytest.mark.parametrize("cut", [2.0, 5.0])
def test_deflections_by_electrons_count_once(cut: float) -> None:
    """Elastic deflections of `pw` and those of Møller collisions add up to the nucleus's times 1 + 1/Z, whatever the cut."""
    built = build_electrons(W, "pw", cut_kev=cut, vacancy=NONE)
    size = tables.RATE_ENERGIES.size
    for row in (size // 3, 2 * size // 3, size - 1):
        energy = float(tables.RATE_ENERGIES[row])
        mu = elastic.angle_grid()
        density = elastic.cross_section(74, "pw", energy, mu)
        whole = W.atoms_per_cm3[0] * 4.0 * np.pi * np.trapezoid(2.0 * mu * density, mu)
        hard = 0.0
        if energy > 2.0 * cut:
            tau = energy / 510.99895
            e = np.geomspace(cut / energy, 0.5, 3000)
            shape = 1 / e**2 + 1 / (1 - e) ** 2 + (tau / (tau + 1)) ** 2
            shape -= (2 * tau + 1) / (tau + 1) ** 2 / (e * (1 - e))
            turned = np.array(
                [1.0 - scattered_cosine(energy, energy * (1.0 - share)) for share in e.tolist()]
            )
            mean = np.trapezoid(shape * turned, e) / np.trapezoid(shape, e)
            hard = stopping.moller_rate(W, np.array([energy]), cut)[0] * mean
        assert built.rates[row, tables.TRANSPORT] + hard == pytest.approx(whole, rel=3e-4)
    plain = build_electrons(W, "sr", cut_kev=cut, vacancy=NONE)
    other = build_electrons(W, "sr", cut_kev=20.0, vacancy=NONE)
    assert np.array_equal(plain.rates[:, tables.TRANSPORT], other.rates[:, tables.TRANSPORT])


def test_bremsstrahlung_angles_are_normalised() -> None:
    shape = bremsstrahlung.build(74)["shape"]
    mean = 0.5 * np.trapezoid(shape, np.linspace(-1.0, 1.0, shape.shape[2]), axis=2)
    assert mean == pytest.approx(np.ones(mean.shape), abs=1e-9)


def test_ionisation_is_continuous_and_starts_at_the_edge() -> None:
    """Both branches meet at U = 16, and the cross section has its threshold at the edge."""
    edge = elements.edge_energy(29, "K")
    below, above = ionisation.cross_section(29, "K", edge * np.array([15.999, 16.001]))
    assert below == pytest.approx(above, rel=0.01)
    assert ionisation.cross_section(74, "K", np.array([69.4]))[0] == 0.0
    assert ionisation.cross_section(74, "K", np.array([69.6]))[0] > 0.0


def test_born_and_exact_phases_meet() -> None:
    """Where the exact waves end their phase shifts are those of the Born approximation."""
    strength, inverse = yukawa_terms(74)
    energy = 20.0 / partial_waves.HARTREE_KEV
    k = np.sqrt(energy * (energy + 2 * partial_waves.LIGHT**2)) / partial_waves.LIGHT
    radius, spacing = partial_waves._grid(k, partial_waves._RANGE / inverse.min())
    potential = -74.0 / radius * (strength[:, None] * np.exp(-inverse[:, None] * radius)).sum(axis=0)
    last = int(30 + 3 * k / inverse.min())
    up, down = np.zeros(last), np.zeros(last)
    partial_waves._phases(energy, 74.0, radius, spacing, potential, up, down)
    born = partial_waves.born_phases(74, energy, strength, inverse, last)
    for exact in (up, down):
        # A phase is known but for multiples of π.
        assert (exact[-10:] + 1.0) % np.pi - 1.0 == pytest.approx(born[-10:], rel=0.04)


def test_a_bare_weak_charge_scatters_as_mott() -> None:
    """Z = 4, large angles: Mott's cross section with McKinley and Feshbach's next term."""
    mu = np.array([0.2, 0.5, 0.9])
    ours = partial_waves.cross_section(4, 100.0, mu)
    beta2 = float(stopping.beta_squared(np.array([100.0]))[0])
    plain = 16 * 2.8179403e-13**2 * (1 - beta2) / (4 * beta2**2 * mu**2) * (1 - beta2 * mu)
    plain *= 1 + np.pi * 4 / 137.036 * np.sqrt(beta2 * mu) * (1 - np.sqrt(mu)) / (1 - beta2 * mu)
    assert ours == pytest.approx(plain, rel=0.01)


@pytest.mark.parametrize("model", elastic.MODELS)
def test_multiple_scattering_has_its_first_moment(model: elastic.Model) -> None:
    """⟨1 − cos θ⟩ = 1 − e^−κ on a step of κλ₁, whatever the cross section."""
    e = build_electrons(W, model, cut_kev=5.0, vacancy=NONE)
    xi = (np.arange(200_000) + 0.5) / 200_000
    for i in (5, 15, 25):
        for level, step in enumerate(STEPS):
            u, half = np.interp(xi, XI, e.quantiles[level, i]), float(e.half[level, i])
            mean = 2.0 * np.mean(half * u / (1.0 + half - u))
            assert mean == pytest.approx(1.0 - np.exp(-step), rel=0.01), (ANGLE_ENERGIES[i], level)


def test_kernels_are_lent_arrays_in_the_order_of_c() -> None:
    """They are read as plain memory: a transposed array would be read as another one."""
    e = build_electrons(W, "sr", cut_kev=5.0, vacancy=NONE)
    assert all(part.flags.c_contiguous for part in e if isinstance(part, np.ndarray))


def test_elements_without_data_are_named() -> None:
    with pytest.raises(DataError) as error:
        target("Ag")
    assert str(error.value) == (
        "the target must be one of W, W-Re, Mo, Rh, Cu (those with tables for electrons), not 'Ag'"
    )


def test_an_alloy_is_the_sum_of_its_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bragg's rule for stopping, and cross sections by atoms: W-Re at its own density."""
    alloy, energies = target("W-Re", 0.25), np.array([10.0, 30.0, 100.0])
    assert 1.0 / alloy.density_g_cm3 == pytest.approx(0.75 / 19.3 + 0.25 / 21.02)
    parts = {
        s: Target(density_g_cm3=alloy.density_g_cm3 * w, shares={s: 1.0}) for s, w in alloy.shares.items()
    }
    for cut in (5.0, np.inf):
        each = sum(stopping.stopping_power(part, energies, cut) for part in parts.values())
        assert stopping.stopping_power(alloy, energies, cut) == pytest.approx(each, rel=1e-9)
    each = sum(stopping.moller_rate(part, energies, 5.0) for part in parts.values())
    assert stopping.moller_rate(alloy, energies, 5.0) == pytest.approx(each, rel=1e-9)
    each = sum(bremsstrahlung.scale(part, energies) for part in parts.values())
    assert bremsstrahlung.scale(alloy, energies) == pytest.approx(each, rel=1e-9)
    monkeypatch.setattr(elastic, "ANGLE_ENERGIES", np.array([30.0]))
    built = {s: elastic.build(part, "sr", lambda _: None) for s, part in parts.items()}
    found = elastic.build(alloy, "sr", lambda _: None)
    for column in ("path", "transport"):
        assert found[column] == pytest.approx(sum(b[column] for b in built.values()), rel=1e-9)


def test_rhenium_lies_beside_tungsten() -> None:
    """Ionisation falls with about the square of the edge; a coefficient mistyped would show."""
    for shell in elements.SHELLS:
        energy = np.array([2.0, 4.0, 20.0]) * elements.edge_energy(74, shell)
        ratio = ionisation.cross_section(75, shell, energy) / ionisation.cross_section(74, shell, energy)
        assert np.all((ratio > 0.85) & (ratio < 0.99)), (shell, ratio)


def test_a_share_beyond_the_whole_is_refused() -> None:
    with pytest.raises(DataError, match=r"the share of rhenium must lie between 0 and 1, not 1\.2"):
        target("W-Re", 1.2)


def test_a_cut_beyond_the_tables_is_refused() -> None:
    with pytest.raises(DataError, match="the cut must lie in 1 to 75 keV, not 80"):
        build_electrons(W, "sr", cut_kev=80.0, vacancy=NONE)
