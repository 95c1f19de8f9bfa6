"""Tables that the kernels read: everything about the materials of one scene.

Energy grid
    128 points per octave from 1 keV on, found from the bits of a float32, plus every
    absorption edge of every element twice (the value below and above the jump) and more
    points between edges close by.  Linear interpolation on it is within 0.1 %.
Momentum grid
    t = x² in Å⁻², x = sin(θ/2)/λ; 64 points per octave of t + t₀, t₀ = 2⁻⁹ Å⁻²: even
    spacing near zero, logarithmic beyond.  S(t) is linear between the points and so is
    A(t) = ∫F² dt, which makes its inverse exact.
Energy transfer
    μtr/ρ = τ/ρ · (1 − mean fluorescence energy/E) + σc/ρ · mean electron energy/E, both
    means taken from the very tables that the samplers draw from, so that track-length
    scoring and energy deposition agree in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conebeam import constants
from conebeam.compilation import source_digest
from conebeam.data import elements, store
from conebeam.errors import DataError
from conebeam.materials import Material

CUT_KEV = 1.0

ENERGY_SHIFT = 16
POINTS_PER_OCTAVE = 128
ONE_BITS = 0x3F800000
MOMENTUM_SHIFT = 17
MOMENTUM_OFFSET = 2.0**-9
MOMENTUM_BITS = ONE_BITS - (9 << 23)

TOTAL, PHOTO, PHOTO_COMPTON, TRANSFER = 0, 1, 2, 3

_LAST_KEV = 152.0
_MOMENTUM_OCTAVES = 17
_ANGLES = 800
_NEAR = 2e-6
_CLOSE, _CLOSE_POINTS = 1.06, 15


class Physics(NamedTuple):
    """Tables of M materials; n energies, T momentum points, C channels, V vacancies, L lines.

    A channel is one shell of one element in one material whose vacancies may emit
    photons above the cut; a vacancy is (element, shell).
    """

    energies: NDArray[np.float32]  # (n,), keV
    first: NDArray[np.int32]  # grid point at or below the start of a bin of float32 bits
    sections: NDArray[np.float32]  # (n, M, 4), cm2/g: total, photo, photo + Compton, transfer
    incoherent: NDArray[np.float32]  # (M, T), S per electron, at most 1
    coherent: NDArray[np.float32]  # (M, T), integral of F2 dt
    momenta: NDArray[np.float32]  # (T,), t in 1/Å2
    channel_first: NDArray[np.int32]  # (M + 1,)
    channel_vacancy: NDArray[np.int32]  # (C,)
    channel_share: NDArray[np.float32]  # (n, C), share in the photoelectric cross section
    line_first: NDArray[np.int32]  # (V + 1,)
    line_cumulative: NDArray[np.float32]  # (L,), running sum of probabilities
    line_energy: NDArray[np.float32]  # (L,), keV; 0 where no photon above the cut is emitted
    line_next: NDArray[np.int32]  # (L,), vacancy left behind, or -1


def build_physics(materials: Sequence[Material], *, cut_kev: float = CUT_KEV) -> Physics:
    """Tables for materials in the order given, from disk where they were built before.

    Raises
    ------
    DataError
        If the cut lies outside the tables.
    """
    if not elements.MIN_ENERGY_KEV <= cut_kev < elements.MAX_ENERGY_KEV:
        raise DataError(
            f"the cut must lie in {elements.MIN_ENERGY_KEV:g} to {elements.MAX_ENERGY_KEV:g} keV, "
            f"not {cut_kev:g}"
        )
    key = {
        "tables": tables_key(),
        "xraylib": elements.version(),
        "numpy": np.__version__,
        "cut": cut_kev,
        "materials": [m.by_number() for m in materials],
    }
    built = store.stored("physics", key, lambda: _build(materials, cut_kev)._asdict())
    return Physics(**built)


def tables_key() -> str:
    """Hash over the sources that make the tables."""
    return source_digest("constants.py", "data/elements.py", "transport/physics.py")


def interpolated(
    physics: Physics, material: int, column: int, energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """One column of the cross sections at given energies, as the kernels see it, cm²/g."""
    return np.interp(
        energies,
        physics.energies.astype(np.float64),
        physics.sections[:, material, column].astype(np.float64),
    )


def momentum_grid() -> NDArray[np.float64]:
    """t in 1/Å² at the table's points, shape (T,)."""
    count = _MOMENTUM_OCTAVES * 64 + 1
    bits = (np.arange(count, dtype=np.int64) << MOMENTUM_SHIFT) + MOMENTUM_BITS
    return bits.astype(np.int32).view(np.float32).astype(np.float64) - MOMENTUM_OFFSET


