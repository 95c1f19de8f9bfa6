"""Results of several commands as one page: comparisons of pruners, `retrim glue`, latencies of checkpoints.

Each kind of result becomes rows, layers and settings as `retrim.report.page` takes them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from retrim.errors import ConfigError
from retrim.report.intervals import interval
from retrim.report.series import DENSE, title

Result = Mapping[str, Any]
_Found = TypeVar("_Found")

_SCORE = {
    "word": "Score",
    "meaning": (
        "What the task is scored by, on examples that were not trained on; after hard pruning and all of the retraining. "
        "Points of several seeds are their mean, with the 95 % interval of the mean (Student’s t)."
    ),
}


def gather(results: Sequence[Result]) -> dict[str, Any]:
    """One result for `page`, of any number of results of the kinds ``experiment``, ``glue`` and ``checkpoint``.

    Scores of several tasks cannot be compared: each task becomes a part of the page, and what has times alone
    another.

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
    tasks: dict[str, list[Result]] = {}
    for result in results:
        tasks.setdefault(_checked(result, _task), []).append(result)
    scored = [task for task in tasks if task]
    if len(scored) == 1:
        tasks = {scored[0]: results}
    return {
        "kind": "comparison",
        "host": results[0].get("host") or {},
        "parts": [_part(task, found) for task, found in tasks.items()],
    }


def _part(task: str, results: Sequence[Result]) -> dict[str, Any]:
    """Rows, layers, settings and measure of one task."""
    makers = {"experiment": _comparison, "glue": _checkpoint, "checkpoint": _latencies}
    rows: list[dict[str, Any]] = []
    layers: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    for result in results:
        found = _checked(result, makers[result["kind"]])
        rows += found[0]
        layers += found[1]
        for name, value in found[2].items():
            told = settings.setdefault(name, [])
            told += [value] if value not in told else []
    for name in ("forms", "model"):
        several = len({row.get(name) for row in rows} - {None}) > 1
        for row in rows:
            said = row.pop(name, None)
            if said is not None and several:
                row["method"] += f", {said}"
    for layer in layers:
        layer["row"] = title(layer.pop("of"))  # as it is called now
    metric = next((result["metric"] for result in results if "metric" in result), None)
    return {
        "name": task,
        "rows": _together(rows),
        "layers": list({(layer["row"], layer["name"]): layer for layer in reversed(layers)}.values())[::-1],
        "settings": {
            name: told[0] if len(told) == 1 else ", ".join(map(str, told)) for name, told in settings.items()
        },
        "measure": {**_SCORE, "word": metric.capitalize()} if metric else {},
    }


def _together(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seeds of one method and density as their mean; one dense row for each score, with all that is known of it."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for place, row in enumerate(rows):
        key: tuple[Any, ...] = (place,)
        if row["method"] == DENSE:
            key = (DENSE, row["accuracy"])
        elif "seed" in row:
            key = (row["method"], row["density"])
            if row["seed"] in [other["seed"] for other in found.get(key, ())]:
                key = (place,)  # of another recipe
        found.setdefault(key, []).append(row)
    return [_merged(same) for same in found.values()]


def _merged(same: Sequence[dict[str, Any]]) -> dict[str, Any]:
    whole = {name: value for row in reversed(same) for name, value in row.items() if value is not None}
    if whole.pop("seed", None) is None or len(same) == 1:
        return whole
    measured = {*whole} - {"method", "density"}
    means = {
        name: statistics.mean(row[name] for row in same if row.get(name) is not None) for name in measured
    }
    return {**whole, **means, "seeds": len(same), **_interval(row["accuracy"] for row in same)}


def _checked(result: Result, make: Callable[[Result], _Found]) -> _Found:
    kind = result.get("kind") if isinstance(result, Mapping) else None
    if kind not in ("experiment", "glue", "checkpoint"):
        raise ConfigError(
            f"a result must be of `retrim experiment`, `retrim glue` or benchmarks/checkpoint.py, not of kind {kind!r}"
        )
    try:
        return make(result)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"a result of kind {kind!r} lacks what its command writes ({error!r}): make it again"
        ) from None


def _task(result: Result) -> str:
    """What was trained for; empty where nothing was scored."""
    if result["kind"] != "experiment":
        return str(result.get("task", ""))
    task = result["recipe"]["task"]
    found = [str(task[name]) for name in ("task", "network") if name in task] or [str(task["type"])]
    return ", ".join([*found, *(Path(task[name]).stem for name in ("cfg", "config") if task.get(name))])


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
    for forms, method, rate in dict.fromkeys((r["forms"], r["method"], r["rate"]) for r in found):
        same = [r for r in found if (r["forms"], r["method"], r["rate"]) == (forms, method, rate)]
        last, hard = ([_score(row, metric, at) for row in same] for at in (-1, 0))
        rows.append(
            {
                "method": method,
                "forms": forms,
                "density": statistics.mean(1 / r.get("plan_rate", rate) for r in same),
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
    if recipe["retrain"].get("score_after") == [0]:
        del stages["retrain"]  # none was asked for
    return rows, [], {"forms": forms, **stages, "ladder": recipe.get("ladder", False)}


def _checkpoint(result: Result) -> _Parts:
    """A checkpoint of `retrim glue`: the packed one's score, time and size."""
    row, latency, sizes = result["row"], result["latency"], result["bytes"]
    metric = result["metric"]
    density = 1 / row.get("plan_rate", row["rate"])
    packed = {
        "method": row["method"],
        "seed": result["seed"],
        "model": result.get("model"),
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
    layers = [{"of": packed, "name": key, "density": value} for key, value in result["densities"].items()]
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
