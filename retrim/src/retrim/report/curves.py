"""Training curves: the loss of every branch, smoothed, over its raw points, and the penalty on the same steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrim.errors import ConfigError
from retrim.report import quantity
from retrim.report.axis import Scale, frame, padded, ticks
from retrim.report.markup import Markup, details, element, join, picture, svg, table
from retrim.report.series import Palette, legend

_RAW_POINTS = 240
_LINE_POINTS = 200


@dataclass(frozen=True)
class _Curve:
    name: str
    class_: str
    steps: list[float]
    raw: list[float]
    smooth: list[float]


def chart(curves: Mapping[str, Mapping[str, Any]], palette: Palette) -> Markup | None:
    """The curves with their legend and their numbers, or None where no branch has a loss.

    Raises
    ------
    ConfigError
        A branch has another number of values than of steps.
    """
    classes = palette.branches(curves)
    losses = _read(curves, "loss", classes)
    if not losses:
        return None
    penalties = [curve for curve in _read(curves, "penalty", classes) if any(curve.raw)]
    numbers = table(
        ("Branch", "First step", "Last step", "Loss, first", "Loss, lowest", "Loss, last"),
        [
            (
                curve.name,
                quantity.fixed(curve.steps[0], 0),
                quantity.fixed(curve.steps[-1], 0),
                *(
                    quantity.fixed(value, 3)
                    for value in (curve.smooth[0], min(curve.smooth), curve.smooth[-1])
                ),
            )
            for curve in losses
        ],
        caption="Training curves, numbers (smoothed)",
    )
    return join(
        [
            legend((curve.class_, "line", f"{curve.name} · {curve.smooth[-1]:.3f}") for curve in losses),
            picture(lambda width: _draw(losses, penalties, width)),
            details("Numbers behind this chart", numbers),
        ],
        "\n",
    )


def smoothed(values: Sequence[float]) -> list[float]:
    """Centred moving mean over a twentieth of the curve; at both ends over the part of the window that is there."""
    total = [0.0]
    for value in values:
        total.append(total[-1] + value)
    count, half = len(values), len(values) // 40
    result = []
    for index in range(count):
        first, last = max(0, index - half), min(count, index + half + 1)
        result.append((total[last] - total[first]) / (last - first))
    return result


def _read(curves: Mapping[str, Mapping[str, Any]], key: str, classes: Mapping[str, str]) -> list[_Curve]:
    found = []
    for name, curve in curves.items():
        steps, values = curve.get("step") or [], curve.get(key) or []
        if values and len(values) != len(steps):
            raise ConfigError(
                f"curve {name!r} must have one {key} for each of its {len(steps)} steps, not {len(values)}; "
                "log both at the same steps"
            )
        pairs = [(quantity.finite(s), quantity.finite(v)) for s, v in zip(steps, values, strict=False)]
        kept = [(step, value) for step, value in pairs if step is not None and value is not None]
        if kept:
            raw = [value for _, value in kept]
            found.append(_Curve(name, classes[name], [step for step, _ in kept], raw, smoothed(raw)))
    return found


def _draw(losses: Sequence[_Curve], penalties: Sequence[_Curve], width: int) -> Markup:
    steps = [step for curve in losses for step in (curve.steps[0], curve.steps[-1])]
    x = Scale(min(steps), max(steps) if max(steps) > min(steps) else min(steps) + 1, 56, width - 12)
    height = 450 if penalties else 320
    parts = [_panel("loss", losses, x, Scale(*_loss_range(losses), 276, 28))]
    if penalties:
        low, high = padded([value for curve in penalties for value in curve.smooth], 0.08)
        parts.append(_panel("penalty", penalties, x, Scale(max(low, 0.0), high, 408, 336)))
    spoken = "; ".join(
        f"{curve.name}: {curve.smooth[0]:.3f} at step {curve.steps[0]:.0f} to {curve.smooth[-1]:.3f} "
        f"at step {curve.steps[-1]:.0f}"
        for curve in losses
    )
    parts.append(element("text", "step", x=x.end, y=height - 6, class_="tick end"))
    return svg(width, height, f"Training loss, smoothed. {spoken}.", *parts)


def _loss_range(losses: Sequence[_Curve]) -> tuple[float, float]:
    """Every smoothed value and the middle 98 % of the raw ones: a single spike must not flatten the rest."""
    raw = sorted(value for curve in losses for value in curve.raw)
    edge = len(raw) // 100
    smooth = [value for curve in losses for value in (min(curve.smooth), max(curve.smooth))]
    return padded([*smooth, raw[edge], raw[-1 - edge]], 0.04)


def _panel(name: str, curves: Sequence[_Curve], x: Scale, y: Scale) -> Markup:
    about = 5 if y.start - y.end > 120 else 2
    y_marks, y_decimals = ticks(y.low, y.high, about)
    x_marks, x_decimals = ticks(x.low, x.high, 6 if x.end > 500 else 4)
    parts = [
        element("text", name, x=8, y=y.end - 14, class_="tick"),
        frame(
            x,
            y,
            [(mark, f"{mark:.{x_decimals}f}") for mark in x_marks],
            [(mark, f"{mark:.{y_decimals}f}") for mark in y_marks],
        ),
    ]
    parts += [element("path", d=_dots(curve, x, y), class_=f"raw {curve.class_}") for curve in curves]
    for curve in curves:
        told = element("title", f"{curve.name}: {curve.smooth[-1]:.4g} at the end")
        parts.append(element("path", told, d=_line(curve, x, y), class_=f"curve {curve.class_}"))
    return element("g", *parts)


def _thinned(count: int, most: int) -> list[int]:
    """At most that many indices, evenly spaced, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(k * (count - 1) / (most - 1)) for k in range(most)]


def _dots(curve: _Curve, x: Scale, y: Scale) -> str:
    """Points as strokes of no length with round ends: a tenth of the text that circles would take."""
    kept = (i for i in _thinned(len(curve.raw), _RAW_POINTS) if y.low <= curve.raw[i] <= y.high)
    return "".join(f"M{x(curve.steps[i]):.1f} {y(curve.raw[i]):.1f}h0" for i in kept)


def _line(curve: _Curve, x: Scale, y: Scale) -> str:
    kept = _thinned(len(curve.smooth), _LINE_POINTS)
    return "M" + "L".join(f"{x(curve.steps[i]):.1f} {y(curve.smooth[i]):.1f}" for i in kept)
