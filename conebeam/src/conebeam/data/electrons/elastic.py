"""Elastic scattering of electrons: two models, mean free paths, multiple scattering.

``pw``: Dirac partial waves (:mod:`~conebeam.data.electrons.partial_waves`), times 1 + 1/Z
for deflections by the atom's electrons (U. Fano, Phys. Rev. 93 (1954) 117,
doi:10.1103/PhysRev.93.117); where rates are made, those that are Møller events are taken off.

``sr``: Rutherford's cross section with Z(Z + 1) and Molière's screening at β = 1, as
EGSnrc runs it with spin effects off (I. Kawrakow, D. W. O. Rogers, PIRS-701, section 2.4):
dσ/dΩ = Z(Z + 1) r_e² (1 − β²)/(4β⁴) / (μ + η)², μ = (1 − cos θ)/2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from conebeam import constants
from conebeam.data.electrons import partial_waves
from conebeam.data.electrons.goudsmit_saunderson import LEVELS, QUANTILES, Legendre, multiple, single
from conebeam.data.electrons.grids import ANGLE_ENERGIES
from conebeam.data.electrons.targets import Target
from conebeam.data.store import Arrays

Model = Literal["pw", "sr"]
MODELS: tuple[Model, ...] = ("pw", "sr")

_FINE_STRUCTURE = 1.0 / 137.035999084


def screened_rutherford(z: int, energy_kev: float, mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """dσ/dΩ in cm²/sr at μ = (1 − cos θ)/2, shape (n,)."""
    tau = energy_kev / constants.ELECTRON_REST_KEV
    beta2 = tau * (tau + 2.0) / (tau + 1.0) ** 2
    momentum = np.sqrt(tau * (tau + 2.0))
    angle = _FINE_STRUCTURE / momentum * z ** (1.0 / 3.0) / 0.88534
    # Molière's formula would divide by β²; EGSnrc takes β = 1.
    eta = 0.25 * angle**2 * (1.13 + 3.76 * (z * _FINE_STRUCTURE) ** 2)
    factor = z * (z + 1) * constants.CLASSICAL_ELECTRON_RADIUS_CM**2 * (1.0 - beta2) / (4.0 * beta2**2)
    found: NDArray[np.float64] = factor / (mu + eta) ** 2
    return found


def cross_section(z: int, model: Model, energy_kev: float, mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """dσ/dΩ in cm²/sr of either model, shape (n,)."""
    if model == "sr":
        return screened_rutherford(z, energy_kev, mu)
    # Smooth in log μ: the waves are summed at 500 angles.
    at = np.concatenate(([0.0], np.geomspace(1e-7, 1.0, 500)))
    coarse = partial_waves.cross_section(z, energy_kev, at)
    return np.asarray(np.exp(np.interp(mu, at, np.log(coarse)))) * (1.0 + 1.0 / z)


def angle_grid() -> NDArray[np.float64]:
    """μ at which cross sections are integrated: even in log μ and in θ, shape (n,)."""
    even = 0.5 * (1.0 - np.cos(np.linspace(0.0, np.pi, 4001)))
    return np.unique(np.concatenate(([0.0], np.geomspace(1e-8, 1.0, 2500), even)))


def build(target: Target, model: Model, progress: Callable[[float], None]) -> Arrays:
    """Tables of a target; an alloy's cross section is the mean over its atoms.

    Returns
    -------
    dict of arrays
        ``path``, ``transport``: 1/λ and 1/λ₁ at ANGLE_ENERGIES, 1/cm, shape (28,);
        ``quantiles``, shape (LEVELS + 1, 28, QUANTILES), and ``half``, shape
        (LEVELS + 1, 28): see :mod:`~conebeam.data.electrons.goudsmit_saunderson`.
        The last level is a single collision.
    """
    mu = angle_grid()
    step, legendre = np.diff(mu), Legendre(mu)
    atoms = target.atoms_per_cm3
    all_atoms = sum(atoms)
    n = ANGLE_ENERGIES.size
    path, transport = np.zeros(n), np.zeros(n)
    quantiles, half = np.zeros((LEVELS + 1, n, QUANTILES)), np.zeros((LEVELS + 1, n))
    for i, energy in enumerate(ANGLE_ENERGIES):
        density = np.zeros(mu.size)
        for count, element in zip(atoms, target.elements, strict=True):
            density += count / all_atoms * cross_section(element.z, model, float(energy), mu)
        weight = np.zeros(mu.size)
        weight[1:] += 0.5 * step * density[1:]
        weight[:-1] += 0.5 * step * density[:-1]
        total = weight.sum()
        cumulative = np.concatenate(([0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * step))) / total
        path[i] = 4.0 * np.pi * total * all_atoms
        transport[i] = path[i] * 2.0 * (mu @ weight) / total
        tables = multiple(legendre, mu, weight / total, cumulative, float(path[i] / transport[i]))
        for level, (table, middle) in enumerate([*tables, single(mu, cumulative)]):
            quantiles[level, i], half[level, i] = table, middle
        progress((i + 1) / n)
    return {"path": path, "transport": transport, "quantiles": quantiles, "half": half}
