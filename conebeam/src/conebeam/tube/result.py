"""What a tube's run found, per electron and per mAs.

Fluence is photons that cross the field's plane per area.  σ is relative and history by
history: from the squares of what each electron, with everything that descends from it,
has scored.  Air kerma: collision kerma in dry air without attenuation by it.
"""

from __future__ import annotations

import math
import tomllib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conebeam.histories import tube_scores as scores
from conebeam.plans import air_kerma_response
from conebeam.result import Result
from conebeam.sources.tube_beam import relative_sigma
from conebeam.tube.engine import FIELD_TOTALS, SQUARES
from conebeam.tube.model import View, XrayTube
from conebeam.units import GRAY_PER_KEV_PER_GRAM

ELECTRONS_PER_MAS = 1e-3 / 1.602176634e-19
_KALPHA_KEV, _BESIDE_KEV = (57.0, 60.0), ((55.0, 57.0), (60.0, 62.0))


class TubeResult:
    """Spectrum, heel and totals of a result.

    Attributes
    ----------
    energy_edges : array, shape (n + 1,)
        keV.
    fluence, fluence_sigma : array, shape (n,)
        Per cm², electron and bin; σ relative, NaN where nothing was scored.
    heel_edges : array, shape (21,)
        cm, from the anode's side (negative) to the cathode's.
    heel, heel_sigma : array, shape (20,), or (0,) where the view has none
        Fluence above 15 keV in |y| ≤ 10 cm, per cm² and electron.
    column_edges : array, shape (m + 1,)
        cm, along x as ``heel_edges``; m is 0 where the view has no columns.
    columns, columns_sigma : array, shape (m, n)
        Spectra as ``fluence``, each of its strip of the field.
    column_totals, column_totals_sigma : array, shape (m,)
        Photons of all energies in each strip, per cm² and electron.
    spot_edges_mm : array, shape (p + 1,)
        Along x and y; p is 0 where the view asks for no image.
    spot, spot_sigma : array, shape (p, p)
        Fluence above 15 keV in the field by where it comes from, x by y, per cm² and electron.
    angle_edges_deg : array, shape (q + 1,)
        To the beam's axis; q is 0 where the view asks for no angles.
    leaving, leaving_sigma : array, shape (q, n)
        Photons out of the target's face, before filters, per electron.
    electrons : int
    cpu_seconds : float
    """

    def __init__(self, result: Result, tube: XrayTube, view: View) -> None:
        self.tube, self.view = tube, view
        self.electrons, self.cpu_seconds = result.histories, result.cpu_seconds
        self._values, self._sigmas = {}, {}
        strips = ("columns", "column totals") if view.columns else ()
        asked = (("heel", view.with_heel), ("spot", view.spot_pixels), ("leaving", view.angles))
        more = [name for name, wanted in asked if wanted]
        for name in ("field", "totals", "spectrum", *strips, *more):
            mean, squares = result[name].values, result[name + SQUARES].values
            self._values[name] = mean
            self._sigmas[name] = relative_sigma(mean, squares, result.histories)
        self.fluence, self.fluence_sigma = self._values["spectrum"], self._sigmas["spectrum"]
        self.energy_edges = np.arange(self.fluence.size + 1) / scores.BINS_PER_KEV
        self.heel_edges = np.linspace(-scores.HEEL_CM, scores.HEEL_CM, scores.HEEL_BINS + 1)
        bins, half = self.fluence.size, 0.5 * view.field_cm
        # What the view does not ask for is empty.
        none = {
            "heel": np.zeros(0), "columns": np.zeros((0, bins)), "column totals": np.zeros(0), "spot": np.zeros((0, 0)),
            "leaving": np.zeros((0, bins)),
        }  # fmt: skip
        values, sigmas = {**none, **self._values}, {**none, **self._sigmas}
        self.heel, self.heel_sigma = values["heel"], sigmas["heel"]
        self.columns, self.columns_sigma = values["columns"], sigmas["columns"]
        self.column_totals, self.column_totals_sigma = values["column totals"], sigmas["column totals"]
        self.column_edges = np.linspace(-half, half, view.columns + 1) if view.columns else np.zeros(1)
        self.spot, self.spot_sigma = values["spot"], sigmas["spot"]
        self.spot_edges_mm = np.linspace(-view.spot_half_mm, view.spot_half_mm, view.spot_pixels + 1)
        self.leaving, self.leaving_sigma = values["leaving"], sigmas["leaving"]
        self.angle_edges_deg = np.linspace(0.0, 180.0, view.angles + 1)

    @classmethod
    def of(cls, result: Result) -> TubeResult:
        """Out of a tube's result alone, with the tube and view that it was run with."""
        tube = XrayTube.of(**tomllib.loads(result.provenance.scene))
        return cls(result, tube, View.model_validate_json(result.provenance.versions["view"]))

    def total(self, index: int) -> tuple[float, float]:
        """A total of :mod:`conebeam.histories.tube_scores` per electron, and its relative σ."""
        name, at = ("field", index) if index < FIELD_TOTALS else ("totals", index - FIELD_TOTALS)
        return float(self._values[name][at]), float(self._sigmas[name][at])

    @property
    def energies(self) -> NDArray[np.float64]:
        """Bin centres, keV, shape (n,)."""
        return 0.5 * (self.energy_edges[1:] + self.energy_edges[:-1])

    @property
    def mean_energy_kev(self) -> float:
        """Of photons above 15 keV; NaN without any."""
        photons = self.total(scores.FIELD)[0]
        return self.total(scores.FIELD_ENERGY)[0] / photons if photons > 0.0 else math.nan

    @property
    def air_kerma_ugy_per_mas(self) -> float:
        """Mean over the field, µGy/mAs."""
        kerma = float(self.fluence @ air_kerma_response(self.energies)) * GRAY_PER_KEV_PER_GRAM
        return 1e6 * kerma * ELECTRONS_PER_MAS

    @property
    def k_alpha_fraction(self) -> float | None:
        """Tungsten: counts in 57 to 60 keV above a straight continuum, over those above 15 keV."""
        return k_alpha_fraction(self.energies, self.fluence) if self.tube.target == "W" else None

    def as_json(self) -> dict[str, Any]:
        """The command's contract; σ relative, null where nothing was scored."""
        total, sigma = self.total(scores.FIELD)
        content: dict[str, Any] = {
            "energy_kev_edges": self.energy_edges.tolist(),
            "fluence_per_cm2_per_electron": self.fluence.tolist(),
            "sigma": _plain(self.fluence_sigma),
            "field_cm": self.view.field_cm,
            "distance_cm": self.view.distance_cm,
            "total_above_15kev": total,
            "total_above_15kev_sigma": _number(sigma),
            "mean_energy_above_15kev": _number(self.mean_energy_kev),
            "k_alpha_fraction": self.k_alpha_fraction,
            "backscatter": self.total(scores.BACK)[0],
            "backscatter_sigma": _number(self.total(scores.BACK)[1]),
            "electrons_through_field": self.total(scores.FIELD_ELECTRONS)[0],
            "air_kerma_ugy_per_mas": self.air_kerma_ugy_per_mas,
            "electrons": self.electrons,
            "cpu_seconds": self.cpu_seconds,
        }
        if self.view.with_heel:
            content["heel"] = {
                "x_cm": (0.5 * (self.heel_edges[1:] + self.heel_edges[:-1])).tolist(),
                "fluence": self.heel.tolist(),
                "sigma": _plain(self.heel_sigma),
            }
        if self.view.columns:
            content["columns"] = {
                "x_cm_edges": self.column_edges.tolist(),
                "fluence_per_cm2_per_electron": self.columns.tolist(),
                "sigma": [_plain(sigma) for sigma in self.columns_sigma],
                "total_per_cm2_per_electron": self.column_totals.tolist(),
                "total_sigma": _plain(self.column_totals_sigma),
            }
        if self.view.spot_pixels:
            content["spot"] = {
                "x_mm_edges": self.spot_edges_mm.tolist(),
                "y_mm_edges": self.spot_edges_mm.tolist(),
                "fluence_above_15kev_per_cm2_per_electron": self.spot.tolist(),
                "sigma": [_plain(sigma) for sigma in self.spot_sigma],
            }
        if self.view.angles:
            content["leaving"] = {
                "angle_deg_edges": self.angle_edges_deg.tolist(),
                "photons_per_electron": self.leaving.tolist(),
                "sigma": [_plain(sigma) for sigma in self.leaving_sigma],
            }
        return content