def _build(materials: Sequence[Material], cut: float) -> Physics:
    numbers = sorted({z for m in materials for z, _ in m.by_number()})
    grid, at = _energy_grid(numbers)
    t = momentum_grid()
    x = np.sqrt(t)
    raw = {z: elements.cross_sections(z, at) for z in numbers}
    form2 = {z: elements.form_factor(z, x) ** 2 for z in numbers}
    scatter = {z: elements.incoherent_function(z, x) for z in numbers}
    vacancies = _vacancies(numbers, cut)
    lines = _lines(vacancies, cut)
    emitted = _mean_emission(*lines)
    sections: list[NDArray[np.float64]] = []
    incoherent: list[NDArray[np.float64]] = []
    coherent: list[NDArray[np.float64]] = []
    channels: list[list[tuple[int, NDArray[np.float64]]]] = []
    for m in materials:
        parts = m.by_number()
        photo, compton, rayleigh = np.sum([f * raw[z] for z, f in parts], axis=0)
        electrons = sum(f / elements.atomic_weight(z) * z for z, f in parts)
        s = np.sum([f / elements.atomic_weight(z) * scatter[z] for z, f in parts], axis=0) / electrons
        f2 = np.sum([f / elements.atomic_weight(z) * form2[z] for z, f in parts], axis=0)
        own = _channels(parts, at, raw, photo, vacancies)
        escaping = sum((share * emitted[v] for v, share in own), np.zeros(len(at)))
        transfer = photo * (1.0 - escaping / at) + compton * _recoil(at, t, s)
        total = photo + compton + rayleigh
        sections.append(np.stack((total, photo, photo + compton, transfer), axis=-1))
        incoherent.append(s)
        coherent.append(np.concatenate(([0.0], np.cumsum(0.5 * (f2[1:] + f2[:-1]) * np.diff(t)))))
        channels.append(own)
    counts = np.cumsum([0, *(len(own) for own in channels)])
    flat = [entry for own in channels for entry in own]
    return Physics(
        energies=grid,
        first=_first(grid),
        sections=_f32(np.stack(sections, axis=1)),
        incoherent=_f32(np.array(incoherent)),
        coherent=_f32(np.array(coherent)),
        momenta=_f32(t),
        channel_first=counts.astype(np.int32),
        channel_vacancy=np.array([v for v, _ in flat], dtype=np.int32),
        channel_share=_f32(np.array([s for _, s in flat]).reshape(len(flat), len(at)).T),
        line_first=lines[0],
        line_cumulative=_f32(lines[1]),
        line_energy=_f32(lines[2]),
        line_next=lines[3],
    )


def _f32(array: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)


