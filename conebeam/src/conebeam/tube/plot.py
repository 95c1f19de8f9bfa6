"""Pictures of a tube: spectrum, heel, focal spot, and photons that leave the target."""

from __future__ import annotations

from collections.abc import Callable

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
    """Spectrum and what else the view asked for, beside another's where given.

    Parameters
    ----------
    spectrum : (energies in keV, fluence per cm², electron and keV), optional
    heel : (x in cm, fluence relative to the axis), optional
    name : str
        Of the other.
    """
    tube = result.tube
    title = f"{tube.made_of}, {tube.kvp:g} kV, {tube.anode_angle_deg:g} degrees, {_filters(result)}"
    view = result.view
    parts: list[Callable[[Axes], None]] = [lambda ax: _draw_spectrum(ax, result, spectrum, name)]
    if view.with_heel:
        parts.append(lambda ax: _draw_heel(ax, result, heel, name))
    if view.spot_pixels:
        parts.append(lambda ax: _draw_spot(ax, result))
    if view.angles:
        parts.append(lambda ax: _draw_leaving(ax, result))
    figure = new_figure((6.4 if len(parts) == 1 else 5.5 * len(parts), 4.2), title)
    for ax, draw in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        draw(ax)
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


def _draw_spot(ax: Axes, result: TubeResult) -> None:
    edges, largest = result.spot_edges_mm, float(result.spot.max())
    seen = result.spot.T / largest if largest > 0.0 else result.spot.T
    ax.pcolormesh(edges, edges, seen, cmap="gray_r", vmin=0.0, vmax=1.0)
    ax.set_aspect("equal")
    ax.set_xlabel("x (mm), + to the cathode", fontsize=9)
    ax.set_ylabel("y (mm)", fontsize=9)
    ax.set_title("focal spot, above 15 keV", fontsize=9)
    tidy(ax)


def _draw_leaving(ax: Axes, result: TubeResult) -> None:
    edges = result.angle_edges_deg
    ring = 2.0 * np.pi * -np.diff(np.cos(np.radians(edges)))
    per_sr = result.leaving / ring[:, None] / np.diff(result.energy_edges)
    shown = np.log10(np.maximum(per_sr, 1e-4 * max(float(per_sr.max()), 1e-300)))
    ax.pcolormesh(result.energy_edges, edges, shown, cmap="gray_r")
    ax.set_xlabel("energy (keV)", fontsize=9)
    ax.set_ylabel("angle to the beam's axis (degrees)", fontsize=9)
    ax.set_title("photons out of the target, per sr and keV, logarithm", fontsize=9)
    tidy(ax)
