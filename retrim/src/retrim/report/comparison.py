"""Pictures of a comparison of pruners: scores over rates, and how the multipliers went."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retrim.errors import ConfigError, MissingExtraError
from retrim.files import replacing

COLOURS = {
    "SLR": "#1b6ca8",
    "SLR, as printed": "#8ab6d6",
    "SLR, restoring": "#7a4fa3",
    "SLR, by inputs": "#16a0a8",
    "ADMM": "#d1661e",
    "magnitude": "#6b6b6b",
    "one-shot magnitude": "#6b6b6b",
    "gradual magnitude": "#a08a5b",
    "group lasso": "#2e7d4f",
    "group lasso, selective": "#8fc7a3",
    "group lasso, by inputs": "#d9a21b",
    "optimal brain surgeon": "#a3324b",
}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture; its form follows the file's ending.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    ConfigError
        If the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("pictures need matplotlib: pip install 'retrim[zoo]'") from None
    rows = result["rows"]
    forms = list(dict.fromkeys(row["forms"] for row in rows))
    multipliers = any(row.get("updates") for row in rows)
    lines = max(1, len(forms) + multipliers)
    figure = Figure(figsize=(12, 3.4 * lines), layout="constrained")
    axes = figure.subplots(lines, 2, squeeze=False)
    afters = list(rows[0]["score"]) if rows else []
    for line, name in enumerate(forms):
        for place, after in enumerate((afters[0], afters[-1])):
            _scores(axes[line][place], [r for r in rows if r["forms"] == name], result, after)
        axes[line][1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside: methods may be many
    if multipliers:
        _updates(axes[-1][0], rows, "relative", "‖W − Z‖ / ‖W‖")
        _updates(axes[-1][1], rows, "step_size", "step of the multipliers")
    with replacing(path, "picture", ConfigError) as beside:
        figure.savefig(beside, format=path.suffix.lstrip(".") or "png", dpi=130)


def _scores(axis: Any, rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any], after: str) -> None:
    metric = result["metric"]
    axis.axhline(result["baseline"][metric], color="black", linestyle=":", label="dense")
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        rates = sorted({row["rate"] for row in mine})
        values = [[r["score"][after][metric] for r in mine if r["rate"] == rate] for rate in rates]
        colour = COLOURS.get(method)
        means = [statistics.mean(v) for v in values]
        (line,) = axis.plot(rates, means, "o-", color=colour, label=method)
        for rate, each in zip(rates, values, strict=True):
            axis.plot([rate] * len(each), each, ".", color=line.get_color(), alpha=0.5)
    # Logarithmic: a rate twice as high keeps half, wherever it begins.
    rates = sorted({row["rate"] for row in rows})
    axis.set_xscale("log")
    axis.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
    axis.set_xticks([], minor=True)
    epochs = f"{after} epoch{'' if after == '1' else 's'}"
    when = "at hard pruning" if after == "0" else f"after {epochs} of retraining"
    axis.set_title(f"{rows[0]['forms']}, {when}", fontsize="medium")
    axis.set(xlabel="rate", ylabel=f"{metric}, %")


def _updates(axis: Any, rows: Sequence[Mapping[str, Any]], field: str, label: str) -> None:
    """The first seed's updates, at the highest rate of the first form; hollow where step 1 was not accepted."""
    with_updates = [row for row in rows if row.get("updates") and row["forms"] == rows[0]["forms"]]
    highest = max((row["rate"] for row in with_updates), default=0)
    seen = set()
    for row in with_updates:
        if row["rate"] == highest and row["method"] not in seen:
            seen.add(row["method"])
            steps = [update["step"] for update in row["updates"]]
            values = [update[field] for update in row["updates"]]
            colour = COLOURS.get(row["method"])
            (line,) = axis.plot(steps, values, "-", color=colour, label=row["method"])
            moved = [update["weights_accepted"] or update["probe_loss"] is None for update in row["updates"]]
            faces = [line.get_color() if accepted else "white" for accepted in moved]
            axis.scatter(steps, values, c=faces, edgecolors=line.get_color(), zorder=3)
    axis.set(
        title=f"{rows[0]['forms']}, {highest:g}x" if rows else "", xlabel="step", ylabel=label, yscale="log"
    )
    if seen:
        axis.legend()
