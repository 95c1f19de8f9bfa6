"""Kernels: what the machine's profile chose for the packed layers, and what it expects of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retrim.report import quantity
from retrim.report.markup import Markup, details, table


def section(layers: Sequence[Mapping[str, Any]]) -> Markup | None:
    """A table of layers, folded away; those that are alike are one line.  None without layers."""
    lines: dict[tuple[str, ...], int] = {}
    for layer in layers:
        line = _line(layer)
        lines[line] = lines.get(line, 0) + 1
    if not lines:
        return None
    head = ("Row", "Shape", "Held", "Precision", "Kernels", "µs", "Dense, µs", "Speed-up", "Layers")
    body = [(*line, str(count)) for line, count in lines.items()]
    return details(f"Kernels of {len(layers)} packed weights", table(head, body, caption="Kernels"))


def _line(layer: Mapping[str, Any]) -> tuple[str, ...]:
    choice = layer.get("choice") or {}
    return (
        str(layer.get("row", "")),
        " × ".join(map(str, layer.get("shape", ()))),
        quantity.fixed(layer.get("stored"), 2),
        str(layer.get("precision", "")),
        f"{choice['isa']} {choice['variant']}" if choice else "rule of thumb",
        quantity.fixed(choice.get("microseconds"), 1),
        quantity.fixed(choice.get("dense_microseconds"), 1),
        quantity.factor(choice.get("speedup")),
    )
