"""Levels on the small network of recipes/rt3/search.toml: kinds of masks at equal density, and the deadline swept.

Kinds: pattern sets that each level takes anew (free), one family of patterns for all levels of a tile
(nested), and every group of rows its own strongest columns (lists), by weights alone, with their
inputs, or as the surgeon orders them.  Each is trained jointly from one backbone, at the densest candidates that meet the deadline;
accuracies are next-token, in percent.  Deadlines: multiples of the backbone's latency at the fastest
point, with lists by inputs.

    python retrim/experiments/levels.py --data DATA --out runs/rt3-kinds --json retrim/experiments/results/rt3/kinds.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrim.recipe.leveling import LevelsRun
from retrim.recipe.levels import LevelsRecipe, read_levels_recipe
from retrim.report.intervals import interval
from retrim.runtime.host import describe

RECIPE = Path(__file__).parents[1] / "recipes" / "rt3" / "search.toml"
KINDS: dict[str, dict[str, Any]] = {
    "free": {"sets": 1, "lists": False},
    "nested": {"sets": 1, "lists": False, "nested": True},
    "lists": {"sets": 0, "lists": True, "nested": True},
    "lists by inputs": {"sets": 0, "lists": True, "nested": True, "importance": "inputs"},
    "lists by the surgeon": {"sets": 0, "lists": True, "nested": True, "importance": "surgeon"},
}
DEADLINES = (1.05, 1.3, 1.6, 2.0)
DENSE_ENOUGH = tuple(n / 80 for n in (80, 70, 56, 42, 28, 21, 14, 8))


def changed(recipe: LevelsRecipe, **parts: dict[str, Any]) -> LevelsRecipe:
    """The recipe with some entries of its parts changed."""
    table = recipe.model_dump(mode="json")
    return LevelsRecipe.model_validate(table | {name: table[name] | part for name, part in parts.items()})


def levels(run: LevelsRun) -> dict[str, Any]:
    """The densest candidates in time, trained jointly: what they reach, and how much of the weights they keep."""
    space = run.space
    choice = tuple(options[0] for options in space.options)
    _, accuracies, masks = run.trained(choice)
    weights = {name: p.detach() for name, p in run.level_masks.start.named_parameters()}
    energy = [
        sum(float(weights[name][mask].square().sum()) for name, mask in level.items())
        / sum(float(weights[name].square().sum()) for name in level)
        for level in masks
    ]
    counts, top = space.runs(choice), space.points[0]
    alone = sum(point.millijoules for point in space.points) / top.millijoules
    return {
        "mhz": [point.mhz for point in space.points],
        "density": [run.recipe.backbone.density * space.candidates[j].density for j in choice],
        "accuracy": [100 * value for value in accuracies],
        "energy_kept": energy,
        "by_inferences": 100 * float(np.average(accuracies, weights=counts)),
        "inferences_over_dense": sum(counts) / (alone * top.runs(run.latency.dense)),
    }


def kinds(recipe: LevelsRecipe, data: Path, out: Path, seeds: int) -> dict[str, Any]:
    """Each kind with each seed, a backbone for each seed; differences to free sets over levels and seeds."""
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for seed in range(seeds):
        for kind, part in KINDS.items():
            run = LevelsRun(changed(recipe, patterns=part), data, out, seed=seed)
            rows[kind].append(levels(run))
            print(seed, kind, [round(value, 2) for value in rows[kind][-1]["accuracy"]], flush=True)
    found: dict[str, Any] = {"rows": rows, "minus_free": {}}
    for kind in list(KINDS)[1:]:
        gaps = [
            statistics.mean(np.subtract(ours["accuracy"], free["accuracy"]).tolist())
            for ours, free in zip(rows[kind], rows["free"], strict=True)
        ]
        low, high = interval(gaps)
        found["minus_free"][kind] = {"mean": statistics.mean(gaps), "low": low, "high": high}
        print(f"{kind} minus free, points, mean over levels: {found['minus_free'][kind]}")
    return found


def deadlines(recipe: LevelsRecipe, data: Path, out: Path) -> list[dict[str, Any]]:
    """Longer deadlines: denser levels at slow clocks, fewer inferences."""
    rows = []
    for deadline in DEADLINES:
        patterns = KINDS["lists by inputs"] | {"densities": DENSE_ENOUGH}
        run = LevelsRun(changed(recipe, patterns=patterns, device={"deadline": deadline}), data, out)
        rows.append({"deadline": deadline, "dense": 100 * run.baseline()["rival"], **levels(run)})
        print({name: value for name, value in rows[-1].items() if name != "energy_kept"}, flush=True)
    return rows


def main() -> None:
    """Both parts; what was trained is kept in the folder and found again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = read_levels_recipe(RECIPE)
    report = {
        "host": describe(),
        "recipe": recipe.model_dump(mode="json"),
        "kinds": kinds(recipe, options.data, options.out, options.seeds),
        "deadlines": deadlines(recipe, options.data, options.out),
    }
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
