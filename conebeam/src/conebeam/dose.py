"""Depth dose and profiles of a beam in a water phantom: the ``conebeam dose`` command.

A point source above the middle of a cube of water; field and fluence are stated at the
surface.  The scoring grid is that of the DOSXYZnrc reference results: 0.5 cm voxels, a
first depth bin of 0.25 cm, and everything below 20.25 cm in one bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import ConfigError
from conebeam.plans import air_kerma_response
from conebeam.result import Quantity, Result
from conebeam.scene import Scene
from conebeam.scene.source import parse_filter
from conebeam.sources.emission import fluence_ratio
from conebeam.sources.spectrum import Spectrum, fluence_per_mas, tube
from conebeam.units import GRAY_PER_KEV_PER_GRAM

COLUMNS_CM = {"1x1": 0.5, "2x2": 1.0, "6x6": 3.0}
PROFILE_DEPTHS_CM = (1, 2, 5, 10)
PER = "mean surface fluence"
_PITCH_CM, _LAST_BIN_CM = 0.5, 20.25
_STRIP_CM = 1.0
_SMALLEST_CM = 6.0


@dataclass(frozen=True, kw_only=True)
class Beam:
    """A beam on a water cube.

    Parameters
    ----------
    energy_kev : float, optional
        One energy …
    spectrum : Path, optional
        … or a CSV file of bin centres (keV) and weights …
    kvp : float, optional
        … or a tungsten tube by SpekPy, with ``anode_angle_deg`` and ``filters``
        (``"Al:2.5mm"``).
    field_cm : float
        Side of the square field at ``field_at_cm`` from the source; left out: at the
        surface.
    ssd_cm : float
        Source to surface.
    phantom_cm : float
        Side of the cube.
    """

    energy_kev: float | None = None
    spectrum: Path | None = None
    kvp: float | None = None
    anode_angle_deg: float = 12.0
    filters: Sequence[str] = ()
    field_cm: float = 10.0
    field_at_cm: float | None = None
    ssd_cm: float = 100.0
    phantom_cm: float = 30.0

    def __post_init__(self) -> None:
        given = [v for v in (self.energy_kev, self.spectrum, self.kvp) if v is not None]
        if len(given) != 1:
            raise ConfigError(
                "a beam must have exactly one of --energy-kev, --spectrum and --kvp, "
                f"not {len(given) or 'none'}"
            )
        if self.filters and self.kvp is None:
            raise ConfigError("--filter must come with --kvp; a spectrum's filters are in it already")
        sizes = [("the field", self.field_cm), ("the source-surface distance", self.ssd_cm)]
        if self.field_at_cm is not None:
            sizes.append(("the distance of the field", self.field_at_cm))
        for what, value in sizes:
            if not 0.0 < value < 1e4:
                raise ConfigError(f"{what} must be positive and below 10000 cm, not {value:g} cm")
        if not _SMALLEST_CM <= self.phantom_cm <= 200.0:
            raise ConfigError(
                f"the phantom must be {_SMALLEST_CM:g} to 200 cm wide (the 6x6 column must fit), "
                f"not {self.phantom_cm:g} cm"
            )

    @property
    def field_at_surface_cm(self) -> float:
        """Side of the field where it meets the water."""
        return self.field_cm * self.ssd_cm / (self.field_at_cm or self.ssd_cm)


def build_scene(beam: Beam, *, histories: int, seed: int = 1) -> Scene:
    """The scene of a beam on water.

    Raises
    ------
    ConfigError
        On impossible beams.
    """
    half = 0.5 * beam.phantom_cm
    lateral, depth = _lateral_edges(half), _depth_edges(beam.phantom_cm)
    curves: list[dict[str, Any]] = [
        {"name": f"depth {name}", "along": "z", "x_cm": (-w, w), "y_cm": (-w, w)}
        for name, w in COLUMNS_CM.items()
    ]
    curves += [
        {
            "name": f"profile {at} cm", "along": "x", "y_cm": (-_STRIP_CM, _STRIP_CM),
            "z_cm": (at - 0.5 * _PITCH_CM, at + 0.5 * _PITCH_CM), "fold": 4,
        }
        for at in PROFILE_DEPTHS_CM
        if at + 0.5 * _PITCH_CM <= depth[-1]
    ]  # fmt: skip
    side = beam.field_at_surface_cm
    values: dict[str, Any] = {
        "name": _title(beam), "seed": seed, "histories": histories,
        "source": {
            "kind": "point", "position_cm": (0.0, 0.0, -beam.ssd_cm),
            "field": {"kind": "rectangle", "width_cm": side, "height_cm": side},
            "spectrum": _spectrum(beam),
        },
        "phantom": {"kind": "water_box", "size_cm": (beam.phantom_cm,) * 3},
        "scorers": [
            {
                "kind": "dose", "per": "fluence", "curves": curves,
                "x_cm": {"edges_cm": lateral}, "y_cm": {"edges_cm": lateral}, "z_cm": {"edges_cm": depth},
            }
        ],
    }  # fmt: skip
    return Scene(**values)


def as_json(
    beam: Beam, result: Result, spectrum: Spectrum, *, seconds: float, threads: int
) -> dict[str, Any]:
    """Curves on the reference's bins, in Gy·cm² per mean surface fluence.

    Parameters
    ----------
    spectrum : Spectrum
        What the source emitted.
    seconds : float
        Wall-clock time of the run.
    """
    columns = {name: result[f"depth {name}"] for name in COLUMNS_CM}
    profiles = {
        str(at): result[f"profile {at} cm"] for at in PROFILE_DEPTHS_CM if f"profile {at} cm" in result.names
    }
    edges = _edges(columns["1x1"])
    kerma = air_kerma_gy_cm2(spectrum)
    content: dict[str, Any] = {
        "depth_cm": (0.5 * (edges[1:] + edges[:-1])).tolist(),
        "depth_edges_cm": edges.tolist(),
        "dose_gy_cm2": {name: q.values.tolist() for name, q in columns.items()},
        "sigma": {name: _sigma(q) for name, q in columns.items()},
        "profiles": {
            at: {
                "x_cm": q.axes[0].centres().tolist(),
                "dose_gy_cm2": q.values.tolist(),
                "sigma": _sigma(q),
                "folded": True,
            }
            for at, q in profiles.items()
        },
        "per": PER,
        "field_at_surface_cm": beam.field_at_surface_cm,
        "mean_energy_kev": spectrum.mean_kev,
        "air_kerma_gy_cm2": kerma,
        "dose_per_air_kerma": {name: (q.values / kerma).tolist() for name, q in columns.items()},
    }
    if beam.kvp is not None:
        content.update(_per_mas(beam, columns, kerma))
    content.update(
        histories=result.histories, seconds=seconds, cpu_seconds=result.cpu_seconds, threads=threads,
        seed=result.provenance.seed, versions=dict(result.provenance.versions),
        processors=list(result.provenance.processors),
    )  # fmt: skip
    return content


def air_kerma_gy_cm2(spectrum: Spectrum) -> float:
    """Air kerma per fluence of a spectrum, Gy·cm²."""
    # A bin is narrow against what the response does within it.
    return float(spectrum.weight @ air_kerma_response(spectrum.centre)) * GRAY_PER_KEV_PER_GRAM


def _per_mas(beam: Beam, columns: dict[str, Quantity], kerma: float) -> dict[str, Any]:
    # SpekPy states the fluence on the axis; the field's mean is a little less.
    side = 0.5 * beam.field_at_surface_cm
    axis = fluence_per_mas(_tube(beam), beam.ssd_cm)
    mean = axis * fluence_ratio(beam.ssd_cm, side, side)
    return {
        "surface_fluence_cm2_per_mas": mean,
        "air_kerma_gy_per_mas": kerma * mean,
        "dose_gy_per_mas": {name: (q.values * mean).tolist() for name, q in columns.items()},
    }


def _tube(beam: Beam) -> Any:
    if beam.kvp is None:
        raise ConfigError("a beam must have --kvp to have a tube")
    return tube(beam.kvp, beam.anode_angle_deg, [(f.material, f.thickness_mm) for f in _filters(beam)])


def _filters(beam: Beam) -> list[Any]:
    try:
        return [parse_filter(text) for text in beam.filters]
    except ValueError as error:
        raise ConfigError(f"--filter {error}") from None


def _spectrum(beam: Beam) -> dict[str, Any]:
    if beam.energy_kev is not None:
        return {"kind": "mono", "energy_kev": beam.energy_kev}
    if beam.spectrum is not None:
        return {"kind": "csv", "file": str(beam.spectrum), "bins": "centres"}
    filters = [f.model_dump() for f in _filters(beam)]
    return {"kind": "tube", "kvp": beam.kvp, "anode_angle_deg": beam.anode_angle_deg, "filters": filters}


def _title(beam: Beam) -> str:
    if beam.energy_kev is not None:
        quality = f"{beam.energy_kev:g} keV"
    elif beam.kvp is not None:
        quality = " ".join([f"{beam.kvp:g} kVp", *beam.filters])
    else:
        quality = beam.spectrum.name if beam.spectrum is not None else ""
    return f"{quality}, {beam.field_at_surface_cm:g} cm field, {beam.ssd_cm:g} cm SSD, water"


def _lateral_edges(half: float) -> tuple[float, ...]:
    inner = _PITCH_CM * np.arange(1, int(np.floor(half / _PITCH_CM + 1e-9)) + 1)
    positive = [*inner[inner < half - 1e-9].tolist(), half]
    return (*(-e for e in reversed(positive)), 0.0, *positive)


def _depth_edges(length: float) -> tuple[float, ...]:
    inner = np.append(0.0, 0.25 + _PITCH_CM * np.arange(round((_LAST_BIN_CM - 0.25) / _PITCH_CM) + 1))
    return (*inner[inner < length - 1e-9].tolist(), length)


def _edges(quantity: Quantity) -> NDArray[np.float64]:
    edges = quantity.axes[0].edges
    if edges is None:
        raise ConfigError(f"'{quantity.name}' must be a curve")
    return edges


def _sigma(quantity: Quantity) -> list[float | None]:
    return [s if np.isfinite(s) else None for s in quantity.sigma.tolist()]
