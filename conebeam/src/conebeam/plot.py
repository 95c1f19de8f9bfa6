"""Pictures of results: depth dose, profiles, dose in a plane with isodose lines.

Drawn on matplotlib's Agg canvas without pyplot, so nothing global changes and no
display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from conebeam.compare import Comparison, Curve, curve_of
from conebeam.errors import ConfigError
from conebeam.result import Axis, Quantity, Result
from conebeam.result_file import check_picture, write_bytes

ISODOSES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
COLOURS = ("#0b4f8a", "#c8102e", "#2e7d32", "#b26a00", "#6a3d9a", "#00838f")
_DPI = 150


def curve_figure(
    curves: Sequence[Quantity],
    *,
    reference: Curve | None = None,
    comparison: Comparison | None = None,
    title: str = "",
) -> Figure:
    """Curves over one axis; with a comparison, the differences beneath.

    Parameters
    ----------
    curves : sequence of Quantity
        One-dimensional, over the same axis and in the same unit.
    reference : Curve, optional
        Drawn as points with bars of two standard deviations.
    comparison : Comparison, optional
        Of the first curve with the reference.

    Raises
    ------
    ConfigError
        If there is no curve, or they do not share axis and unit.
    """
    _check_alike(curves)
    figure = new_figure((6.4, 5.4 if comparison is None else 6.4), title)
    if comparison is None:
        draw_curves(figure.add_subplot(), curves, reference)
        return figure
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1.2), "hspace": 0.06})
    draw_curves(upper, curves, reference, comparison)
    upper.set_xlabel("")
    draw_differences(lower, comparison)
    lower.set_xlabel(_axis_label(curves[0]))
    return figure


def overview_figure(result: Result, *, title: str = "") -> Figure:
    """Everything a result has to show: depth curves, profiles, dose in a plane.

    Raises
    ------
    ConfigError
        If there is neither a curve nor a grid.
    """
    groups = _groups(result)
    grids = [q for q in result.quantities() if len(q.axes) == 3]
    panels = len(groups) + len(grids)
    if panels == 0:
        raise ConfigError("a result must hold a curve or a grid to be drawn, and holds neither")
    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure = new_figure((5.2 * columns, 4.4 * rows), title)
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for ax, group in zip(axes, groups, strict=False):
        draw_curves(ax, group)
    for ax, grid in zip(axes[len(groups) :], grids, strict=False):
        draw_plane(ax, grid)
    for ax in axes[panels:]:
        ax.set_axis_off()
    return figure


def plane_figure(quantity: Quantity, *, normal: str = "y", at_cm: float = 0.0, title: str = "") -> Figure:
    """Dose in a plane of a grid, with isodose lines in percent of the maximum."""
    # The picture takes the shape of the plane, within reason.
    spans = [float(np.ptp(_edges(a))) for a, n in zip(quantity.axes, "xyz", strict=False) if n != normal]
    ratio = float(np.clip(spans[1] / spans[0], 0.4, 1.6)) if len(spans) == 2 else 1.0
    figure = new_figure((6.4, 1.3 + 4.9 * ratio), title)
    draw_plane(figure.add_subplot(), quantity, normal=normal, at_cm=at_cm)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a picture (PNG, PDF or SVG by the name's ending) beside and rename.

    Raises
    ------
    ConfigError
        If the ending is another.
    ResultError
        If the file cannot be written.
    """
    check_picture(Path(path))
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lower().lstrip("."), dpi=_DPI)
    write_bytes(buffer.getvalue(), path)


