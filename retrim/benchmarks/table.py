"""Markdown tables of what `linear.py` measured: ratios to the best dense rival beside their targets.

    python retrim/benchmarks/table.py RESULT.json [RESULT.json ...] [--rivals]

Ratios are geometric means over the shapes.  A ratio above 1 means that packed layers are faster.
Files of the same measurement with one thread and with two also give the speed of two over one.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import targets
from targets import Row

Report = Mapping[str, Any]
Setting = tuple[str | None, int, int]  # activations, rows, group


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rivals", action="store_true", help="microseconds of every variant as well")
    options = parser.parse_args()
    reports = [json.loads(file.read_text()) for file in options.files]
    for file, report in zip(options.files, reports, strict=True):
        print(f"`{file.name}`: {headline(report)}\n")
        print(ratios(report))
        if any(row["structure"] == "pattern" for row in report["rows"]):
            print(patterns(report))
        if options.rivals:
            print(rivals(report))
    print(scaling(reports), end="")


def headline(report: Report) -> str:
    """Precision, threads, processor and how it was measured, in one line."""
    count = report["threads"]
    return (
        f"{report['precision']}, {count} thread{'s' if count > 1 else ''}, {report['host']['cpu']}, "
        f"{report['host']['isa_selected']}, {report['clock']} clock, load {report['load']:.1f}, "
        f"commit {_short(report['commit'])}"
    )


def _short(commit: str) -> str:
    name, dash, rest = commit.partition("-")
    return f"{name[:12]}{dash}{rest}"


def ratios(report: Report) -> str:
    """One table for each way of holding activations, height and group."""
    parts = []
    for setting in _settings(report):
        activations, rows, group = setting
        kind = f", activations {activations}" if activations else ""
        parts.append(f"{report['precision']}{kind}, rows {rows}, groups of {group}\n")
        parts.append(_ratio_table(report, setting))
    return "\n".join(parts)


def _ratio_table(report: Report, setting: Setting) -> str:
    rows = [row for row in report["rows"] if _setting(row) == setting]
    densities = sorted({row["density"] for row in rows}, reverse=True)
    head = ["tokens", "best dense", *(f"density {_fraction(density)}" for density in densities)]
    body = []
    for tokens in sorted({row["tokens"] for row in rows}):
        here = [row for row in rows if row["tokens"] == tokens]
        cells = [
            _cell([row for row in here if row["density"] == density], report["host"]["isa"])
            for density in densities
        ]
        body.append([str(tokens), _fastest(here), *cells])
    return markdown(head, body)


def _cell(rows: Sequence[Row], isa: Sequence[str]) -> str:
    """A ratio and whether it meets its target."""
    reached = targets.ratio(rows)
    if reached is None:
        return "no rival"
    if not targets.applicable(rows[0]["precision"], isa):
        return f"{reached:.2f} (not applicable)"
    wanted = targets.target(rows[0], isa)
    if wanted is None:
        return f"{reached:.2f}"
    return f"{reached:.2f} ({wanted:.2f} {'met' if reached >= wanted else 'missed'})"


def _fastest(rows: Sequence[Row]) -> str:
    """The best rival of each shape, with its microseconds."""
    found = {}
    for row in rows:
        fastest = targets.best(row)
        found[row["shape"]] = f"{fastest[0]} {fastest[1]:.1f} µs" if fastest else "none"
    return "; ".join(found.values())


def patterns(report: Report) -> str:
    """Speed of pattern sets over block columns of 32 rows, and over the best dense run-time.

    Geometric means over the shapes; the target is for row groups of 4 at density 1/3.
    """
    groups: dict[tuple[Any, ...], list[tuple[Row, float]]] = {}
    block = {_place(row): row["ours_us"] for row in report["rows"] if _setting(row) == (None, 32, 1)}
    for row in report["rows"]:
        if row["structure"] == "pattern":
            key = (row["rows"], tuple(row["tile"]), row["tokens"], row["density"])
            groups.setdefault(key, []).append((row, block[_place(row)] / row["ours_us"]))
    body = []
    for (rows, tile, tokens, density), found in groups.items():
        over_block = targets.mean(ratio for _, ratio in found)
        over_dense = targets.ratio([row for row, _ in found])
        met = ""
        if rows == 4 and _fraction(density) == "1/3":
            met = f" ({targets.OVER_BLOCK} {'met' if over_block >= targets.OVER_BLOCK else 'missed'})"
        cells = [
            str(rows),
            "x".join(map(str, tile)),
            str(tokens),
            _fraction(density),
            f"{over_block:.2f}{met}",
        ]
        body.append([*cells, "–" if over_dense is None else f"{over_dense:.2f}"])
    return markdown(["row group", "tile", "tokens", "density", "over block columns", "over best dense"], body)


def _place(row: Row) -> tuple[Any, ...]:
    return row["shape"], row["tokens"], row["density"]


def rivals(report: Report) -> str:
    """Microseconds of each variant and of our own density 1, by shape and tokens."""
    names = list(dict.fromkeys(name for row in report["rows"] for name in row["variants_us"]))
    own = [_own_name(setting) for setting in _settings(report)]
    places: dict[tuple[str, int], dict[str, float | None]] = {}
    for row in report["rows"]:
        times = places.setdefault((row["shape"], row["tokens"]), dict(row["variants_us"]))
        if row["density"] == 1:
            times[_own_name(_setting(row))] = row["ours_us"]
    head = ["µs", *(f"{shape}, {tokens}" for shape, tokens in places)]
    body = []
    for name in [*names, *own]:
        cells = [times.get(name) for times in places.values()]
        body.append([name, *("–" if us is None else f"{us:.1f}" for us in cells)])
    return markdown(head, body)


def _own_name(setting: Setting) -> str:
    activations, rows, group = setting
    return f"ours, density 1, {f'{activations}, ' if activations else ''}rows {rows}, groups of {group}"


def scaling(reports: Sequence[Report]) -> str:
    """Speed of two threads over one, where both were measured; empty where not."""
    one, two = _by_place(reports, 1), _by_place(reports, 2)
    found: dict[tuple[Any, ...], list[float]] = {}
    for place, row in two.items():
        if place in one:
            found.setdefault(place[2:], []).append(one[place]["ours_us"] / row["ours_us"])
    if not found:
        return ""
    head = ["two threads over one", "rows", "group", "tokens", "density", "speed"]
    body = []
    for (precision, activations, rows, group, tokens, density), ratios in found.items():
        speed = targets.mean(ratios)
        met = f" ({targets.TWO_THREADS} {'met' if speed >= targets.TWO_THREADS else 'missed'})"
        name = f"{precision} {activations}" if activations else precision
        cells = [str(rows), str(group), str(tokens), _fraction(density)]
        body.append([name, *cells, f"{speed:.2f}{met if tokens >= 128 else ''}"])
    return markdown(head, body)


def _by_place(reports: Sequence[Report], threads: int) -> dict[tuple[Any, ...], Row]:
    return {
        (
            report["host"]["cpu"],
            row["shape"],
            row["precision"],
            *_setting(row),
            row["tokens"],
            row["density"],
        ): row
        for report in reports
        for row in report["rows"]
        if row["threads"] == threads and row["structure"] == "block"
    }


def _setting(row: Row) -> Setting:
    return row["activations"], row["rows"], row["group"]


def _settings(report: Report) -> Iterator[Setting]:
    """Those of blocks: pattern sets have a table of their own."""
    return iter(dict.fromkeys(_setting(row) for row in report["rows"] if row["structure"] == "block"))


def _fraction(density: float) -> str:
    for whole in range(1, 33):
        if math.isclose(density, 1 / whole, abs_tol=1e-4):
            return f"1/{whole}" if whole > 1 else "1"
    return f"{density:.4g}"


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table whose columns are as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [head, ["-" * width for width in widths], *body]
    return "".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )


if __name__ == "__main__":
    main()
