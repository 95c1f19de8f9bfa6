"""Samplers against the distributions they are to draw from, by chi-squared and KS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import integrate, stats

from conebeam import constants, materials
from conebeam.compilation import kernel
from conebeam.data import elements
from conebeam.transport.direction import isotropic, turn
from conebeam.transport.physics import CUT_KEV, Physics, build_physics
from conebeam.transport.rng import stream, uniform, uniform64
from conebeam.transport.sampling.compton import sample_compton
from conebeam.transport.sampling.photoelectric import sample_vacancy
from conebeam.transport.sampling.rayleigh import sample_rayleigh
from conebeam.transport.sampling.relaxation import sample_transition

DRAWS = 400_000
NAMES = ("water", "cortical bone", "Pb")
# One chance in 10,000 to fail a sound sampler, once for each seed: seeds are fixed.
LEAST_P = 1e-4


@pytest.fixture(scope="module")
def physics() -> Physics:
    return build_physics([materials.material(name) for name in NAMES])


@kernel
def draw_compton(incoherent, material, energy, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        counter, step = stream(1, i)
        counter, out[i, 0], out[i, 1] = sample_compton(incoherent, material, energy, counter, step)


@kernel
def draw_rayleigh(coherent, momenta, material, energy, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        counter, step = stream(2, i)
        counter, out[i] = sample_rayleigh(coherent, momenta, material, energy, counter, step)


@kernel
def draw_vacancy(first, vacancy, share, material, index, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        counter, step = stream(3, i)
        counter, out[i] = sample_vacancy(
            first, vacancy, share, material, index, np.float32(0.0), counter, step
        )


@kernel
def draw_cascade(first, cumulative, energy, following, vacancy, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        counter, step = stream(4, i)
        total, now = 0.0, vacancy
        while now >= 0:
            counter, line, now = sample_transition(first, cumulative, energy, following, now, counter, step)
            total += line
        out[i] = total


@kernel
def draw_turn(cosine, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        counter, step = stream(5, i)
        counter, u, v, w = isotropic(counter, step)
        counter, a, b, c = turn(u, v, w, cosine, counter, step)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3], out[i, 4], out[i, 5] = u, v, w, a, b, c


@kernel
def draw_uniform(out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        counter, step = stream(6, i)
        counter, out[i, 0] = uniform(counter, step)
        counter, out[i, 1] = uniform(counter, step)
        counter, out[i, 2] = uniform64(counter, step)


def chi_squared_p(
    sample: np.ndarray, density: Callable[[float], float], low: float, high: float, bins: int = 60
) -> float:
    """p of a sample against an unnormalised density, in bins of about equal count."""
    edges = np.quantile(sample, np.linspace(0.0, 1.0, bins + 1))
    edges[0], edges[-1] = low, high
    edges = np.unique(edges)
    parts = np.array([integrate.quad(density, a, b, limit=200)[0] for a, b in zip(edges, edges[1:])])  # noqa: B905, RUF007
    counts = np.histogram(sample, edges)[0]
    return float(stats.chisquare(counts, parts / parts.sum() * counts.sum()).pvalue)


def summed(name: str, function: Callable[..., np.ndarray], power: int) -> Callable[[float], float]:
    """An atomic function of a material: a sum over free atoms, per mass."""
    parts = materials.material(name).by_number()

    def value(x: float) -> float:
        return float(
            sum(f / elements.atomic_weight(z) * function(z, np.array([x]))[0] ** power for z, f in parts)
        )

    return value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("energy", [8.0, 60.0, 140.0])
def test_compton_draws_klein_nishina_times_s(physics: Physics, name: str, energy: float) -> None:
    out = np.empty((DRAWS, 2), dtype=np.float32)
    draw_compton(physics.incoherent, NAMES.index(name), np.float32(energy), out)
    s = summed(name, elements.incoherent_function, 1)
    k = energy / constants.ELECTRON_REST_KEV

    def density(cosine: float) -> float:
        ratio = 1.0 / (1.0 + k * (1.0 - cosine))
        x = energy / constants.PLANCK_C_KEV_ANGSTROM * np.sqrt(0.5 * (1.0 - cosine))
        return float(ratio**2 * (ratio + 1.0 / ratio - (1.0 - cosine**2)) * s(float(x)))

    cosine = out[:, 1].astype(np.float64)
    assert chi_squared_p(cosine, density, -1.0, 1.0) > LEAST_P
    # Energy and angle belong together.
    assert out[:, 0] == pytest.approx(energy / (1.0 + k * (1.0 - cosine)), rel=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("energy", [8.0, 60.0])
def test_rayleigh_draws_thomson_times_f_squared(physics: Physics, name: str, energy: float) -> None:
    out = np.empty(DRAWS, dtype=np.float32)
    draw_rayleigh(physics.coherent, physics.momenta, NAMES.index(name), np.float32(energy), out)
    f2 = summed(name, elements.form_factor, 2)

    # Over x, where F is smooth; d(cos) is proportional to x dx.
    def density(x: float) -> float:
        cosine = 1.0 - 2.0 * (x * constants.PLANCK_C_KEV_ANGSTROM / energy) ** 2
        return float((1.0 + cosine**2) * f2(x) * x)

    largest = energy / constants.PLANCK_C_KEV_ANGSTROM
    x = largest * np.sqrt(0.5 * (1.0 - out.astype(np.float64)))
    # Near cos = 1 a float32 cosine leaves only steps: a coarse histogram is all it can bear.
    keep = x > 0.02 * largest
    assert chi_squared_p(x[keep], density, 0.02 * largest, largest, bins=40) > LEAST_P


def test_photoelectric_shares_are_those_of_the_shells(physics: Physics) -> None:
    index = int(np.searchsorted(physics.energies, 100.0))
    material = NAMES.index("Pb")
    out = np.empty(DRAWS, dtype=np.int64)
    draw_vacancy(physics.channel_first, physics.channel_vacancy, physics.channel_share, material, index, out)
    expected = elements.shell_shares(82, physics.energies[[index]].astype(float))[:, 0]
    channels = physics.channel_vacancy[physics.channel_first[material] : physics.channel_first[material + 1]]
    counts = np.array([np.sum(out == v) for v in channels])
    assert len(channels) == 4
    everything = np.append(counts, np.sum(out == -1))
    wanted = np.append(expected, 1.0 - expected.sum()) * DRAWS
    assert stats.chisquare(everything, wanted).pvalue > LEAST_P
    assert expected[0] > 0.7


def test_a_k_vacancy_of_lead_emits_its_lines(physics: Physics) -> None:
    vacancy = int(physics.channel_vacancy[physics.channel_first[NAMES.index("Pb")]])
    out = np.empty(DRAWS)
    draw_cascade(
        physics.line_first, physics.line_cumulative, physics.line_energy, physics.line_next, vacancy, out
    )
    hard = out[out > 60.0]
    # Fluorescence yield 0.968 (M. O. Krause, J. Phys. Chem. Ref. Data 8 (1979) 307), K lines 72.8 to 87.4 keV.
    assert len(hard) / DRAWS == pytest.approx(0.968, abs=0.01)
    assert hard.min() > 72.0
    # Never more than the vacancy's own energy, however the cascade goes.
    assert out.max() < elements.edge_energy(82, "K")
    assert out.mean() / elements.edge_energy(82, "K") == pytest.approx(0.87, abs=0.03)


@pytest.mark.parametrize("cosine", [-0.99999, -0.3, 0.0, 0.7, 0.999999])
def test_turning_keeps_length_and_angle(cosine: float) -> None:
    out = np.empty((100_000, 6), dtype=np.float32)
    draw_turn(np.float32(cosine), out)
    before, after = out[:, :3].astype(np.float64), out[:, 3:].astype(np.float64)
    assert np.linalg.norm(after, axis=1) == pytest.approx(1.0, abs=4e-7)
    assert np.sum(before * after, axis=1) == pytest.approx(cosine, abs=2e-6)
    # An isotropic direction turned by anything is isotropic.
    for column in out.T:
        assert stats.kstest(column, "uniform", args=(-1.0, 2.0)).pvalue > LEAST_P


def test_the_azimuth_is_even() -> None:
    out = np.empty((100_000, 6), dtype=np.float32)
    draw_turn(np.float32(0.5), out)
    before, after = out[:, :3].astype(np.float64), out[:, 3:].astype(np.float64)
    across = after - 0.5 * before
    # Against two axes that follow from the first direction.
    e1 = np.cross(before, [0.0, 0.0, 1.0])
    e1 /= np.linalg.norm(e1, axis=1)[:, None]
    e2 = np.cross(before, e1)
    angle = np.arctan2(np.sum(across * e2, axis=1), np.sum(across * e1, axis=1))
    assert stats.kstest(angle, "uniform", args=(-np.pi, 2.0 * np.pi)).pvalue > LEAST_P


def test_numbers_are_even_and_streams_apart() -> None:
    out = np.empty((DRAWS, 3))
    draw_uniform(out)
    assert out.min() > 0.0
    assert out.max() < 1.0
    for column in out.T:
        assert stats.kstest(column, "uniform").pvalue > LEAST_P
    # Neighbouring histories, and neighbouring numbers of one history.
    for a, b in ((out[1:, 0], out[:-1, 0]), (out[:, 0], out[:, 1]), (out[:, 1], out[:, 2])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(DRAWS)
    assert len(np.unique(out[:, 2])) == DRAWS


def test_a_stream_is_what_it_was() -> None:
    # Written down once: a change here is a change of every result ever made.
    assert CUT_KEV == 1.0
    with np.errstate(over="ignore"):
        counter, step = stream(1, 0)
        _, value = uniform64(counter, step)
    assert float(value) == 0.24692244907310218
