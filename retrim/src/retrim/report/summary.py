"""The summary: headline numbers of one row, and the table of all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retrim.report import quantity
from retrim.report.markup import Markup, element, join, table
from retrim.report.series import DENSE, is_plain, name, title

Row = Mapping[str, Any]

_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("density", "Density", lambda value: quantity.fixed(value, 3)),
    ("seeds", "Seeds", lambda value: quantity.fixed(value, 0)),
    ("parameters", "Parameters", lambda value: quantity.fixed(value, 0)),
    ("bytes", "File", quantity.size),
    ("perplexity", "Perplexity", lambda value: quantity.fixed(value, 2)),
    ("hard", "At hard pruning", lambda value: quantity.percent(value, 2)),
    ("accuracy", "Accuracy", lambda value: quantity.percent(value, 2)),
    ("low", "From", lambda value: quantity.percent(value, 2)),
    ("high", "To", lambda value: quantity.percent(value, 2)),
    ("ms_dense", "Dense, ms", quantity.milliseconds),
    ("ms_packed", "Packed, ms", quantity.milliseconds),
    ("speedup", "Speed-up", quantity.factor),
    ("speedup_linears", "Linears", quantity.factor),
    ("amdahl", "Of bound", lambda value: quantity.percent(value, 0)),
)


def headline_row(rows: Sequence[Row]) -> int | None:
    """Index of the row the headline speaks of: the lowest density, there the best accuracy, then the best speed-up."""

    def order(index: int) -> tuple[float, float, float]:
        row = rows[index]
        return (
            -(quantity.finite(row.get("density")) or 1.0),
            quantity.finite(row.get("accuracy")) or 0.0,
            quantity.finite(row.get("speedup")) or 0.0,
        )

    # a speed-up is quoted against dense layers of the same precision
    candidates = [i for i, row in enumerate(rows) if row.get("method") != DENSE and is_plain(row)]
    return max(candidates, key=order, default=None)


def headline(rows: Sequence[Row], word: str = "Accuracy") -> Markup | None:
    """Tiles of numbers that all belong to one row, so that speed and accuracy are those of one artifact."""
    chosen = headline_row(rows)
    if chosen is None:
        return None
    row = rows[chosen]
    before = [other for other in rows if other.get("method") == DENSE and is_plain(other)]
    dense: Row = before[0] if len(before) == 1 else {}  # of several, which one was pruned is not known
    found = [*_speed(row), *_quality(row, dense, word)]
    if not found:
        return None
    tiles = [
        element(
            "div",
            element("dt", name),
            element("dd", value),
            element("dd", note, class_="note"),
            class_="tile",
        )
        for name, value, note in found
    ]
    best = "fastest" if quantity.finite(row.get("accuracy")) is None else "most accurate"
    return join(
        [
            element(
                "p", f"All of one row, the {best} at the lowest density: ", element("strong", title(row)), "."
            ),
            element("dl", *tiles, class_="tiles"),
        ],
        "\n",
    )


def _speed(row: Row) -> list[tuple[str, str, str]]:
    tiles = []
    if quantity.finite(row.get("speedup")) is not None:
        before, after = (quantity.milliseconds(row.get(key)) for key in ("ms_dense", "ms_packed"))
        tiles.append(("Whole model", quantity.factor(row["speedup"]), f"{before} → {after} ms"))
    if quantity.finite(row.get("speedup_linears")) is not None:
        tiles.append(("Pruned linears", quantity.factor(row["speedup_linears"]), "the packed layers alone"))
    if quantity.finite(row.get("amdahl")) is not None:
        tiles.append(("Of Amdahl’s bound", quantity.percent(row["amdahl"], 0), "reached by the whole model"))
    return tiles


def _quality(row: Row, dense: Row, word: str) -> list[tuple[str, str, str]]:
    tiles = []
    before, after = quantity.finite(dense.get("accuracy")), quantity.finite(row.get("accuracy"))
    if before and after is not None:
        change = f"{'+' if after >= before else ''}{quantity.percent(after / before - 1)}"
        note = f"{quantity.percent(before, 2)} → {quantity.percent(after, 2)}"
        tiles.append((f"{word}, relative", change, note))
    before, after = quantity.finite(dense.get("perplexity")), quantity.finite(row.get("perplexity"))
    if after is not None:
        note = "" if before is None else f"dense {quantity.fixed(before, 2)}"
        tiles.append(("Perplexity", quantity.fixed(after, 2), note))
    before, after = quantity.finite(dense.get("bytes")), quantity.finite(row.get("bytes"))
    if before and after is not None:
        tiles.append(
            (
                "File size",
                quantity.percent(after / before, 0),
                f"{quantity.size(before)} → {quantity.size(after)}",
            )
        )
    return tiles


def results(rows: Sequence[Row], word: str = "Accuracy") -> Markup | None:
    """The table of all rows; a column that no row has a value for is left out."""
    if not rows:
        return None
    columns = [c for c in _COLUMNS if any(quantity.finite(row.get(c[0])) is not None for row in rows)]
    body = [(name(row), *(write(row.get(key)) for key, _, write in columns)) for row in rows]
    head = ("Method", *(word if key == "accuracy" else called for key, called, _ in columns))
    return table(head, body, caption="Results", marked=headline_row(rows))
