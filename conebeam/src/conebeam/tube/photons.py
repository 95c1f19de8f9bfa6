"""Photons of a tube one by one, all of one weight, where they cross the field's plane.

Every way of emission scores photons of unequal values; a comb of even teeth over a history's
running sum turns them into photons that stand for the same number each (see
:mod:`conebeam.histories.tube_scores`).  The sum of what is kept has the expectation of what
was scored, in every part of phase space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import ConfigError
from conebeam.tube.emission import Emission, Transport
from conebeam.tube.engine import TubeEngine
from conebeam.tube.model import View, XrayTube

_BATCH = 2_000


@dataclass(frozen=True, kw_only=True)
class Photons:
    """Photons that cross the field's plane.

    Parameters
    ----------
    energy_kev : array, shape (n,)
    place_cm : array, shape (n, 2)
        x and y on the plane.
    direction : array, shape (n, 3)
        Along x, y, z; unit vectors.
    electron : array, shape (n,)
        Number of the electron each descends from: those of one electron are correlated.
    weight : float
        Photons that each stands for.
    electrons : int
        How many were run.
    """

    energy_kev: NDArray[np.float64]
    place_cm: NDArray[np.float64]
    direction: NDArray[np.float64]
    electron: NDArray[np.int64]
    weight: float
    electrons: int


def sample_photons(
    tube: XrayTube,
    view: View | None = None,
    *,
    electrons: int,
    weight: float,
    emission: Emission | None = None,
    transport: Transport | None = None,
    seed: int = 1,
) -> Photons:
    """Run a tube for photons of one weight through the field.

    Parameters
    ----------
    weight : float
        Photons that each stands for; about (photons through the field per electron) / weight are kept
        for each electron.

    Raises
    ------
    ConfigError
        Unless electrons and weight are positive.
    """
    if electrons < 1:
        raise ConfigError(f"electrons must be at least 1, not {electrons}")
    if not 0.0 < weight < np.inf:
        raise ConfigError(f"weight must be positive and finite, not {weight:g}")
    engine = TubeEngine(tube, view, emission=emission, transport=transport, seed=seed)
    starts = range(0, electrons, _BATCH)
    rows = np.concatenate([engine.photons(n, min(n + _BATCH, electrons), weight) for n in starts])
    return Photons(
        energy_kev=rows[:, 0], place_cm=rows[:, 1:3], direction=rows[:, 3:6],
        electron=rows[:, 6].astype(np.int64), weight=weight, electrons=electrons,
    )  # fmt: skip
