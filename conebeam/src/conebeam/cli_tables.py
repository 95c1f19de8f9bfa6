"""What the commands print and write about a result: tables, sentences, JSON."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from conebeam.compare import Comparison
from conebeam.result import Quantity, Result


def output() -> Console:
    """Standard output, as wide as the terminal; wide in files and pipes, where tables would be cut to 80 columns."""
    found = Console()
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(width=160)


def summary(result: Result) -> Table:
    """One row for each thing scored."""
    table = Table("scored", "largest value", "unit", "per", "smallest sigma", "efficiency (1/s)")
    for quantity in result.quantities():
        finite = quantity.sigma[np.isfinite(quantity.sigma)]
        best = float(finite.min()) if finite.size else float("nan")
        efficiency = 1.0 / (best**2 * result.cpu_seconds) if result.cpu_seconds and best else 0.0
        table.add_row(
            quantity.name,
            f"{quantity.values.max():.5g}",
            quantity.unit,
            quantity.per,
            f"{best:.2%}" if finite.size else "-",
            f"{efficiency:.3g}" if finite.size else "-",
        )
    return table


def as_json(result: Result, seconds: float) -> dict[str, Any]:
    """Curves and regions with provenance, as plain numbers and lists; no grids."""
    scored = {}
    for quantity in result.quantities():
        if len(quantity.axes) == 3:
            continue
        axis = quantity.axes[0]
        edges = axis.edges
        scored[quantity.name] = {
            "axis": axis.name,
            "axis_unit": axis.unit,
            "edges": None if edges is None else edges.tolist(),
            "labels": None if axis.labels is None else list(axis.labels),
            "value": quantity.values.tolist(),
            "sigma": [None if not np.isfinite(s) else s for s in quantity.sigma.tolist()],
            "quantity": quantity.quantity,
            "unit": quantity.unit,
            "per": quantity.per,
        }
    return {
        "histories": result.histories,
        "batches": [list(r) for r in result.done.ranges],
        "batches_planned": result.plan.batches,
        "seconds": seconds,
        "cpu_seconds": result.cpu_seconds,
        "processors": list(result.provenance.processors),
        "versions": dict(result.provenance.versions),
        "seed": result.provenance.seed,
        "scored": scored,
    }


def depth_table(content: dict[str, Any], title: str) -> Table:
    """Depth dose of ``conebeam dose``, one row a depth."""
    columns = list(content["dose_gy_cm2"])
    table = Table(title=f"{title}; Gy cm2 per {content['per']}")
    for header in ("depth (cm)", *(part for name in columns for part in (f"{name} cm", "sigma"))):
        table.add_column(header, justify="right")
    for row, depth in enumerate(content["depth_cm"]):
        cells = []
        for name in columns:
            sigma = content["sigma"][name][row]
            cells += [f"{content['dose_gy_cm2'][name][row]:.4e}", "-" if sigma is None else f"{sigma:.2%}"]
        table.add_row(f"{depth:g}", *cells)
    return table


def differences(quantity: Quantity, comparison: Comparison) -> Table:
    """One row for each point compared."""
    axis = quantity.axes[0]
    table = Table(f"{axis.name} ({axis.unit})", "ours", "reference", "difference", "sigma ours", "sigma ref.")
    rows = zip(
        comparison.position, comparison.ours, comparison.reference, comparison.difference,
        comparison.sigma_ours, comparison.sigma_reference, strict=True,
    )  # fmt: skip
    for at, ours, theirs, d, s1, s2 in rows:
        style = None if abs(d) <= comparison.tolerance else "bold red"
        table.add_row(
            f"{at:g}", f"{ours:.5g}", f"{theirs:.5g}", f"{d:+.2%}", share(s1), share(s2),
            style=style,
        )  # fmt: skip
    return table


def share(sigma: float) -> str:
    """A relative σ in percent; a dash where it is not known."""
    return f"{sigma:.2%}" if math.isfinite(sigma) else "-"


def verdict(comparison: Comparison) -> str:
    """The share within tolerance in one sentence."""
    worst = comparison.worst
    count = comparison.outside
    outside = f"; {count} off our curve left out" if count else ""
    return (
        f"{comparison.share_within:.1%} of {len(comparison.position)} points within "
        f"{comparison.tolerance:.3%} ({comparison.share_within_statistics:.1%} allowing 2 sigma), "
        f"mean {comparison.mean:+.3%}, largest {comparison.difference[worst]:+.2%} at "
        f"{comparison.position[worst]:g}; {comparison.normalisation}, relative to "
        f"{comparison.base}{outside}"
    )
