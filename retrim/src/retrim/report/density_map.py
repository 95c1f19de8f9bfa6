"""The density map: for every row of the result, layers down, kinds of weight across, density as colour."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from retrim.report import quantity
from retrim.report.markup import Markup, details, element, join, table

_STEPS = 6


def section(layers: Sequence[Mapping[str, Any]]) -> Markup | None:
    """One map a row, the colour key, and the list of all layers; None without layers."""
    if not layers:
        return None
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for layer in layers:
        rows.setdefault(str(layer.get("row", "")), []).append(layer)
    maps = [
        element("figure", element("figcaption", name), _map(name, found), class_="map")
        for name, found in rows.items()
    ]
    listing = table(
        ("Row", "Weight", "Shape", "Density", "Bytes"),
        [
            (
                str(layer.get("row", "")),
                str(layer.get("name", "")),
                _shape(layer),
                quantity.fixed(layer.get("density"), 4),
                quantity.fixed(layer.get("bytes"), 0),
            )
            for layer in layers
        ],
        caption="All layers",
        class_="data words",
    )
    return join(
        [_key(), element("div", *maps, class_="maps"), details(f"All {len(layers)} packed weights", listing)],
        "\n",
    )


def place(name: str) -> tuple[str, str]:
    """Split a parameter's name at its first number: ``blocks.0.attention.qkv.weight`` is block 0's attention.qkv."""
    parts = name.removesuffix(".weight").split(".")
    for index, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[: index + 1]), ".".join(parts[index + 1 :]) or "weight"
    return quantity.ABSENT, ".".join(parts)


def _map(name: str, layers: Sequence[Mapping[str, Any]]) -> Markup:
    cells = {place(str(layer.get("name", ""))): layer for layer in layers}
    depths = list(dict.fromkeys(depth for depth, _ in cells))
    kinds = list(dict.fromkeys(kind for _, kind in cells))
    body = [(depth, *(_cell(cells.get((depth, kind))) for kind in kinds)) for depth in depths]
    return table(
        ("Layer", *(_breakable(kind) for kind in kinds)),
        body,
        caption=f"Density of each layer: {name}",
        class_="heat",
    )


def _breakable(kind: str) -> Markup:
    """A dotted name that may wrap after its dots and underscores."""
    return join(re.split(r"(?<=[._])", kind), element("wbr"))


def _cell(layer: Mapping[str, Any] | None) -> Markup:
    density = None if layer is None else quantity.finite(layer.get("density"))
    if layer is None or density is None:
        return element("td", element("span", quantity.ABSENT), class_="absent")
    told = f"{layer.get('name', '')}: {_shape(layer)}, density {density:.4f}, {quantity.size(layer.get('bytes'))}"
    step = min(max(int(density * _STEPS), 0), _STEPS - 1)
    return element("td", element("span", f"{density:.2f}"), class_=f"h{step}", title=told)


def _key() -> Markup:
    steps = [element("span", class_=f"swatch h{step}") for step in range(_STEPS)]
    return element(
        "p", "density 0 ", element("span", *steps, class_="ramp", aria_hidden="true"), " 1", class_="key"
    )


def _shape(layer: Mapping[str, Any]) -> str:
    return " × ".join(str(extent) for extent in layer.get("shape") or ()) or quantity.ABSENT