def draw_curves(
    ax: Axes,
    curves: Sequence[Quantity],
    reference: Curve | None = None,
    comparison: Comparison | None = None,
) -> None:
    """Curves as lines with a band of two standard deviations."""
    _check_alike(curves)
    scale, prefix = _scale(max(float(np.nanmax(np.abs(q.values))) for q in curves))
    factor = _normalisation_factor(curves[0], comparison)
    for colour, quantity in zip(_cycled(len(curves)), curves, strict=True):
        curve = curve_of(quantity)
        values = curve.value * scale * factor
        band = 2.0 * curve.sigma * np.abs(values)
        ax.fill_between(curve.position, values - band, values + band, color=colour,
                        alpha=0.2, linewidth=0)  # fmt: skip
        ax.plot(curve.position, values, color=colour, linewidth=1.4, label=quantity.name)
    if reference is not None:
        values = reference.value * scale
        ax.errorbar(
            reference.position, values, yerr=2.0 * reference.sigma * np.abs(values),
            fmt="o", markersize=3.2, markerfacecolor="none", color="black",
            elinewidth=0.8, linewidth=0.8, label=f"reference ({reference.name})",
        )  # fmt: skip
    quantity = curves[0]
    ax.set_xlabel(_axis_label(quantity), fontsize=9)
    unit = f"{prefix}{_pretty(quantity.unit)}"
    ax.set_ylabel(f"{quantity.quantity} ({unit} per {quantity.per})", fontsize=9)
    ax.set_ylim(bottom=0.0)
    edges = quantity.axes[0].edges
    if edges is not None:
        ax.set_xlim(edges[0], edges[-1])
    ax.legend(fontsize=8, frameon=False)
    tidy(ax)


def draw_differences(ax: Axes, comparison: Comparison, *, colour: str = COLOURS[0]) -> None:
    """Differences with bars of two combined standard deviations, and the tolerance."""
    both = 2.0 * np.hypot(comparison.sigma_ours, comparison.sigma_reference)
    t = comparison.tolerance
    ax.axhspan(-t, t, color="#2e7d32", alpha=0.10, linewidth=0)
    ax.axhline(0.0, color="black", linewidth=0.7)
    ax.errorbar(
        comparison.position, comparison.difference, yerr=both, fmt="o", markersize=3.0,
        color=colour, elinewidth=0.8,
    )  # fmt: skip
    reach = max(1.6 * t, 1.15 * float(np.max(np.abs(comparison.difference) + both)))
    ax.set_ylim(-reach, reach)
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
    ax.set_ylabel("ours / ref − 1" if comparison.base == "local" else f"diff. / {comparison.base}",
                  fontsize=9)  # fmt: skip
    ax.text(
        0.99, 0.04, f"{100 * comparison.share_within:.3g} % of points within {100 * t:g} %",
        transform=ax.transAxes, ha="right", va="bottom", fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
    )  # fmt: skip
    tidy(ax)


def draw_plane(ax: Axes, quantity: Quantity, *, normal: str = "y", at_cm: float = 0.0) -> None:
    """A plane of a grid in colour with labelled isodose lines.

    Raises
    ------
    ConfigError
        If the quantity is no grid, or the plane misses it.
    """
    if len(quantity.axes) != 3 or any(axis.edges is None for axis in quantity.axes):
        raise ConfigError(f"'{quantity.name}' must be a grid to be drawn in a plane")
    if normal not in ("x", "y", "z"):
        raise ConfigError(f"the normal of a plane must be x, y or z, not '{normal}'")
    number = "xyz".index(normal)
    values, at = _plane_values(quantity, number, at_cm)
    across, up = (axis for i, axis in enumerate(quantity.axes) if i != number)
    share = values / values.max()
    ax.pcolormesh(_edges(across), _edges(up), share.T, cmap="Greys", vmin=0.0, vmax=1.6,
                  rasterized=True)  # fmt: skip
    if min(share.shape) > 1:
        levels = [level for level in ISODOSES if share.min() < level < share.max()]
        colours = colormaps["turbo"](np.linspace(0.08, 0.95, len(ISODOSES)))
        used = [colours[ISODOSES.index(level)] for level in levels]
        ax.contour(across.centres(), up.centres(), share.T, levels=levels, colors=used,
                   linewidths=1.3)  # fmt: skip
        handles = [
            Line2D([], [], color=colour, linewidth=1.6, label=f"{100 * level:g} %")
            for level, colour in zip(reversed(levels), reversed(used), strict=True)
        ]
        ax.legend(handles=handles, fontsize=8, frameon=False, loc="upper left",
                  bbox_to_anchor=(1.0, 1.0), title="isodose", title_fontsize=8)  # fmt: skip
    ax.set_aspect("equal")
    if up.name == "z":
        ax.invert_yaxis()
    ax.set_xlabel(f"{across.name} ({across.unit})", fontsize=9)
    ax.set_ylabel(f"{'depth z' if up.name == 'z' else up.name} ({up.unit})", fontsize=9)
    title = f"{quantity.name} at {normal} = {at:g} {across.unit}, share of its maximum there"
    ax.set_title(title, fontsize=9)
    ax.tick_params(labelsize=8)