def _energy_grid(numbers: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Grid as the kernel compares it, and the energies at which values are taken."""
    octaves = int(np.ceil(np.log2(_LAST_KEV)))
    index = np.arange(octaves * POINTS_PER_OCTAVE + 1, dtype=np.int64)
    regular = ((index << ENERGY_SHIFT) + ONE_BITS).astype(np.int32).view(np.float32)
    regular = regular[regular <= np.float32(_LAST_KEV)]
    jumps = np.array(sorted({e for z in numbers for e in elements.edges(z)}), dtype=np.float32)
    jumps = jumps[~np.isin(jumps, regular)]
    doubled = np.repeat(jumps, 2)
    sides = np.tile([1.0 - _NEAR, 1.0 + _NEAR], len(jumps))
    between = np.concatenate([_between(a, b) for a, b in pairwise(jumps)] or [regular[:0]])
    between = between[~np.isin(between, regular)]
    grid = np.concatenate((regular, between, doubled))
    at = np.concatenate((regular.astype(np.float64), between.astype(np.float64), doubled * sides))
    order = np.argsort(at, kind="stable")
    return np.ascontiguousarray(grid[order]), at[order]


def _between(low: np.float32, high: np.float32) -> NDArray[np.float32]:
    """More points between two edges close by, where xraylib's splines ring."""
    count = _CLOSE_POINTS if high < _CLOSE * low else 0
    return np.linspace(low, high, count + 2, dtype=np.float32)[1:-1]


def _first(grid: NDArray[np.float32]) -> NDArray[np.int32]:
    bins = ((grid.view(np.int32).astype(np.int64) - ONE_BITS) >> ENERGY_SHIFT).max() + 1
    starts = ((np.arange(bins) << ENERGY_SHIFT) + ONE_BITS).astype(np.int32).view(np.float32)
    found = np.searchsorted(grid, starts, side="right") - 1
    return np.clip(found, 0, len(grid) - 2).astype(np.int32)


def _vacancies(numbers: Sequence[int], cut: float) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    for z in numbers:
        for shell in elements.SHELLS:
            if elements.edge_energy(z, shell) > cut and elements.transitions(z, shell):
                found[z, shell] = len(found)
    return found


def _lines(
    vacancies: dict[tuple[int, str], int], cut: float
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    first, cumulative, energy, following = [0], [], [], []
    for z, shell in vacancies:
        total = 0.0
        for probability, line, shell_next in elements.transitions(z, shell):
            after = vacancies.get((z, shell_next), -1)
            above = line if line > cut else 0.0
            if above == 0.0 and after < 0:
                continue
            total += probability
            cumulative.append(total)
            energy.append(above)
            following.append(after)
        first.append(len(cumulative))
    return (
        np.array(first, dtype=np.int32),
        np.array(cumulative),
        np.array(energy),
        np.array(following, dtype=np.int32),
    )


def _mean_emission(
    first: NDArray[np.int32],
    cumulative: NDArray[np.float64],
    energy: NDArray[np.float64],
    following: NDArray[np.int32],
) -> NDArray[np.float64]:
    """Mean energy of all photons that follow a vacancy, keV, shape (V,)."""
    mean = np.zeros(len(first) - 1)
    # Vacancies move outwards only, and inner shells come first.
    for v in range(len(mean) - 1, -1, -1):
        before = 0.0
        for line in range(first[v], first[v + 1]):
            probability = cumulative[line] - before
            before = cumulative[line]
            after = mean[following[line]] if following[line] >= 0 else 0.0
            mean[v] += probability * (energy[line] + after)
    return mean


def _channels(
    parts: Sequence[tuple[int, float]],
    at: NDArray[np.float64],
    raw: dict[int, NDArray[np.float64]],
    photo: NDArray[np.float64],
    vacancies: dict[tuple[int, str], int],
) -> list[tuple[int, NDArray[np.float64]]]:
    found = []
    for z, fraction in parts:
        if not any((z, shell) in vacancies for shell in elements.SHELLS):
            continue
        shares = elements.shell_shares(z, at)
        for shell, share in zip(elements.SHELLS, shares, strict=True):
            if (z, shell) in vacancies:
                found.append((vacancies[z, shell], fraction * raw[z][0] / photo * share))
    return found


def _recoil(
    energies: NDArray[np.float64], t: NDArray[np.float64], s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean electron energy over photon energy in Compton scattering by KN·S, shape (n,)."""
    # Gauss-Legendre in sqrt(1 - cos θ), which is proportional to x: S is smooth in it.
    nodes, weights = np.polynomial.legendre.leggauss(_ANGLES)
    y = 0.5 * np.sqrt(2.0) * (nodes + 1.0)
    weights = weights * y
    lost = y**2
    found = np.empty(len(energies))
    for i, energy in enumerate(energies):
        ratio = 1.0 / (1.0 + energy / constants.ELECTRON_REST_KEV * lost)
        sine2 = lost * (2.0 - lost)
        here = (energy / constants.PLANCK_C_KEV_ANGSTROM) ** 2 * 0.5 * lost
        density = weights * ratio**2 * (ratio + 1.0 / ratio - sine2) * np.interp(here, t, s)
        found[i] = density @ (1.0 - ratio) / density.sum()
    return found
