"""Reweighted group lasso against one-shot magnitude and the dense model, with seeds and intervals.

    python retrim/experiments/lm.py [--recipe lm.toml] [--folder runs/lm] [--json results/lm.json]

For every seed a dense model is trained; branches of equal extra steps go on from
it: dense, and pruned with that dense branch as the teacher (both methods alike).
Scores are those of hardened models on all held-out text.  Differences are
paired by seed: same dense model, same batches, same text.  Every stage leaves a
checkpoint, so that the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from retrim.cli_console import write_json
from retrim.demo import GROUP_LASSO, ONE_SHOT, branch
from retrim.recipe.run import Run, use_all_cores
from retrim.recipe.schema import CorpusPart, DistilPart, ModelPart, TrainPart
from retrim.runtime.host import describe
from retrim.zoo.evaluation import evaluate

HERE = Path(__file__).parent
STUDENT_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Two-sided 95 % quantiles of Student's t by degrees of freedom."""

console = Console()


def score_seed(recipe: dict[str, Any], seed: int, folder: Path) -> list[dict[str, Any]]:
    """One row for every branch of one seed."""

    def progress(name: str, step: int, steps: int, loss: float) -> None:
        if step % 200 == 0 or step == steps:
            console.print(f"seed {seed}: {name}, step {step} of {steps}, loss {loss:.3f}", highlight=False)

    run = Run(
        folder,
        model=ModelPart(**recipe["model"]),
        corpus=CorpusPart(),
        base=TrainPart(**recipe["base"]),
        seed=seed,
        progress=progress,
    )
    stage = TrainPart(**recipe["branch"])
    distil = DistilPart(**recipe["distil"])
    rows = []

    def record(method: str, density: float, model: Any, seconds: float) -> None:
        found = evaluate(model, run.tokens.held_out, run.model.context)
        rows.append(
            {
                "seed": seed,
                "method": method,
                "density": density,
                "accuracy": found.accuracy,
                "perplexity": found.perplexity,
                "tokens": found.tokens,
                "training_seconds": seconds,
            }
        )

    record("dense, before branching", 1.0, run.dense.model, run.dense.history.seconds)
    dense = run.continued(stage)
    record("dense", 1.0, dense.model, dense.history.seconds)
    for density in recipe["densities"]:
        for method in (GROUP_LASSO, ONE_SHOT):
            part = branch(method, density, stage, recipe["harden_at"], recipe["rows"], distil)
            pruned = run.pruned(part, f"{method} {density:.3f}", dense.model)
            record(method, density, pruned.model, pruned.history.seconds)
    return rows


def interval(values: list[float]) -> dict[str, float]:
    """Mean of paired differences and its 95 % interval (Student's t)."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return {"mean": mean, "low": math.nan, "high": math.nan}
    half = STUDENT_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def compare(rows: list[dict[str, Any]], densities: list[float]) -> list[dict[str, Any]]:
    """Paired differences of accuracy: to the dense model (relative), and between methods."""
    by = {(row["seed"], row["method"], row["density"]): row["accuracy"] for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    found = []
    for density in densities:
        for method in (GROUP_LASSO, ONE_SHOT):
            relative = [by[s, method, density] / by[s, "dense", 1.0] - 1 for s in seeds]
            found.append({"what": f"{method} over dense, relative", "density": density, **interval(relative)})
        ahead = [by[s, GROUP_LASSO, density] - by[s, ONE_SHOT, density] for s in seeds]
        found.append({"what": f"{GROUP_LASSO} minus {ONE_SHOT}", "density": density, **interval(ahead)})
    return found


def main() -> None:
    """Run what is missing, then write and print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=HERE / "lm.toml")
    parser.add_argument("--folder", type=Path, default=Path("runs/lm"))
    parser.add_argument("--json", type=Path, default=HERE / "results" / "lm.json")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the recipe's seeds, those to run now")
    parser.add_argument("--threads", type=int, help="threads of training (all cores)")
    options = parser.parse_args()
    recipe = tomllib.loads(options.recipe.read_text("utf-8"))
    if options.threads is None:
        use_all_cores()
    else:
        torch.set_num_threads(options.threads)
    began = time.monotonic()
    rows = [
        row for seed in options.seeds or recipe["seeds"] for row in score_seed(recipe, seed, options.folder)
    ]
    differences = compare(rows, recipe["densities"])
    write_json(
        options.json,
        {
            "kind": "experiment",
            "host": describe(),
            "threads": torch.get_num_threads(),
            "seconds": time.monotonic() - began,
            "recipe": recipe,
            "rows": rows,
            "differences": differences,
        },
    )
    table = Table("difference", "density", "mean", "95 % interval")
    for found in differences:
        low, high = (f"{100 * found[end]:+.2f}" for end in ("low", "high"))
        table.add_row(
            found["what"], f"{found['density']:.3f}", f"{100 * found['mean']:+.2f} %", f"{low} … {high} %"
        )
    console.print(table)


if __name__ == "__main__":
    main()
