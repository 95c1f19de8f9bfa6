"""What a comparison of pruners found: the result file, the table, paired differences."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from retrim.recipe.comparing import ComparisonRun
from retrim.report.intervals import interval
from retrim.runtime.host import describe


def report(
    run: ComparisonRun, baseline: Mapping[str, float], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Everything that the result file says."""
    metric = run.task.metric
    tuned = [run.tuned(method) for method in run.recipe.methods if method.tuned and run.is_tuned(method)]
    return {
        "kind": "experiment",
        "experiment": "slr",
        "host": describe(),
        "recipe": run.recipe.model_dump(mode="json"),
        "metric": metric,
        "baseline": dict(baseline),
        "tuning": tuned,
        "rows": list(rows),
        "paired": paired(rows, metric, run.recipe.reference),
    }


def paired(rows: Sequence[Mapping[str, Any]], metric: str, reference: str) -> list[dict[str, Any]]:
    """Every method minus the reference, over the seeds that both have, for every plan, rate and score."""
    found = []
    for forms, rate, method in dict.fromkeys((row["forms"], row["rate"], row["method"]) for row in rows):
        here = [row for row in rows if (row["forms"], row["rate"]) == (forms, rate)]
        mine, theirs = ({r["seed"]: r for r in here if r["method"] == name} for name in (method, reference))
        seeds = sorted(mine.keys() & theirs.keys())
        if method == reference or not seeds:
            continue
        for after in mine[seeds[0]]["score"]:
            gaps = [mine[s]["score"][after][metric] - theirs[s]["score"][after][metric] for s in seeds]
            low, high = interval(gaps)
            found.append(
                {
                    "forms": forms,
                    "rate": rate,
                    "method": method,
                    "after": int(after),
                    "seeds": seeds,
                    "reference": reference,
                    "difference": statistics.mean(gaps),
                    "low": low,
                    "high": high,
                }
            )
    return found


def table(result: Mapping[str, Any]) -> Table:
    """Means over the seeds, one line for each plan, rate and method."""
    metric, rows = result["metric"], result["rows"]
    afters = list(rows[0]["score"]) if rows else []
    shown = Table(box=box.SIMPLE_HEAD, title=f"{metric} in percent; dense {result['baseline'][metric]:.2f}")
    for name in ("form", "rate", "method", "rho", "seeds", "cut", *(_heading(after) for after in afters)):
        shown.add_column(name, justify="left" if name in ("form", "method") else "right")
    for forms, rate, method in dict.fromkeys((r["forms"], r["rate"], r["method"]) for r in rows):
        same = [r for r in rows if (r["forms"], r["rate"], r["method"]) == (forms, rate, method)]
        rho = same[0]["rho"]
        shown.add_row(
            forms,
            f"{rate:g}x",
            method,
            "" if rho is None else f"{rho:g}",
            str(len(same)),
            f"{100 * statistics.mean(r['lost'] for r in same):.0f} %",
            *(f"{statistics.mean(r['score'][after][metric] for r in same):.2f}" for after in afters),
        )
    return shown


def _heading(after: str) -> str:
    return "hard" if after == "0" else f"+{after}"
