"""Bremsstrahlung: NIST's scaled cross sections and Kissel, Quarles and Pratt's angles.

dσ/dk = Z²/β² χ(E, k/E)/k with χ in mb; the angular distribution S(E, k/E, cos θ) is
normalised so that its mean over the sphere is 1.  Both tables are those that SpekPy
installs (``data/tables/advanced/NIST.npz``, ``KQP.npz``) and are read from there.  They
have no rhenium: it takes tungsten's χ and S with its own Z².

References
----------
S. M. Seltzer, M. J. Berger, At. Data Nucl. Data Tables 35 (1986) 345,
doi:10.1016/0092-640X(86)90014-8; L. Kissel, C. A. Quarles, R. H. Pratt, ibid. 28 (1983)
381, doi:10.1016/0092-640X(83)90001-3; tables: R. Bujila, A. Omar, G. Poludniowski, Phys.
Med. 75 (2020) 44, doi:10.1016/j.ejmp.2020.04.026.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from conebeam.data.electrons.grids import MAX_ENERGY_KEV, MIN_ENERGY_KEV
from conebeam.data.electrons.stopping import beta_squared
from conebeam.data.electrons.targets import Target
from conebeam.data.store import Arrays
from conebeam.errors import ConfigError

CHI_STEP_KEV, CHI_RATIOS = 2.5, 40
SHAPE_STEP_KEV, SHAPE_RATIOS, SHAPE_COSINES = 5.0, 20, 48
MILLIBARN_CM2 = 1e-27


def stands_for(target: Target) -> int:
    """Atomic number whose χ and S a target takes: its lightest element's (tungsten's in W-Re)."""
    return target.elements[0].z


def build(z: int) -> Arrays:
    """Tables of one element.

    Returns
    -------
    dict of arrays
        ``chi``, shape (61, 41): mb, at 2.5 keV steps of E and even k/E from 0 to 1;
        ``shape``, shape (31, 21, 49): at 5 keV steps of E, even k/E, even cos θ from −1 to 1.

    Raises
    ------
    ConfigError
        If SpekPy is not installed.
    """
    return {"chi": _chi(z), "shape": _shape(z)}


def _table(name: str) -> dict[str, NDArray[np.float64]]:
    try:
        folder = resources.files("spekpy") / "data" / "tables" / "advanced"
    except ModuleNotFoundError:
        raise ConfigError(
            "the x-ray tube must have SpekPy's tables of bremsstrahlung; "
            "install them with: pip install 'conebeam[spectra]'"
        ) from None
    with resources.as_file(folder / name) as path, np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _chi(z: int) -> NDArray[np.float64]:
    table = _table("NIST.npz")
    ratios = np.linspace(0.0, 1.0, CHI_RATIOS + 1)
    energies = np.arange(round(MAX_ENERGY_KEV / CHI_STEP_KEV) + 1) * CHI_STEP_KEV
    at = np.log(np.maximum(energies, MIN_ENERGY_KEV))
    rows = np.array([np.interp(ratios, table["u"], row) for row in table[f"chi{z}"]])
    columns = [np.interp(at, np.log(table["E"]), column) for column in rows.T]
    return np.ascontiguousarray(np.array(columns).T)


def _shape(z: int) -> NDArray[np.float64]:
    table = _table("KQP.npz")
    raw = table[f"S{z}"]
    cosines = np.linspace(-1.0, 1.0, SHAPE_COSINES + 1)
    angles = np.degrees(np.arccos(cosines))
    count = round(MAX_ENERGY_KEV / SHAPE_STEP_KEV) + 1
    found = np.zeros((count, SHAPE_RATIOS + 1, SHAPE_COSINES + 1))
    per = (table["u"].size - 1) // SHAPE_RATIOS
    for i in range(count):
        # The table is empty at rest; its first row is at 5 keV.
        for j in range(SHAPE_RATIOS + 1):
            row = np.interp(angles, table["theta"], raw[:, j * per, max(i, 1)])
            found[i, j] = row / (0.5 * np.trapezoid(row, cosines))
    return found


def interpolated_chi(
    chi: NDArray[np.float64], energy: float, ratio: NDArray[np.float64]
) -> NDArray[np.float64]:
    """χ in mb at one energy (keV) and ratios k/E, as the kernels see it, shape (n,)."""
    at = min(energy / CHI_STEP_KEV, chi.shape[0] - 1.001)
    i = int(at)
    row = chi[i] + (at - i) * (chi[i + 1] - chi[i])
    return np.asarray(np.interp(ratio, np.linspace(0.0, 1.0, CHI_RATIOS + 1), row))


def scale(target: Target, energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Atoms/cm³ · Z²/β² in 1/(mb cm): times χ/k it is the rate per cm and keV, shape (n,)."""
    beta2 = beta_squared(np.maximum(energies, MIN_ENERGY_KEV))
    squares = sum(n * element.z**2 for n, element in zip(target.atoms_per_cm3, target.elements, strict=True))
    found: NDArray[np.float64] = squares * MILLIBARN_CM2 / beta2
    return found


def rates(
    target: Target, chi: NDArray[np.float64], energies: NDArray[np.float64], cut_kev: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Photons above the cut per cm, and keV lost to those below it per cm, shape (n,) each."""
    above, below = np.zeros(energies.size), np.zeros(energies.size)
    factor = scale(target, energies)
    for i, energy in enumerate(energies.tolist()):
        if energy <= 0.0:
            continue
        soft = np.linspace(0.0, min(cut_kev, energy), 100)
        below[i] = factor[i] * np.trapezoid(interpolated_chi(chi, energy, soft / energy), soft)
        if energy > cut_kev:
            k = np.geomspace(cut_kev, energy, 300)
            above[i] = factor[i] * np.trapezoid(interpolated_chi(chi, energy, k / energy), np.log(k))
    return above, below
