"""Accuracy against density: one point a row with its interval, one line a method, the dense model as the mark to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from retrim.report import quantity
from retrim.report.axis import Scale, frame, padded, spread, ticks
from retrim.report.markup import Markup, details, element, join, picture, svg, table
from retrim.report.series import DENSE, Palette, legend, name


@dataclass(frozen=True)
class _Point:
    """A row, with the interval of its accuracy where it has one."""

    method: str
    density: float
    accuracy: float
    low: float | None
    high: float | None

    @property
    def extent(self) -> list[float]:
        """What must lie in the chart."""
        return [value for value in (self.accuracy, self.low, self.high) if value is not None]


def chart(rows: Sequence[Mapping[str, Any]], palette: Palette, word: str = "Accuracy") -> Markup | None:
    """The chart with its legend and its numbers, or None where no pruned row has an accuracy."""
    points: list[_Point] = []
    for row in rows:
        density, accuracy = quantity.finite(row.get("density")), quantity.finite(row.get("accuracy"))
        if density is not None and accuracy is not None:
            low, high = (quantity.finite(row.get(key)) for key in ("low", "high"))
            points.append(_Point(name(row), density, accuracy, low, high))
    if all(point.method == DENSE for point in points):
        return None
    methods = list(dict.fromkeys(point.method for point in points))
    numbers = table(
        ("Method", "Density", word),
        [(point.method, f"{point.density:.3f}", quantity.percent(point.accuracy, 2)) for point in points],
        caption=f"{word} against density, numbers",
    )
    return join(
        [
            legend((palette.colour(method), "dot", method) for method in methods),
            picture(lambda width: _draw(points, palette, width, word)),
            details("Numbers behind this chart", numbers),
        ],
        "\n",
    )


def _draw(points: Sequence[_Point], palette: Palette, width: int, word: str) -> Markup:
    height = 320
    low, high = padded([point.density for point in points], 0.12)
    x = Scale(max(low, 0.0), high, 56, width - 40)
    y = Scale(*padded([100 * value for point in points for value in point.extent], 0.18), height - 44, 30)
    marks, decimals = ticks(y.low, y.high, 5)
    parts = [
        element("text", f"{word.lower()}, %", x=8, y=13, class_="tick"),
        element(
            "text", "density (kept share of the pruned weights)", x=x.end, y=height - 6, class_="tick end"
        ),
        frame(x, y, _fractions(points, x), [(mark, f"{mark:.{decimals}f}") for mark in marks]),
    ]
    for point in points:
        if point.method == DENSE:
            level = y(100 * point.accuracy)
            parts.append(
                element("line", x1=x.start, x2=x.end, y1=level, y2=level, class_="curve dashed thin dense")
            )
    for method in dict.fromkeys(point.method for point in points):
        own = sorted((p for p in points if p.method == method), key=lambda p: (p.density, p.accuracy))
        line = "M" + "L".join(f"{x(p.density):.1f} {y(100 * p.accuracy):.1f}" for p in own)
        curve = element("path", d=line, class_="curve") if len(own) > 1 else None
        bars = [_bar(point, x, y) for point in own if point.low is not None and point.high is not None]
        parts.append(
            element("g", curve, *bars, *(_dot(point, x, y) for point in own), class_=palette.colour(method))
        )
    spoken = "; ".join(
        f"{p.method} {quantity.density(p.density)}: {quantity.percent(p.accuracy)}" for p in points
    )
    return svg(width, height, f"{word} against density. {spoken}.", *parts, *_labels(points, x, y))


def _bar(point: _Point, x: Scale, y: Scale) -> Markup:
    """The interval, a line with two caps."""
    at = x(point.density)
    top, bottom = (y(100 * value) for value in (point.high or 0.0, point.low or 0.0))
    outline = f"M{at - 4:.1f} {top:.1f}h8m-4 0V{bottom:.1f}m-4 0h8"
    return element("path", d=outline, class_="curve thin")


def _dot(point: _Point, x: Scale, y: Scale) -> Markup:
    words = f"{point.method}, density {point.density:.3f}: {quantity.percent(point.accuracy, 2)}"
    at = {"cx": x(point.density), "cy": y(100 * point.accuracy)}
    return element("circle", element("title", words), **at, r=5.5, class_="dot ring")


def _fractions(points: Sequence[_Point], x: Scale) -> list[tuple[float, str]]:
    """The densities that occur, or round ones where these are too many to write down."""
    found = sorted({point.density for point in points})
    if len(found) < 8 and all(x(b) - x(a) > 34 for a, b in pairwise(found)):
        return [(density, quantity.density(density)) for density in found]
    marks, decimals = ticks(x.low, x.high, 5)
    return [(mark, f"{mark:.{decimals}f}") for mark in marks]


def _labels(points: Sequence[_Point], x: Scale, y: Scale) -> list[Markup]:
    """Values to the upper left of the points, where no rising line runs, pushed apart where they would touch."""
    labels = []
    for density in sorted({point.density for point in points}):
        here = sorted({point.accuracy for point in points if point.density == density})
        for accuracy, level in zip(here, spread([y(100 * a) for a in here], 15), strict=True):
            word = f"{100 * accuracy:.1f}"
            labels.append(element("text", word, x=x(density) - 8, y=level - 7, class_="value halo end"))
    return labels if len(labels) <= 16 else []
