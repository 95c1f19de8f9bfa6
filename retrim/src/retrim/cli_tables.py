"""Tables as the command line prints them, narrow enough for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table


def results(rows: list[dict[str, Any]]) -> Table:
    """The comparison, narrow enough for a terminal of 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0), pad_edge=False, show_edge=False)
    mixed = any(row.get("precision", "fp32") != "fp32" for row in rows)
    # there is room for one of the two
    names = ("method", "in", "kept") if mixed else ("method", "kept", "M par.")
    for name in (*names, "MB", "ppl", "acc %"):
        table.add_column(name, justify="left" if name in ("method", "in") else "right", no_wrap=True)
    for name in ("dense ms", "packed ms", "model", "layers"):
        table.add_column(name, justify="right")
    for row in rows:
        accuracy = row.get("accuracy")
        table.add_row(
            row["method"],
            *([row.get("precision", "fp32")] if mixed else []),
            f"{row['density']:.2f}",
            *([] if mixed else [f"{row['parameters'] / 1e6:.2f}"]),
            f"{row['bytes'] / 1e6:.1f}",
            shown(row.get("perplexity"), ".1f"),
            shown(None if accuracy is None else 100 * accuracy, ".2f"),
            shown(row.get("ms_dense"), ".1f"),
            shown(row.get("ms_packed"), ".1f"),
            shown(row.get("speedup"), ".2f", "×"),
            shown(row.get("speedup_linears"), ".2f", "×"),
        )
    return table


def shown(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


def layers(entries: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("weight", "shape", "structure", "density", "bytes"):
        left, whole = name in ("weight", "structure"), name != "structure"
        table.add_column(name, justify="left" if left else "right", no_wrap=whole)
    for entry in entries:
        table.add_row(
            entry["name"],
            " × ".join(map(str, entry["shape"])),
            structure_words(entry["structure"]),
            f"{entry['density']:.3f}",
            f"{entry['bytes']:,}",
        )
    return table


def structure_words(spec: Mapping[str, Any]) -> str:
    """A structure as people write it: ``BlockColumns(rows=32, budget=balanced)``."""
    inner = ", ".join(
        f"{key}={structure_words(value) if isinstance(value, Mapping) else value}"
        for key, value in spec.items()
        if key != "type"
    )
    return f"{spec.get('type')}({inner})"


def weights(hardened: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("weight", "density", "norm pruned away"):
        table.add_column(name, justify="left" if name == "weight" else "right", no_wrap=True)
    for entry in hardened:
        table.add_row(entry["name"], f"{entry['density']:.3f}", f"{entry['lost']:.1%}")
    return table


def expectations(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Kernels, time and expected speed-up over dense of each layer; ≈ marks what was not measured itself."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    several = len({row["tokens"] for row in rows}) > 1
    first = "weight" if "name" in rows[0] else "shape"
    for name in (first, "held", "in", *(["tokens"] if several else []), "kernels", "µs", "expected"):
        table.add_column(
            name, justify="left" if name in ("weight", "in", "kernels") else "right", no_wrap=True
        )
    for row in rows:
        choice = row["choice"] or {}
        static = " static" if row["activations"] == "static" else ""
        about = "" if choice.get("measured") else "≈"
        table.add_row(
            row.get("name") or " × ".join(map(str, row["shape"])),
            f"{row.get('stored', row.get('density')):.2f}",
            f"{row['precision']}{static}",
            *([str(row["tokens"])] if several else []),
            f"{choice['isa']} {choice['variant']}" if choice else "rule of thumb",
            about + shown(choice["microseconds"], ".1f") if choice else "–",
            shown(choice.get("speedup"), ".2f", "×"),
        )
    return table
