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
from conebeam.tube.result import ELECTRONS_PER_MAS
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
        (``"Al:2.5mm"``) …
    tube : Path, optional
        … or the finished result of ``conebeam tube --out``.
    heel : bool
        Of a tube's result: its columns along x, +x to the cathode; otherwise its mean spectrum.
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
    tube: Path | None = None
    heel: bool = True
    field_cm: float = 10.0
    field_at_cm: float | None = None
    ssd_cm: float = 100.0
    phantom_cm: float = 30.0

    def __post_init__(self) -> None:
        given = [v for v in (self.energy_kev, self.spectrum, self.kvp, self.tube) if v is not None]
        if len(given) != 1:
            raise ConfigError(
                "a beam must have exactly one of --energy-kev, --spectrum, --kvp and --tube, "
                f"not {len(given) or 'none'}"
            )
        if not self.heel and self.tube is None:
            raise ConfigError("--no-heel must come with --tube; no other source has a heel")
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
    def has_heel(self) -> bool:
        """Whether the two sides of the field differ."""
        return self.tube is not None and self.heel

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
    for at in PROFILE_DEPTHS_CM:
        if at + 0.5 * _PITCH_CM <= depth[-1]:
            curves += _profiles(at, beam.has_heel)
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


def _profiles(at: int, has_heel: bool) -> list[dict[str, Any]]:
    """Along x, mirrored and with y where nothing tells them apart; with heel both, x as it is."""
    where = {"z_cm": (at - 0.5 * _PITCH_CM, at + 0.5 * _PITCH_CM)}
    strip = (-_STRIP_CM, _STRIP_CM)
    along_x = {"name": f"profile {at} cm", "along": "x", "y_cm": strip, **where}
    if not has_heel:
        return [{**along_x, "fold": 4}]
    return [along_x, {"name": f"profile y {at} cm", "along": "y", "x_cm": strip, **where, "fold": 2}]


def as_json(
    beam: Beam,
    result: Result,
    spectrum: Spectrum,
    *,
    seconds: float,
    threads: int,
    per_electron: float | None = None,
) -> dict[str, Any]:
    """Curves on the reference's bins, in Gy·cm² per mean surface fluence.

    Parameters
    ----------
    spectrum : Spectrum
        What the source emitted.
    seconds : float
        Wall-clock time of the run.
    per_electron : float, optional
        Photons into the field for each electron of a tube; doses per mAs follow from it.
    """
    columns = {name: result[f"depth {name}"] for name in COLUMNS_CM}
    edges = _edges(columns["1x1"])
    kerma = air_kerma_gy_cm2(spectrum)
    content: dict[str, Any] = {
        "depth_cm": (0.5 * (edges[1:] + edges[:-1])).tolist(),
        "depth_edges_cm": edges.tolist(),
        "dose_gy_cm2": {name: q.values.tolist() for name, q in columns.items()},
        "sigma": {name: _sigma(q) for name, q in columns.items()},
        "profiles": _profiles_of(result, "profile", "x_cm", not beam.has_heel),
        "per": PER,
        "field_at_surface_cm": beam.field_at_surface_cm,
        "mean_energy_kev": spectrum.mean_kev,
        "air_kerma_gy_cm2": kerma,
        "dose_per_air_kerma": {name: (q.values / kerma).tolist() for name, q in columns.items()},
    }
    if beam.has_heel:
        content["profiles_y"] = _profiles_of(result, "profile y", "y_cm", True)
    mean = _fluence_per_mas(beam, per_electron)
    if mean is not None:
        content["surface_fluence_cm2_per_mas"] = mean
        content["air_kerma_gy_per_mas"] = kerma * mean
        content["dose_gy_per_mas"] = {name: (q.values * mean).tolist() for name, q in columns.items()}
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


def _profiles_of(result: Result, kind: str, position: str, folded: bool) -> dict[str, Any]:
    found = {}
    for at in PROFILE_DEPTHS_CM:
        if f"{kind} {at} cm" in result.names:
            q = result[f"{kind} {at} cm"]
            found[str(at)] = {
                position: q.axes[0].centres().tolist(), "dose_gy_cm2": q.values.tolist(), "sigma": _sigma(q),
                "folded": folded,
            }  # fmt: skip
    return found


def _fluence_per_mas(beam: Beam, per_electron: float | None) -> float | None:
    """Mean over the field at the surface, per cm² and mAs, where a tube tells it."""
    if per_electron is not None:
        return per_electron * ELECTRONS_PER_MAS / beam.field_at_surface_cm**2
    if beam.kvp is None:
        return None
    # SpekPy states the fluence on the axis; the field's mean is a little less.
    side = 0.5 * beam.field_at_surface_cm
    return fluence_per_mas(_tube(beam), beam.ssd_cm) * fluence_ratio(beam.ssd_cm, side, side)


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
    if beam.tube is not None:
        return {"kind": "tube_result", "file": str(beam.tube), "heel": beam.heel}
    filters = [f.model_dump() for f in _filters(beam)]
    return {"kind": "tube", "kvp": beam.kvp, "anode_angle_deg": beam.anode_angle_deg, "filters": filters}


def _title(beam: Beam) -> str:
    if beam.energy_kev is not None:
        quality = f"{beam.energy_kev:g} keV"
    elif beam.kvp is not None:
        quality = " ".join([f"{beam.kvp:g} kVp", *beam.filters])
    else:
        file = beam.spectrum or beam.tube
        quality = file.name if file is not None else ""
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