def _plane_values(quantity: Quantity, number: int, at_cm: float) -> tuple[NDArray[np.float64], float]:
    edges = _edges(quantity.axes[number])
    if not edges[0] <= at_cm <= edges[-1]:
        raise ConfigError(
            f"the plane must cut the grid of '{quantity.name}' between {edges[0]:g} and "
            f"{edges[-1]:g} cm, not lie at {at_cm:g} cm"
        )
    # A plane on an edge is the mean of the voxels on both sides.
    inside = (edges[:-1] <= at_cm + 1e-9) & (edges[1:] >= at_cm - 1e-9)
    values: NDArray[np.float64] = np.compress(inside, quantity.values, axis=number).mean(axis=number)
    if not values.max() > 0.0:
        raise ConfigError(f"'{quantity.name}' must hold dose in the plane to be drawn, not zeros")
    return values, at_cm


def _edges(axis: Axis) -> NDArray[np.float64]:
    if axis.edges is None:
        raise ConfigError(f"axis '{axis.name}' must have bins to be drawn in a plane")
    return axis.edges


def new_figure(size: tuple[float, float], title: str) -> Figure:
    """A figure on the Agg canvas."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _groups(result: Result) -> list[list[Quantity]]:
    groups: dict[tuple[Any, ...], list[Quantity]] = {}
    for quantity in result.quantities():
        if len(quantity.axes) == 1 and quantity.axes[0].edges is not None:
            axis = quantity.axes[0]
            key = (axis.name, axis.unit, quantity.unit, quantity.per, quantity.quantity)
            groups.setdefault(key, []).append(quantity)
    return list(groups.values())


def _check_alike(curves: Sequence[Quantity]) -> None:
    if not curves:
        raise ConfigError("a figure must have at least one curve, not none")
    kinds = {(q.axes[0].name, q.axes[0].unit, q.unit, q.per) for q in curves}
    if len(kinds) > 1:
        raise ConfigError("curves in one figure must share axis, unit and normalisation")


def _normalisation_factor(quantity: Quantity, comparison: Comparison | None) -> float:
    if comparison is None:
        return 1.0
    curve = curve_of(quantity)
    i = int(np.argmax(comparison.ours))
    here = float(np.interp(comparison.position[i], curve.position, curve.value))
    return float(comparison.ours[i]) / here


def _scale(largest: float) -> tuple[float, str]:
    if largest <= 0.0 or 0.01 <= largest < 1e4:
        return 1.0, ""
    exponent = 3 * int(np.floor(np.log10(largest) / 3.0))
    return 10.0**-exponent, rf"$10^{{{exponent}}}$ "


def _axis_label(quantity: Quantity) -> str:
    axis = quantity.axes[0]
    name = {"z": "depth z"}.get(axis.name, axis.name)
    return f"{name} ({axis.unit})" if axis.unit else name


def _pretty(unit: str) -> str:
    return unit.replace("cm2", "cm²").replace("cm-2", "cm⁻²").replace(" ", " ")


def _cycled(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def tidy(ax: Axes) -> None:
    """Light grid, no box."""
    ax.grid(True, color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
