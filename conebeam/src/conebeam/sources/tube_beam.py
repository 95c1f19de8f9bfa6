"""What a tube sends into its field, read from the result of ``conebeam tube --out``.

It has a statistical uncertainty of its own, which the σ of a dose does not contain: it is
stated with the beam and goes into the provenance of what is computed with it.
"""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import ConfigError, ResultError
from conebeam.result import Result
from conebeam.result_file import load
from conebeam.sources.columns import Columns, rectangle_sr
from conebeam.sources.spectrum import Spectrum, from_bins

_SQUARES = " squares"
_ALL = "all"
# A run to an uncertainty has no last batch; with fewer none is judged.
_LEAST_BATCHES = 30
_WHOLE = ("spectrum", "field")


@dataclass(frozen=True, kw_only=True, eq=False)
class TubeBeam:
    """A tube's photons in a square field.

    Parameters
    ----------
    title : str
        Target, voltage, angle.
    field_cm, distance_cm : float
        Side of the field and its distance from the focus.
    energy_edges : array, shape (n + 1,)
        keV.
    fluence : array, shape (m, n)
        Per cm² and electron: columns from the anode's side to the cathode's, or the field's mean (m = 1).
    sigma : array, shape (m,)
        Relative σ of each one's sum.
    field_sigma : float
        Relative σ of the fluence in the whole field.
    electrons, seed : int
    """

    title: str
    field_cm: float
    distance_cm: float
    energy_edges: NDArray[np.float64]
    fluence: NDArray[np.float64]
    sigma: NDArray[np.float64]
    field_sigma: float
    electrons: int
    seed: int

    @property
    def spectrum(self) -> Spectrum:
        """The field's mean."""
        return from_bins(
            self.energy_edges,
            np.append(self.fluence.mean(axis=0), 0.0),
            bins="edges",
            name="the tube's spectrum",
        )

    @property
    def columns(self) -> Columns:
        """Intensities: a column's photons over its solid angle."""
        reach = 0.5 * self.field_cm / self.distance_cm
        edges = np.linspace(-reach, reach, len(self.fluence) + 1)
        area = self.field_cm**2 / len(self.fluence)
        angles = np.array([rectangle_sr(a, b, reach) for a, b in pairwise(edges.tolist())])
        kept = self.fluence.any(axis=0)
        return Columns(
            low=self.energy_edges[:-1][kept], high=self.energy_edges[1:][kept],
            intensity=self.fluence[:, kept] * area / angles[:, None], reach=reach, height=reach,
        )  # fmt: skip

    @property
    def statement(self) -> str:
        """For provenance: what it is and how well it is known."""
        text = (
            f"{self.title}; {self.field_cm:g} cm at {self.distance_cm:g} cm; {self.electrons} electrons, seed "
            f"{self.seed}; sigma of the fluence {self.field_sigma:.2%}"
        )
        if len(self.fluence) == 1:
            return text
        return f"{text}, of a column's ({len(self.fluence)}) at most {self.sigma.max():.2%}"


def is_tube(result: Result) -> bool:
    """Whether it is the result of a tube."""
    return "view" in result.provenance.versions and set(_WHOLE) <= set(result.names)


def read_tube(path: str | Path, *, with_columns: bool) -> TubeBeam:
    """Read a finished result of a tube.

    Parameters
    ----------
    path : str or Path
    with_columns : bool
        Its columns instead of the field's mean.

    Raises
    ------
    ResultError
        If it is missing, damaged, unfinished or not a tube's, or a column got no photons.
    ConfigError
        If it must have columns and has none.
    """
    result = load(path)
    versions = result.provenance.versions
    if not is_tube(result):
        raise ResultError(
            f"'{path}' must be the result of a tube, as 'conebeam tube --out' writes it, not of another run"
        )
    _check_finished(result, path)
    view, tube = json.loads(versions["view"]), tomllib.loads(result.provenance.scene)
    if with_columns and "columns" not in result.names:
        raise ConfigError(
            f"'{path}' must have columns for a source with heel, and has none; compute it with 'conebeam tube "
            "--columns N', or ask for no heel"
        )
    sigma = _sigma(result, "field")
    at = (result["field"].axes[0].labels or ()).index(_ALL)
    name, total = ("columns", "column totals") if with_columns else ("spectrum", "")
    fluence = np.atleast_2d(result[name].values)
    each = _sigma(result, total) if total else sigma[[at]]
    if not np.all(fluence.sum(axis=1) > 0.0):
        raise ResultError(
            f"every column of '{path}' must have photons, and column {int(np.argmin(fluence.sum(axis=1))) + 1} of "
            f"{len(fluence)} has none; run more electrons, or a field the anode does not shade"
        )
    edges = result["spectrum"].axes[0].edges
    return TubeBeam(
        title=f"{tube['target']}, {tube['kvp']:g} kV, {tube['anode_angle_deg']:g} degrees",
        field_cm=float(view["field_cm"]), distance_cm=float(view["distance_cm"]),
        energy_edges=np.asarray(edges, dtype=np.float64), fluence=fluence, sigma=each, field_sigma=float(sigma[at]),
        electrons=result.histories, seed=result.provenance.seed,
    )  # fmt: skip


def _check_finished(result: Result, path: str | Path) -> None:
    open_ended = result.provenance.versions.get("until") == "uncertainty"
    least = _LEAST_BATCHES if open_ended else result.plan.batches
    if len(result.done) < least:
        raise ResultError(
            f"'{path}' must be finished, and has {len(result.done)} of {least} batches; run its command again, "
            "which goes on from there"
        )


def _sigma(result: Result, name: str) -> NDArray[np.float64]:
    return relative_sigma(result[name].values, result[name + _SQUARES].values, result.histories)


def relative_sigma(mean: NDArray[np.float64], squares: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Relative σ, history by history: of means over n histories from the mean of squares; NaN where nothing is, or of one history."""
    found = np.full(mean.shape, math.nan)
    known = (mean > 0.0) & (n > 1)
    variance = np.maximum(squares[known] - mean[known] ** 2, 0.0) / max(1, n - 1)
    found[known] = np.sqrt(variance) / mean[known]
    return found
