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
    "ADMM": "#d1661e",
    "magnitude": "#6b6b6b",
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
    figure = Figure(figsize=(10, 3.4 * (len(forms) + 1)), layout="constrained")
    axes = figure.subplots(len(forms) + 1, 2, squeeze=False)
    afters = list(rows[0]["score"]) if rows else []
    for line, name in enumerate(forms):
        for place, after in enumerate((afters[0], afters[-1])):
            _scores(axes[line][place], [r for r in rows if r["forms"] == name], result, after)
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
        axis.plot(rates, [statistics.mean(v) for v in values], "o-", color=colour, label=method)
        for rate, each in zip(rates, values, strict=True):
            axis.plot([rate] * len(each), each, ".", color=colour, alpha=0.5)
    axis.set_xticks(sorted({row["rate"] for row in rows}))
    when = "at hard pruning" if after == "0" else f"after {after} epochs of retraining"
    axis.set(title=f"{rows[0]['forms']}, {when}", xlabel="rate", ylabel=f"{metric}, %")
    axis.legend()


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