def k_alpha_fraction(energies: NDArray[np.float64], fluence: NDArray[np.float64]) -> float | None:
    """Counts in 57 to 60 keV above a straight continuum, over those above 15 keV.

    Parameters
    ----------
    energies, fluence : array, shape (n,)
        Bin centres (keV) and counts of even bins.
    """
    total = float(fluence[energies > scores.THRESHOLD_KEV].sum())
    if total <= 0.0:
        return None
    line = _within(energies, *_KALPHA_KEV)
    # Symmetric about the middle of the line's window: the mean is the straight line there.
    beside = [
        float(fluence[_within(energies, *span)].mean())
        for span in _BESIDE_KEV
        if _within(energies, *span).any()
    ]
    return (float(fluence[line].sum()) - int(line.sum()) * float(np.mean(beside or [0.0]))) / total


def half_value_layer_mm(
    energies: NDArray[np.float64], fluence: NDArray[np.float64], metal: str = "Al", layers: int = 1
) -> float:
    """Thickness that leaves 2⁻ⁿ of the air kerma, narrow beam, mm."""
    from conebeam.materials import material
    from conebeam.transport.physics import TOTAL, build_physics, interpolated

    made_of = material(metal)
    section = (
        interpolated(build_physics([made_of]), 0, TOTAL, np.clip(energies, 1.0, 150.0))
        * made_of.density_g_cm3
    )
    kerma = fluence * air_kerma_response(np.clip(energies, 1.0, 150.0))
    low, high = 0.0, 100.0
    while high - low > 1e-6:
        middle = 0.5 * (low + high)
        left = float(kerma @ np.exp(-section * middle))
        low, high = (middle, high) if left > 0.5**layers * kerma.sum() else (low, middle)
    return 10.0 * 0.5 * (low + high)


def _within(energies: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    return (energies > low) & (energies < high)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [_number(v) for v in values.tolist()]
