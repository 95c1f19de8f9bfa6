"""What a run of levels gives: the result file, the table of levels for the simulator, methods of search compared."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from rich import box
from rich.table import Table

from retrim.artifact import Artifact
from retrim.artifact.list_sections import MOST_SEGMENTS
from retrim.levels import METHODS, Choice, Trial, best, one_by_one
from retrim.levels.search import Runner
from retrim.recipe.leveling import LevelsRun
from retrim.report.intervals import interval
from retrim.runtime.host import describe
from retrim.torch.levels import pack_levels
from retrim.zoo.language import LanguageTask


def run_levels(run: LevelsRun, *, run_trials: Runner = one_by_one) -> dict[str, Any]:
    """Search, train what was chosen, and say what it is worth.

    Parameters
    ----------
    run : LevelsRun
    run_trials : callable
        Who scores trials (`retrim.recipe.level_runners`); no influence on the result.

    Returns
    -------
    dict
        Ready for JSON; ``levels`` is a table for `retrim simulate`.
    """
    baseline = run.baseline()
    trials = run.search(run=run_trials)
    choice = run.chosen(trials)
    _, accuracies, _ = run.trained(choice)
    space = run.space
    return {
        "kind": "levels",
        "host": describe(),
        "seed": run.seed,
        "recipe": run.recipe.model_dump(mode="json"),
        "metric": run.task.metric,
        "baseline": baseline,
        "space": {
            "size": space.size,
            "deadline_ms": space.deadline_ms,
            "points": [[point.mhz, point.milliwatts, point.millijoules] for point in space.points],
            "candidates": [[c.density, c.patterns, c.cycles] for c in space.candidates],
            "options": space.options,
        },
        "trials": [_written(trial) for trial in trials],
        "choice": list(choice),
        "levels": table_of(run, choice, accuracies, baseline),
    }


def table_of(
    run: LevelsRun, choice: Choice, accuracies: Sequence[float], baseline: Mapping[str, float]
) -> dict[str, Any]:
    """Levels in the format that `retrim simulate` reads; densities are of the weights that were pruned."""
    space, part = run.space, run.recipe.backbone
    top = max(point.mhz for point in space.points)
    levels = [
        {
            "name": f"l{len(choice) - place}",
            "mhz": point.mhz,
            "density": part.density * space.candidates[number].density,
            "accuracy": accuracy,
            "cycles": space.candidates[number].cycles,
        }
        for place, (point, number, accuracy) in enumerate(zip(space.points, choice, accuracies, strict=True))
    ]
    return {
        "format": "retrim-levels",
        "version": 1,
        "deadline_ms": space.deadline_ms,
        "dense": {"mhz": top, "density": 1.0, "accuracy": baseline["rival"], "cycles": run.latency.dense},
        "backbone": {
            "mhz": top,
            "density": part.density,
            "accuracy": baseline["backbone"],
            "cycles": run.latency.backbone,
        },
        "level": levels,
    }


def packed_levels(
    run: LevelsRun, choice: Choice, table: Mapping[str, Any], precisions: Sequence[str] = ("fp32",)
) -> Artifact:
    """The network with its levels as an artifact, the densest level first.

    Parameters
    ----------
    choice : tuple of int
        As `run_levels` found it.
    table : dict
        Of its levels, by `table_of`: what the artifact says of each.
    """
    model, _, masks = run.trained(choice)
    entries = sorted(zip(table["level"], masks, strict=True), key=lambda pair: -pair[0]["density"])
    task = run.task
    held = getattr(model, "config", None)
    config = {} if held is None else {k: v for k, v in held.to_dict().items() if k != "_name_or_path"}
    return pack_levels(
        model,
        {entry["name"]: kept for entry, kept in entries},
        height=run.recipe.patterns.group,
        nested=_nested([kept for _, kept in entries]),
        facts={
            entry["name"]: {key: value for key, value in entry.items() if key != "name"}
            for entry, _ in entries
        },
        architecture=str(getattr(model, "architecture", type(model).__name__)),
        config=config,
        precisions=precisions,
        tokenizer=task.tokens.tokenizer if isinstance(task, LanguageTask) else None,
        metrics={f"{run.task.metric} of {name}": value for name, value in run.baseline().items()},
        provenance={
            "recipe": run.recipe.model_dump(mode="json"),
            "seed": run.seed,
            "device": run.device.name,
        },
    )


def _nested(levels: Sequence[Mapping[str, torch.Tensor]]) -> bool:
    """Whether each level's masks lie inside those of the level before it, so that one pack serves all."""
    return 1 < len(levels) <= MOST_SEGMENTS and all(
        bool((outer[name] | ~inner[name]).all()) for outer, inner in pairwise(levels) for name in inner
    )


def compare_methods(
    run: LevelsRun,
    seeds: Sequence[int],
    methods: Sequence[str] = METHODS,
    *,
    run_trials: Runner = one_by_one,
) -> dict[str, Any]:
    """Best rewards of every method at equal trials, seed by seed, and differences to random search with 95 % intervals."""
    rewards: dict[str, list[float]] = {}
    for method in methods:
        rewards[method] = [
            best(run.search(run=run_trials, method=method, seed=seed)).reward for seed in seeds
        ]
    rows = []
    for method, values in rewards.items():
        gaps = [a - b for a, b in zip(values, rewards["random"], strict=True)] if "random" in rewards else []
        low, high = interval(gaps)
        rows.append(
            {
                "method": method,
                "rewards": values,
                "mean": statistics.mean(values),
                "minus_random": statistics.mean(gaps) if gaps else None,
                "low": low,
                "high": high,
            }
        )
    return {"seeds": list(seeds), "trials": run.recipe.search.trials, "rows": rows}


def shown(result: Mapping[str, Any]) -> Table:
    """The levels as a table for the console."""
    found, table = result["levels"], Table(box=box.SIMPLE_HEAD)
    for name in ("level", "MHz", "density", result["metric"], "latency, ms", "inferences"):
        table.add_column(name, justify="left" if name == "level" else "right")
    points = {point[0]: point for point in result["space"]["points"]}
    for entry in [found["dense"], found["backbone"], *found["level"]]:
        milliseconds = entry["cycles"] / (1000 * entry["mhz"])
        name = entry.get("name", "dense" if entry is found["dense"] else "backbone")
        runs = ""
        if "name" in entry:
            _, milliwatts, millijoules = points[entry["mhz"]]
            runs = f"{millijoules / (milliwatts * milliseconds / 1000):,.0f}"
        table.add_row(
            name,
            f"{entry['mhz']:g}",
            f"{entry['density']:.3f}",
            f"{100 * entry['accuracy']:.2f} %",
            f"{milliseconds:.2f}",
            runs,
        )
    return table


def _written(trial: Trial) -> dict[str, Any]:
    accuracies = None if trial.accuracies is None else list(trial.accuracies)
    return {"choice": list(trial.choice), "accuracies": accuracies, "reward": trial.reward}
