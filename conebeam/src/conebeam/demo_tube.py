"""The demo's tube: its spectrum and heel by Monte Carlo beside SpekPy's analytic model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from conebeam.cli_scene import preparing, run_shown
from conebeam.errors import DataError
from conebeam.histories import tube_scores as scores
from conebeam.plot import save_figure
from conebeam.scene.source import Filter
from conebeam.tube.model import View, XrayTube
from conebeam.tube.plot import tube_figure
from conebeam.tube.result import ELECTRONS_PER_MAS, TubeResult, k_alpha_fraction
from conebeam.tube.run import tube_job

KVP, ANGLE, ALUMINIUM_MM = 100.0, 12.0, 2.5
ELECTRONS = 30_000
_ALONG_CM = np.linspace(-20.0, 20.0, 17)


def run_tube_demo(folder: Path, *, threads: int = 0, console: Console) -> dict[str, Any]:
    """Run the tube, print it beside SpekPy, draw both.

    Returns
    -------
    dict
        Differences to SpekPy: ``fluence``, ``mean_energy``, ``k_alpha``; ``sigma`` of the fluence.

    Raises
    ------
    DataError
        Without SpekPy.
    ResultError
        If the picture cannot be written.
    """
    energies, along = _spekpy()
    tube = XrayTube.of(
        kvp=KVP, anode_angle_deg=ANGLE, filters=(Filter(material="Al", thickness_mm=ALUMINIUM_MM),)
    )
    view = View()
    with preparing() as progress:
        job = tube_job(tube, view, electrons=ELECTRONS, threads=threads, progress=progress)
    result = TubeResult(run_shown(job), tube, view)
    hard = energies > 15.0
    heel = along[:, hard].sum(axis=1)
    inside = np.abs(_ALONG_CM) <= 0.5 * view.field_cm
    theirs = along[inside].mean(axis=0)
    picture = tube_figure(
        result,
        spectrum=(energies, theirs / 0.5),
        heel=(_ALONG_CM, heel / heel[_ALONG_CM == 0.0]),
        name="SpekPy (casim)",
    )
    save_figure(picture, folder / "tube.png")
    fluence, sigma = result.total(scores.FIELD)
    alpha = k_alpha_fraction(energies, theirs)
    found: dict[str, Any] = {
        "fluence": fluence / float(theirs[hard].sum()) - 1.0,
        "sigma": sigma,
        "mean_energy": result.mean_energy_kev / float(energies[hard] @ theirs[hard] / theirs[hard].sum())
        - 1.0,
        "k_alpha": result.k_alpha_fraction / alpha - 1.0 if result.k_alpha_fraction and alpha else None,
    }
    _show(result, found, console)
    return found


def _show(result: TubeResult, found: dict[str, Any], console: Console) -> None:
    table = Table(
        title=f"x-ray tube, {KVP:g} kV, {ANGLE:g} degrees, {ALUMINIUM_MM:g} mm Al", title_justify="left"
    )
    for header in ("", "here", "SpekPy's, difference"):
        table.add_column(header, justify="left" if header == "" else "right")
    fluence, sigma = result.total(scores.FIELD)
    table.add_row("fluence above 15 keV, per cm2 and electron", f"{fluence:.3e}", f"{found['fluence']:+.1%}")
    table.add_row(
        "mean energy above 15 keV, keV", f"{result.mean_energy_kev:.2f}", f"{found['mean_energy']:+.2%}"
    )
    if found["k_alpha"] is not None:
        table.add_row("K-alpha fraction", f"{result.k_alpha_fraction:.4f}", f"{found['k_alpha']:+.0%}")
    table.add_row("air kerma at 1 m, uGy/mAs", f"{result.air_kerma_ugy_per_mas:.4g}", "")
    console.print(table)
    console.print(
        f"{result.electrons:,} electrons in {result.cpu_seconds:.1f} CPU s, sigma of the fluence {sigma:.1%}.\n",
        soft_wrap=True,
    )


def _spekpy() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bin centres (keV), and photons per cm² and electron in bins of 0.5 keV, at places along x at 1 m."""
    try:
        import spekpy
    except ModuleNotFoundError:
        raise DataError("the tube's demo needs spekpy: pip install 'conebeam[spectra]'") from None
    energies, found = np.empty(0), []
    for x in _ALONG_CM:
        spek = spekpy.Spek(kvp=KVP, th=ANGLE, dk=0.5, x=float(x), z=100.0, physics="casim", mas=1.0)
        spek.filter("Al", ALUMINIUM_MM)
        energies, values = spek.get_spectrum(diff=False)
        found.append(values / ELECTRONS_PER_MAS)
    return np.asarray(energies), np.asarray(found)
