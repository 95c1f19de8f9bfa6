"""Results of several commands as one page: comparisons of pruners, `retrim glue`, latencies of checkpoints.

Each kind of result becomes rows, layers and settings as `retrim.report.page` takes them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retrim.errors import ConfigError
from retrim.report.intervals import interval
from retrim.report.series import DENSE, title

Result = Mapping[str, Any]

_SCORE = {
    "word": "Score",
    "meaning": (
        "What the task is scored by, on examples that were not trained on; after hard pruning and all of the retraining. "
        "Points of several seeds are their mean, with the 95 % interval of the mean (Student’s t)."
    ),
}


def gather(results: Sequence[Result]) -> dict[str, Any]:
    """One result for `page`, of any number of results of the kinds ``experiment``, ``glue`` and ``checkpoint``.

    Scores of several tasks are no one's to compare: each task becomes a part of the page.

    Parameters
    ----------
    results : sequence of Mapping
        As the commands' JSON files hold them.

    Raises
    ------
    ConfigError
        If there is none, or one is of another kind.
    """
    results = [one for result in results for one in _single(result)]
    if not results:
        raise ConfigError("a report must have at least one result, but none is given")
    makers = {"experiment": _comparison, "glue": _checkpoint, "checkpoint": _latencies}
    parts: dict[str, list[dict[str, Any]]] = {}
    layers: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    metrics = []
    for result in results:
        kind = result.get("kind")
        if kind not in makers:
            raise ConfigError(
                f"a result must be of `retrim experiment`, `retrim glue` or benchmarks/checkpoint.py, not of kind {kind!r}"
            )
        try:
            found = makers[kind](result)
            task = _task(result)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"a result of kind {kind!r} lacks what its command writes ({error!r}): make it again"
            ) from None
        parts.setdefault(task, []).extend(found[0])
        layers += found[1]
        settings |= found[2]
        metrics += [result["metric"]] if "metric" in result else []
    scored = [task for task in parts if task]
    if len(scored) == 1:
        parts = {scored[0]: [row for rows in parts.values() for row in rows]}
    measure = {**_SCORE, "word": metrics[0].capitalize() if metrics else "Score"}
    return {
        "kind": "comparison",
        "host": results[0].get("host") or {},
        "parts": [{"name": task, "rows": _one_dense(rows)} for task, rows in parts.items()],
        "layers": layers,
        "settings": settings,
        "measure": measure,
    }


def _task(result: Result) -> str:
    """What was trained for; empty where nothing was scored."""
    if result["kind"] == "experiment":
        task = result["recipe"]["task"]
        return str(task.get("task", task["type"]))
    return str(result.get("task", ""))


def _one_dense(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    dense = [row for row in rows if row["method"] == DENSE]
    return [row for row in rows if row["method"] != DENSE or row is dense[0]]


def _single(result: Result) -> Sequence[Result]:
    """A result, or those of several rates that were run one after another."""
    return result.get("results") or [] if result.get("kind") == "glue rates" else [result]


_Parts = tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]


def _comparison(result: Result) -> _Parts:
    """Means over the seeds, at the last score of each branch."""
    metric, found = result["metric"], result["rows"]
    rows: list[dict[str, Any]] = [
        {"method": DENSE, "density": 1.0, "accuracy": result["baseline"][metric] / 100}
    ]
    several = len({row["forms"] for row in found}) > 1
    for forms, method, rate in dict.fromkeys((r["forms"], r["method"], r["rate"]) for r in found):
        same = [r for r in found if (r["forms"], r["method"], r["rate"]) == (forms, method, rate)]
        last, hard = ([_score(row, metric, at) for row in same] for at in (-1, 0))
        rows.append(
            {
                "method": f"{method}, {forms}" if several else method,
                "density": 1 / rate,
                "seeds": len(same),
                "hard": statistics.mean(hard),
                "accuracy": statistics.mean(last),
                **_interval(last),
            }
        )
    recipe = result["recipe"]
    forms = ", ".join(form["name"] for form in recipe["forms"])
    stages = {
        name: f"{recipe[name]['epochs']} epochs" for name in ("dense", "prune", "retrain") if recipe.get(name)
    }
    return rows, [], {"forms": forms, **stages, "ladder": recipe.get("ladder", False)}


def _checkpoint(result: Result) -> _Parts:
    """A checkpoint of `retrim glue`: the packed one's score, time and size."""
    row, latency, sizes = result["row"], result["latency"], result["bytes"]
    metric = result["metric"]
    density = 1 / row["rate"]
    packed = {
        "method": row["method"],
        "density": density,
        "accuracy": result["packed_score"][metric] / 100,
        "bytes": sizes["packed"],
        **{
            name: latency.get(name)
            for name in ("ms_dense", "ms_packed", "speedup", "speedup_linears", "amdahl")
        },
    }
    dense = {
        "method": DENSE,
        "density": 1.0,
        "accuracy": result["baseline"][metric] / 100,
        "bytes": sizes["pruned"],
    }
    name = title(packed)
    layers = [{"row": name, "name": key, "density": value} for key, value in result["densities"].items()]
    return [dense, packed], layers, {"task": result["task"], "seed": result["seed"]}


def _latencies(result: Result) -> _Parts:
    """A packed checkpoint against dense run-times."""
    rows = [
        {
            "method": f"packed, against {rival['name']}",
            "density": result["density"],
            "ms_dense": rival["ms"],
            "ms_packed": rival["ms_packed"],
            "speedup": rival["speedup"],
        }
        for rival in result["rivals"]
    ]
    return rows, [], {"tokens": result["tokens"], "threads": result["threads"]}


def _score(row: Result, metric: str, at: int) -> float:
    """A share of one, at the first or last of the scores."""
    after = sorted(row["score"], key=int)[at]
    return float(row["score"][after][metric]) / 100


def _interval(values: Iterable[float]) -> dict[str, float]:
    low, high = interval(list(values))
    return {} if low is None or high is None else {"low": low, "high": high}
