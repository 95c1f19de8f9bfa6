"""Tubes run without a job: raw scores and their σ."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from conebeam.tube.emission import Emission, Transport
from conebeam.tube.engine import TubeEngine
from conebeam.tube.model import View, XrayTube

# A plane so near that nearly everything that leaves the face crosses it.
OPENING = View(field_cm=10.0, distance_cm=1.1, with_heel=False)


def run(
    electrons: int,
    emission: Emission,
    *,
    seed: int = 1,
    transport: Transport | None = None,
    view: View = OPENING,
    **tube: object,
) -> tuple[np.ndarray, np.ndarray, TubeEngine]:
    """Means per electron of all scores, raw, and their absolute σ."""
    values: dict[str, object] = {"kvp": 100.0, "elastic": "sr", **tube}
    engine = TubeEngine(XrayTube.of(**values), view, emission=emission, transport=transport, seed=seed)
    sums, squares = engine._run(0, electrons)
    mean = sums / electrons
    return mean, np.sqrt(np.maximum(squares / electrons - mean**2, 0.0) / electrons), engine


def bands(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], first: int, edges: list[int]
) -> float:
    """χ² of the difference of two spectra that begin at a score, in bands between edges (keV).

    Photons of one history share it: the bins of a band are taken as fully correlated.
    """
    chi2 = 0.0
    for low, high in pairwise(edges):
        band = slice(first + 2 * low, first + 2 * high)
        error = np.hypot(one[1][band].sum(), other[1][band].sum())
        chi2 += ((one[0][band].sum() - other[0][band].sum()) / error) ** 2
    return chi2
