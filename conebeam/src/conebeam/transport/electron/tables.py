"""Tables of electrons in one layer of a target, as the kernels read them.

Rates lie evenly in energy, all of one energy side by side; what follows from the cross
sections of :mod:`conebeam.data.electrons` is built once and kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import source_digest
from conebeam.data import elements, store
from conebeam.data.electrons import bremsstrahlung, elastic, ionisation, stopping
from conebeam.data.electrons.grids import ANGLE_ENERGIES, MAX_ENERGY_KEV, RATE_ENERGIES
from conebeam.data.electrons.targets import Target
from conebeam.errors import DataError

# Columns of the rates.
TRANSPORT, PATH, STOPPING, MOLLER, PHOTONS, SCALE, ANGLES, IONISE = range(8)
SHELL = 8  # the first of four for each element
SHELLS = len(elements.SHELLS)
AZIMUTHS = 4096


class Electrons(NamedTuple):
    """Tables of one layer of n elements; lengths in cm, energies in keV."""

    rates: NDArray[np.float64]  # (601, 8 + 4n), see the columns
    quantiles: NDArray[np.float32]  # (7, 28, 257): u of the deflection; the last level one collision
    half: NDArray[np.float32]  # (7, 28): median of μ
    chi: NDArray[np.float64]  # (61, 41), mb
    shape: NDArray[np.float32]  # (31, 21, 49), mean 1 over the sphere
    shape_bound: NDArray[np.float64]  # (31,), largest of its energy and the next
    vacancy: NDArray[np.int64]  # (4n,), of the photon tables, or -1 where no photon above the cut follows
    turns: NDArray[np.float64]  # (4096, 2), cosine and sine of azimuths
    cut: float  # of photons and of the losses that make Møller electrons


def build_electrons(
    target: Target,
    model: elastic.Model,
    *,
    cut_kev: float,
    vacancy: NDArray[np.int64],
    progress: Callable[[float], None] | None = None,
) -> Electrons:
    """Tables of a layer, from disk where they were built before.

    Parameters
    ----------
    target : Target
    model : str
        ``pw`` or ``sr``.
    cut_kev : float
        Photons and secondary electrons below it are not followed.
    vacancy : array, shape (4n,)
        Vacancies of K, L1, L2, L3 of the n elements in the photon tables.
    progress : callable, optional
        Told the share done, 0 to 1, while tables are built.

    Raises
    ------
    DataError
        If the cut lies outside 1 to 75 keV or the model is unknown.
    """
    if model not in elastic.MODELS:
        raise DataError(f"the elastic model must be one of {', '.join(elastic.MODELS)}, not '{model}'")
    if not 1.0 <= cut_kev <= 0.5 * MAX_ENERGY_KEV:
        raise DataError(f"the cut must lie in 1 to {0.5 * MAX_ENERGY_KEV:g} keV, not {cut_kev:g}")
    tell = progress or (lambda _share: None)
    shares = [[element.z, n] for element, n in zip(target.elements, target.atoms_per_cm3, strict=True)]
    key: dict[str, object] = {"model": model, "atoms": shares}
    scattering = store.stored("elastic", _key(key), lambda: elastic.build(target, model, tell))
    z = bremsstrahlung.stands_for(target)
    emission = store.stored("bremsstrahlung", _key({"z": z}), lambda: bremsstrahlung.build(z))
    shape = np.ascontiguousarray(emission["shape"], dtype=np.float32)
    largest = shape.max(axis=(1, 2)).astype(np.float64)
    angle = 2.0 * np.pi * (np.arange(AZIMUTHS) + 0.5) / AZIMUTHS
    # Kernels borrow the arrays as memory in C's order.
    return Electrons(
        rates=_rates(target, model, scattering, emission["chi"], cut_kev, vacancy),
        quantiles=np.ascontiguousarray(scattering["quantiles"], dtype=np.float32),
        half=np.ascontiguousarray(scattering["half"], dtype=np.float32),
        chi=np.ascontiguousarray(emission["chi"]),
        shape=shape,
        shape_bound=np.maximum(largest, np.append(largest[1:], largest[-1])),
        vacancy=vacancy,
        turns=np.stack((np.cos(angle), np.sin(angle)), axis=1),
        cut=cut_kev,
    )


def tables_key() -> str:
    """Hash over the sources that make the tables."""
    return source_digest("constants.py", "data/elements.py", "data/electrons")


def _key(what: dict[str, object]) -> dict[str, object]:
    return {
        "tables": tables_key(), "xraylib": elements.version(), "numpy": np.__version__,
        "spekpy": metadata.version("spekpy"), **what,
    }  # fmt: skip


def _rates(
    target: Target,
    model: elastic.Model,
    scattering: store.Arrays,
    chi: NDArray[np.float64],
    cut: float,
    vacancy: NDArray[np.int64],
) -> NDArray[np.float64]:
    found = np.zeros((RATE_ENERGIES.size, SHELL + vacancy.size))
    at = np.log(np.maximum(RATE_ENERGIES, ANGLE_ENERGIES[0]))
    for column, name in ((TRANSPORT, "transport"), (PATH, "path")):
        found[:, column] = np.exp(np.interp(at, np.log(ANGLE_ENERGIES), np.log(scattering[name])))
    if model == "pw":  # deflections by the atom's electrons that are Møller collisions are no elastic ones
        hard = stopping.moller_transport(target, RATE_ENERGIES, cut)
        rest = 1.0 - hard / found[:, TRANSPORT]
        found[:, TRANSPORT] *= rest
        found[:, PATH] *= rest
    # Angles' energies lie evenly in their logarithm.
    found[:, ANGLES] = np.interp(at, np.log(ANGLE_ENERGIES), np.arange(ANGLE_ENERGIES.size))
    photons, soft = bremsstrahlung.rates(target, chi, RATE_ENERGIES, cut)
    found[:, STOPPING] = stopping.stopping_power(target, RATE_ENERGIES, cut) + soft
    found[:, MOLLER] = stopping.moller_rate(target, RATE_ENERGIES, cut)
    found[:, PHOTONS] = photons
    found[:, SCALE] = bremsstrahlung.scale(target, RATE_ENERGIES)
    for i in np.flatnonzero(vacancy >= 0).tolist():
        element, shell = divmod(i, SHELLS)
        sigma = ionisation.cross_section(target.elements[element].z, elements.SHELLS[shell], RATE_ENERGIES)
        found[:, SHELL + i] = target.atoms_per_cm3[element] * sigma
    found[:, IONISE] = found[:, SHELL:].sum(axis=1)
    return found
