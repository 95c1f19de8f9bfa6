"""Accuracy against density: one point a row, one line a method, the dense model as the mark to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from retrim.report import quantity
from retrim.report.axis import Scale, frame, padded, spread, ticks
from retrim.report.markup import Markup, details, element, join, picture, svg, table
from retrim.report.series import DENSE, Palette, legend, name

_Point = tuple[str, float, float]


def chart(rows: Sequence[Mapping[str, Any]], palette: Palette) -> Markup | None:
    """The chart with its legend and its numbers, or None where no pruned row has an accuracy."""
    points: list[_Point] = []
    for row in rows:
        density, accuracy = quantity.finite(row.get("density")), quantity.finite(row.get("accuracy"))
        if density is not None and accuracy is not None:
            points.append((name(row), density, accuracy))
    if all(method == DENSE for method, _, _ in points):
        return None
    methods = list(dict.fromkeys(method for method, _, _ in points))
    numbers = table(
        ("Method", "Density", "Accuracy"),
        [(method, f"{density:.3f}", quantity.percent(accuracy, 2)) for method, density, accuracy in points],
        caption="Accuracy against density, numbers",
    )
    return join(
        [
            legend((palette.colour(method), "dot", method) for method in methods),
            picture(lambda width: _draw(points, palette, width)),
            details("Numbers behind this chart", numbers),
        ],
        "\n",
    )


def _draw(points: Sequence[_Point], palette: Palette, width: int) -> Markup:
    height = 320
    low, high = padded([density for _, density, _ in points], 0.12)
    x = Scale(max(low, 0.0), high, 56, width - 40)
    y = Scale(*padded([100 * accuracy for _, _, accuracy in points], 0.18), height - 44, 30)
    marks, decimals = ticks(y.low, y.high, 5)
    parts = [
        element("text", "accuracy, %", x=8, y=13, class_="tick"),
        element(
            "text", "density (kept share of the pruned weights)", x=x.end, y=height - 6, class_="tick end"
        ),
        frame(x, y, _fractions(points, x), [(mark, f"{mark:.{decimals}f}") for mark in marks]),
    ]
    for _, _, accuracy in (point for point in points if point[0] == DENSE):
        level = y(100 * accuracy)
        parts.append(
            element("line", x1=x.start, x2=x.end, y1=level, y2=level, class_="curve dashed thin dense")
        )
    for method in dict.fromkeys(method for method, _, _ in points):
        own = sorted((density, accuracy) for name, density, accuracy in points if name == method)
        line = "M" + "L".join(f"{x(density):.1f} {y(100 * accuracy):.1f}" for density, accuracy in own)
        dots = [_dot(method, density, accuracy, x, y) for density, accuracy in own]
        curve = element("path", d=line, class_="curve") if len(own) > 1 else None
        parts.append(element("g", curve, *dots, class_=palette.colour(method)))
    spoken = "; ".join(f"{method} {quantity.density(d)}: {quantity.percent(a)}" for method, d, a in points)
    return svg(width, height, f"Accuracy against density. {spoken}.", *parts, *_labels(points, x, y))


def _dot(method: str, density: float, accuracy: float, x: Scale, y: Scale) -> Markup:
    told = element("title", f"{method}, density {density:.3f}: {quantity.percent(accuracy, 2)}")
    return element("circle", told, cx=x(density), cy=y(100 * accuracy), r=5.5, class_="dot ring")


def _fractions(points: Sequence[_Point], x: Scale) -> list[tuple[float, str]]:
    """The densities that occur, or round ones where these are too many to write down."""
    found = sorted({density for _, density, _ in points})
    if len(found) < 8 and all(x(b) - x(a) > 34 for a, b in pairwise(found)):
        return [(density, quantity.density(density)) for density in found]
    marks, decimals = ticks(x.low, x.high, 5)
    return [(mark, f"{mark:.{decimals}f}") for mark in marks]


def _labels(points: Sequence[_Point], x: Scale, y: Scale) -> list[Markup]:
    """Values to the upper left of the points, where no rising line runs, pushed apart where they would touch."""
    labels = []
    for density in sorted({point[1] for point in points}):
        here = sorted({accuracy for _, d, accuracy in points if d == density})
        for accuracy, level in zip(here, spread([y(100 * a) for a in here], 15), strict=True):
            word = f"{100 * accuracy:.1f}"
            labels.append(element("text", word, x=x(density) - 8, y=level - 7, class_="value halo end"))
    return labels if len(labels) <= 16 else []
