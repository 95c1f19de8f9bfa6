"""Pictures of a tube: spectrum and heel."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from conebeam.plot import COLOURS, new_figure, tidy
from conebeam.tube.result import TubeResult

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def tube_figure(
    result: TubeResult, *, spectrum: Curve | None = None, heel: Curve | None = None, name: str = ""
) -> Figure:
    """Spectrum and heel, beside another's where given.

    Parameters
    ----------
    spectrum : (energies in keV, fluence per cm², electron and keV), optional
    heel : (x in cm, fluence relative to the axis), optional
    name : str
        Of the other.
    """
    tube = result.tube
    title = f"{tube.target}, {tube.kvp:g} kV, {tube.anode_angle_deg:g} degrees, {_filters(result)}"
    figure = new_figure((11.0, 4.2) if result.view.with_heel else (6.4, 4.2), title)
    axes = figure.subplots(1, 2 if result.view.with_heel else 1, squeeze=False)[0]
    _draw_spectrum(axes[0], result, spectrum, name)
    if result.view.with_heel:
        _draw_heel(axes[1], result, heel, name)
    return figure


def _filters(result: TubeResult) -> str:
    return ", ".join(f"{f.material} {f.thickness_mm:g} mm" for f in result.tube.filters) or "no filter"


def _draw_spectrum(ax: Axes, result: TubeResult, other: Curve | None, name: str) -> None:
    width = np.diff(result.energy_edges)
    ax.stairs(
        1e9 * result.fluence / width, result.energy_edges, color=COLOURS[0], linewidth=1.1, label="conebeam"
    )
    if other is not None:
        ax.plot(other[0], 1e9 * other[1], color=COLOURS[1], linewidth=0.9, label=name)
    ax.set_xlabel("energy (keV)", fontsize=9)
    ax.set_ylabel(f"fluence at {result.view.distance_cm:g} cm\n(10⁻⁹ per cm², electron and keV)", fontsize=9)
    ax.set_xlim(0.0, result.energy_edges[-1])
    ax.set_ylim(bottom=0.0)
    ax.legend(fontsize=8, frameon=False)
    tidy(ax)


def _draw_heel(ax: Axes, result: TubeResult, other: Curve | None, name: str) -> None:
    x = 0.5 * (result.heel_edges[1:] + result.heel_edges[:-1])
    middle = float(result.heel[np.abs(x) < 2.0].mean())
    if middle > 0.0:
        sigma = np.nan_to_num(result.heel_sigma * result.heel) / middle
        ax.errorbar(
            x,
            result.heel / middle,
            yerr=2.0 * sigma,
            fmt="o",
            markersize=3.0,
            color=COLOURS[0],
            label="conebeam",
        )
    if other is not None:
        ax.plot(*other, color=COLOURS[1], linewidth=0.9, label=name)
    ax.set_xlabel("x (cm), + to the cathode", fontsize=9)
    ax.set_ylabel("fluence above 15 keV\nrelative to the axis", fontsize=9)
    ax.set_ylim(bottom=0.0)
    ax.legend(fontsize=8, frameon=False)
    tidy(ax)
