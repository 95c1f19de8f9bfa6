"""Latency: for every row the dense and the packed run-time, one bar above the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retrim.report import quantity
from retrim.report.axis import Scale
from retrim.report.markup import Markup, details, element, join, picture, svg, table
from retrim.report.series import legend, title

_ROW, _BAR = 62, 14


def chart(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    """The bars with their legend and their numbers, or None where nothing was timed."""
    timed = [row for row in rows if _times(row)]
    if not timed:
        return None
    numbers = table(
        ("Row", "Dense, ms", "Packed, ms", "Speed-up"),
        [
            (
                title(row),
                quantity.milliseconds(row.get("ms_dense")),
                quantity.milliseconds(row.get("ms_packed")),
                quantity.factor(row.get("speedup")),
            )
            for row in timed
        ],
        caption="Latency, numbers",
    )
    return join(
        [
            legend([("dense", "bar", "dense run-time"), ("packed", "bar", "packed")]),
            picture(lambda width: _draw(timed, width)),
            details("Numbers behind this chart", numbers),
        ],
        "\n",
    )


def _times(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    found = [
        ("dense", quantity.finite(row.get("ms_dense"))),
        ("packed", quantity.finite(row.get("ms_packed"))),
    ]
    return [(class_, value) for class_, value in found if value is not None]


def _draw(rows: Sequence[Mapping[str, Any]], width: int) -> Markup:
    longest = max(value for row in rows for _, value in _times(row))
    x = Scale(0, longest or 1.0, 2, width - 84)
    parts, spoken, top = [], [], 0.0
    for row in rows:
        times = _times(row)
        parts.append(element("text", title(row), x=2, y=top + 13, class_="label"))
        if quantity.finite(row.get("speedup")) is not None:
            gain = quantity.factor(row.get("speedup"))
            parts.append(element("text", gain, x=width - 2, y=top + 13, class_="strong end"))
        for place, (class_, value) in enumerate(times):
            parts.append(_bar(class_, value, x, top + 20 + place * (_BAR + 2)))
        spoken.append(
            f"{title(row)}: " + ", ".join(f"{name} {quantity.milliseconds(v)} ms" for name, v in times)
        )
        top += _ROW if len(times) > 1 else _ROW - _BAR - 2
    return svg(width, top - 8, f"Latency. {'; '.join(spoken)}.", *parts)


def _bar(class_: str, value: float, x: Scale, top: float) -> Markup:
    end = max(x(value), x.start + 5)
    # Square where the bar starts, round where it ends: the start is the zero line.
    outline = f"M{x.start:.1f} {top:.1f}H{end - 4:.1f}q4 0 4 4v{_BAR - 8}q0 4 -4 4H{x.start:.1f}z"
    word = element(
        "text", f"{quantity.milliseconds(value)} ms", x=end + 7, y=top + _BAR / 2 + 4, class_="value"
    )
    return element("g", element("path", d=outline, class_="bar"), word, class_=class_)
