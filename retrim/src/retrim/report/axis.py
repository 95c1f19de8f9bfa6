"""Axes: a linear scale, round ticks, and the frame they make in a drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from retrim.report.markup import Markup, element, join


@dataclass(frozen=True)
class Scale:
    """Values `low` to `high` on pixels `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def padded(values: Sequence[float], share: float) -> tuple[float, float]:
    """Smallest and largest value with a margin of that share of the span on both sides."""
    low, high = min(values), max(values)
    margin = share * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float, about: int) -> tuple[list[float], int]:
    """Round values in [low, high], about that many, and the decimals they need."""
    rough = (high - low) / max(about, 1)
    if not rough > 0:
        return [low], 2
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)], max(0, -math.floor(math.log10(step) + 1e-9))


def frame(
    x: Scale, y: Scale, x_marks: Sequence[tuple[float, str]], y_marks: Sequence[tuple[float, str]]
) -> Markup:
    """Horizontal grid lines, the base line, and the words on both axes."""
    parts = []
    for value, word in y_marks:
        parts.append(element("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="grid"))
        parts.append(element("text", word, x=x.start - 8, y=y(value) + 4, class_="tick end"))
    parts.append(element("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="base"))
    for value, word in x_marks:
        parts.append(element("line", x1=x(value), x2=x(value), y1=y.start, y2=y.start + 4, class_="base"))
        parts.append(element("text", word, x=x(value), y=y.start + 18, class_="tick middle"))
    return join(parts)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions near the wanted ones, in the same order, at least `gap` apart."""
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    placed = [wanted[i] for i in order]
    for k in range(1, len(placed)):
        short = placed[k - 1] + gap - placed[k]
        if short > 0:
            placed = [
                p - short / 2 if j < k else p + short / 2 if j == k else p for j, p in enumerate(placed)
            ]
    result = list(wanted)
    for place, i in zip(placed, order, strict=True):
        result[i] = place
    return result
