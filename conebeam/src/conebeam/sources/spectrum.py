"""Spectra: weights of energy bins, from one energy, a CSV file, or SpekPy.

Within a bin energies are drawn evenly, as DOSXYZnrc does.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from conebeam.data.elements import MAX_ENERGY_KEV, MIN_ENERGY_KEV
from conebeam.errors import ConfigError, DataError

_SPEKPY_BIN_KEV = 0.5
_EDGE = re.compile(r"(^|_)(lo|hi|low|high)(_|$)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """Bins of energy and the share of photons in each.

    Parameters
    ----------
    low, high : arrays, shape (n,)
        Edges of each bin, keV; equal for a line.
    weight : array, shape (n,)
        Sums to 1.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    weight: NDArray[np.float64]

    @property
    def centre(self) -> NDArray[np.float64]:
        """Bin centres, keV."""
        return 0.5 * (self.low + self.high)

    @property
    def mean_kev(self) -> float:
        """Mean energy."""
        return float(self.centre @ self.weight)

    @property
    def largest_kev(self) -> float:
        """Upper end of the last bin that holds photons."""
        return float(self.high[self.weight > 0.0].max())


def monoenergetic(energy_kev: float) -> Spectrum:
    """One energy.

    Raises
    ------
    DataError
        If it lies outside the tables.
    """
    if not MIN_ENERGY_KEV <= energy_kev <= MAX_ENERGY_KEV:
        raise DataError(
            f"the photon energy must lie in {MIN_ENERGY_KEV:g} to {MAX_ENERGY_KEV:g} keV, not {energy_kev:g}"
        )
    line = np.array([float(energy_kev)])
    return Spectrum(low=line, high=line.copy(), weight=np.ones(1))


def from_bins(
    energies: Sequence[float] | NDArray[np.float64],
    weights: Sequence[float] | NDArray[np.float64],
    *,
    bins: Literal["centres", "edges"],
    name: str = "the spectrum",
) -> Spectrum:
    """A spectrum from two columns.

    Parameters
    ----------
    energies : array, shape (n,)
        keV; rising.
    weights : array, shape (n,)
        Photons in each bin, in any unit, not per keV.
    bins : str
        ``centres``: energies are bin centres; a bin reaches half-way to its neighbours.
        ``edges``: energies are the bins' lower edges and the last one closes the last
        bin; its weight must be zero.

    Raises
    ------
    DataError
        If energies do not rise, weights are negative or not finite or all zero, or
        photons lie outside the tables.
    """
    energy, weight = np.asarray(energies, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if len(energy) < 2 or energy.shape != weight.shape:
        raise DataError(f"{name} must have at least two bins, each with an energy and a weight")
    if not np.all(np.isfinite(energy)) or np.any(np.diff(energy) <= 0.0):
        at = int(np.argmax(~(np.diff(energy) > 0.0)))
        raise DataError(
            f"the energies of {name} must rise from bin to bin, not go from {energy[at]:g} "
            f"to {energy[at + 1]:g} keV; sort the rows"
        )
    wrong = ~(np.isfinite(weight) & (weight >= 0.0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(
            f"the weights of {name} must be finite and not negative, not {weight[at]:g} at {energy[at]:g} keV"
        )
    if not weight.sum() > 0.0:
        raise DataError(f"{name} must hold photons, and all its weights are zero")
    if bins == "edges":
        if weight[-1] != 0.0:
            raise DataError(
                f"the last row of {name} with bins by their edges must have weight 0 (it closes "
                f"the last bin), not {weight[-1]:g}"
            )
        low, high, weight = energy[:-1], energy[1:], weight[:-1]
    else:
        middle = 0.5 * (energy[1:] + energy[:-1])
        low = np.concatenate(([1.5 * energy[0] - 0.5 * energy[1]], middle))
        high = np.concatenate((middle, [1.5 * energy[-1] - 0.5 * energy[-2]]))
    share = weight / weight.sum()
    # A tail of 1e-169 is no photon: it must neither be refused nor cost a bin.
    kept = share > 1e-12
    low, high, share = low[kept], high[kept], share[kept]
    if low.min() < MIN_ENERGY_KEV - 1e-9 or high.max() > MAX_ENERGY_KEV + 1e-9:
        raise DataError(
            f"{name} must lie in {MIN_ENERGY_KEV:g} to {MAX_ENERGY_KEV:g} keV, "
            f"not in {low.min():g} to {high.max():g} keV"
        )
    return Spectrum(low=low.copy(), high=high.copy(), weight=share / share.sum())


def read_spectrum(path: str | Path, *, bins: Literal["centres", "edges"]) -> Spectrum:
    """Read the first two columns of a CSV file; see :func:`from_bins`.

    Raises
    ------
    DataError
        If the file is missing, no such table, or no valid spectrum.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    except OSError as error:
        raise DataError(
            f"spectrum '{path}' must be readable, and is not: {error.strerror or error}"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"spectrum '{path}' must be a CSV file, not another kind of file") from error
    rows = []
    for number, line in enumerate(lines):
        try:
            rows.append((float(line[0]), float(line[1])))
        except (ValueError, IndexError):
            if number == 0:
                if len(line) > 2 and all(_EDGE.search(name.strip().lower()) for name in line[:2]):
                    raise DataError(
                        f"spectrum '{path}' must have energies and weights in its first two columns, not "
                        f"'{line[0].strip()}' and '{line[1].strip()}'; leave two columns, the bins' centres and weights"
                    ) from None
                continue
            raise DataError(
                f"row {number + 1} of spectrum '{path}' must hold an energy and a weight, "
                f"not '{','.join(line)}'"
            ) from None
    if not rows:
        raise DataError(f"spectrum '{path}' must have rows of an energy and a weight")
    energies, weights = np.array(rows).T
    return from_bins(energies, weights, bins=bins, name=f"spectrum '{path}'")


def tube(kvp: float, anode_angle_deg: float, filters: Sequence[tuple[str, float]]) -> Any:
    """SpekPy's model of a tungsten tube, at 100 cm.

    Parameters
    ----------
    filters : sequence of (material, thickness in mm)
        Names as SpekPy knows them.

    Returns
    -------
    spekpy.Spek

    Raises
    ------
    ConfigError
        If SpekPy is not installed or refuses the tube.
    """
    try:
        import spekpy
    except ImportError:
        raise ConfigError(
            "a tube's spectrum must have SpekPy to compute it; "
            "install it with: pip install 'conebeam[spectra]'"
        ) from None
    try:
        spek = spekpy.Spek(kvp=kvp, th=anode_angle_deg, dk=_SPEKPY_BIN_KEV, z=100.0)
        for name, thickness in filters:
            spek.filter(name, thickness)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"the tube must be one that SpekPy accepts, not {kvp:g} kV, {anode_angle_deg:g} "
            f"degrees, {', '.join(f'{n} {t:g} mm' for n, t in filters) or 'no filter'}: {error}"
        ) from None
    return spek


def from_spekpy(spek: Any) -> Spectrum:
    """The spectrum of a ``spekpy.Spek`` object."""
    energies, weights = spek.get_spectrum(diff=False)
    return from_bins(energies, weights, bins="centres", name="SpekPy's spectrum")


def fluence_per_mas(spek: Any, distance_cm: float) -> float:
    """Photons per cm² and mAs on the axis at a distance, by SpekPy and 1/r²."""
    return float(spek.get_flu()) * (100.0 / distance_cm) ** 2
