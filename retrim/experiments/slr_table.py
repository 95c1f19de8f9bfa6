"""Results of `retrim experiment slr` as Markdown, for docs/retrim/experiments.md.

python retrim/experiments/slr_table.py retrim/experiments/results/slr/*.json
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def lines(result: Mapping[str, Any]) -> list[str]:
    """A table of means over seeds, with differences to the method of reference; then the tuning."""
    metric, rows, reference = result["metric"], result["rows"], result["recipe"]["reference"]
    afters = list(rows[0]["score"]) if rows else []
    heads = [
        "form",
        "rate",
        "method",
        "ρ",
        "seeds",
        *(heading(after) for after in afters),
        f"hard, minus {reference}",
        *([f"{heading(afters[-1])}, minus {reference}"] if len(afters) > 1 else []),
    ]
    found = [
        f"Dense: {result['baseline'][metric]:.2f} %.",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
    ]
    for forms, rate, method in dict.fromkeys((r["forms"], r["rate"], r["method"]) for r in rows):
        same = [r for r in rows if (r["forms"], r["rate"], r["method"]) == (forms, rate, method)]
        rho = "" if same[0]["rho"] is None else f"{same[0]['rho']:g}"
        scores = [f"{statistics.mean(r['score'][after][metric] for r in same):.2f}" for after in afters]
        cells = [forms, f"{rate:g}", method, rho, str(len(same)), *scores]
        gaps = [gap(result, forms, rate, method, after) for after in dict.fromkeys(("0", *afters[-1:]))]
        found.append(f"| {' | '.join([*cells, *gaps])} |")
    for tuned in result["tuning"]:
        pairs = zip(tuned["grid"], tuned["scores"], strict=True)
        listed = ", ".join(f"{rho:g}: {score:.2f}" for rho, score in pairs)
        found += ["", f"ρ of {tuned['method']}: {listed}."]
    return found


def heading(after: str) -> str:
    """Of a column of scores."""
    return "hard" if after == "0" else f"+{after}"


def gap(result: Mapping[str, Any], forms: str, rate: float, method: str, after: str) -> str:
    """The paired difference after some epochs, with its interval."""
    wanted = (forms, rate, method, int(after))
    for pair in result["paired"]:
        if (pair["forms"], pair["rate"], pair["method"], pair["after"]) == wanted:
            within = "" if pair["low"] is None else f" ({pair['low']:+.2f} … {pair['high']:+.2f})"
            return f"{pair['difference']:+.2f}{within}"
    return ""


def main() -> None:
    """Print one table a file."""
    for path in map(Path, sys.argv[1:]):
        print(f"### {path.stem}\n")
        print("\n".join(lines(json.loads(path.read_text("utf-8")))), end="\n\n")


if __name__ == "__main__":
    main()
