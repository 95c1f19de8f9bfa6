"""A field in columns: each with a spectrum and an intensity of its own, as a tube's heel has it.

Columns are strips of equal width across a rectangular field, at right angles to the line from
anode to cathode.  Within a column photons go out as from an isotropic point with the
column's intensity per solid angle; from one to the next it jumps.  What it does *not* model: a
change within a column, a change along it, and a focus with a size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import ConfigError
from conebeam.sources.spectrum import Spectrum

_CELLS = 400
_ROOM = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns:
    """Columns from the anode's side to the cathode's.

    Parameters
    ----------
    low, high : array, shape (n,)
        Edges of the energy bins, keV.
    intensity : array, shape (m, n)
        Photons per steradian of each column and bin, per electron or in any other unit.
    reach, height : float
        Half width and half height of all columns together over their distance from the focus.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    intensity: NDArray[np.float64]
    reach: float
    height: float

    @property
    def chance(self) -> NDArray[np.float64]:
        """Intensity of each column over the largest, shape (m,)."""
        total = self.intensity.sum(axis=1)
        share: NDArray[np.float64] = total / total.max()
        return share

    def of(self, tangent: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of the column at x over distance."""
        count = len(self.intensity)
        place = np.floor((tangent / self.reach + 1.0) * 0.5 * count)
        return np.clip(place, 0, count - 1).astype(np.int64)

    def solid_angles(self, opening: Opening) -> NDArray[np.float64]:
        """Of what each column fills of a field, sr, shape (m,).

        Raises
        ------
        ConfigError
            If the field reaches beyond the columns.
        """
        self._check(*opening.extent())
        x, weight = opening.cells()
        found = np.zeros(len(self.intensity))
        np.add.at(found, self.of(x), weight)
        return found

    def emitted(self, opening: Opening) -> tuple[Spectrum, float]:
        """Spectrum of all photons through a field and their number, in the intensity's unit.

        Raises
        ------
        ConfigError
            If the field reaches beyond the columns.
        """
        each = self.solid_angles(opening) @ self.intensity
        total = float(each.sum())
        return Spectrum(low=self.low, high=self.high, weight=each / total), total

    def _check(self, x: float, y: float) -> None:
        for what, found, most in (
            ("across, from anode to cathode,", x, self.reach),
            ("the other way", y, self.height),
        ):
            if found > most * (1.0 + _ROOM):
                raise ConfigError(
                    f"the source's field must lie within the field the tube was computed for, and reaches {what} to "
                    f"{100.0 * found:.4g} cm at 100 cm instead of {100.0 * most:.4g} cm; make it smaller or compute the "
                    "tube in a larger field"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Opening:
    """A field as seen from a focus: ``centre + a·u + b·v``, and where the cathode is.

    Parameters
    ----------
    circular : bool
        a² + b² ≤ 1 instead of |a|, |b| ≤ 1.
    centre, u, v : array, shape (3,)
        From the focus, cm.
    cathode : array, shape (3,)
        Unit vector in the field's plane.
    """

    circular: bool
    centre: NDArray[np.float64]
    u: NDArray[np.float64]
    v: NDArray[np.float64]
    cathode: NDArray[np.float64]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Of the field's plane, away from the focus: the tube's axis."""
        across = np.cross(self.u, self.v)
        return across / math.copysign(float(np.linalg.norm(across)), float(across @ self.centre))

    @property
    def distance_cm(self) -> float:
        """Focus to the field's plane."""
        return float(self.centre @ self.normal)

    def tangents(
        self, a: NDArray[np.float64], b: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x (to the cathode) and y of points of the field, over the distance."""
        points = self.centre + a[:, None] * self.u + b[:, None] * self.v
        other = np.cross(self.normal, self.cathode)
        return points @ self.cathode / self.distance_cm, points @ other / self.distance_cm

    def extent(self) -> tuple[float, float]:
        """Largest |x| and |y| of the field over the distance."""
        if self.circular:
            angle = np.linspace(0.0, 2.0 * math.pi, _CELLS)
            x, y = self.tangents(np.cos(angle), np.sin(angle))
        else:
            x, y = self.tangents(np.array([-1.0, -1.0, 1.0, 1.0]), np.array([-1.0, 1.0, -1.0, 1.0]))
        return float(np.abs(x).max()), float(np.abs(y).max())

    def cells(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x over the distance and solid angle (sr) of small cells that fill the field."""
        side = (np.arange(_CELLS) + 0.5) * (2.0 / _CELLS) - 1.0
        a, b = (grid.ravel() for grid in np.meshgrid(side, side))
        if self.circular:
            inside = a * a + b * b <= 1.0
            a, b = a[inside], b[inside]
        x, y = self.tangents(a, b)
        area = float(np.linalg.norm(np.cross(self.u, self.v))) * (2.0 / _CELLS) ** 2
        return x, area / self.distance_cm**2 * (1.0 + x * x + y * y) ** -1.5


def rectangle_sr(x0: float, x1: float, y: float) -> float:
    """Solid angle of x0 … x1 by −y … y, all over their distance."""

    def corner(x: float) -> float:
        return math.atan(x * y / math.sqrt(1.0 + x * x + y * y))

    return 2.0 * (corner(x1) - corner(x0))
