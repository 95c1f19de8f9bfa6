"""What columns kept in aligned groups of 2 or 4 cost in accuracy, on the demo's model.

    python retrim/experiments/groups.py [--folder runs/groups] [--json results/groups.json]

For every seed one dense model, then branches of equal steps, pruned at once by
magnitude to block columns of 32 rows in groups of 1, 2 and 4, and retrained.
Differences to groups of 1 are paired by seed.  The speed of these forms is in
retrim/benchmarks/results.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from lm import console, interval
from rich.table import Table

from retrim.cli_console import write_json
from retrim.demo import ROWS, WEIGHTS, Budget
from retrim.recipe.run import Run, use_all_cores
from retrim.recipe.schema import CorpusPart, MagnitudePart, ModelPart, PrunePart, RulePart, TrainPart
from retrim.runtime.host import describe
from retrim.structures import BlockColumns
from retrim.zoo.evaluation import evaluate

HERE = Path(__file__).parent
DENSITIES = (1 / 2, 1 / 3)
GROUPS = (1, 2, 4)


def score_seed(seed: int, folder: Path) -> list[dict[str, Any]]:
    """One row for every density and group of one seed."""
    base = TrainPart(steps=Budget.dense, precision="bf16")
    run = Run(folder, model=ModelPart(), corpus=CorpusPart(), base=base, seed=seed)
    stage = TrainPart(steps=Budget.branch, rate=base.rate / 2, precision="bf16")
    rows = []
    for density in DENSITIES:
        for group in GROUPS:
            part = PrunePart(
                **stage.model_dump(),
                harden_at=0,
                pruner=MagnitudePart(type="Magnitude"),
                plan=tuple(
                    RulePart(weights=weights, structure=BlockColumns(ROWS, group=group), density=density)
                    for weights in WEIGHTS
                ),
            )
            found = evaluate(run.pruned(part).model, run.tokens.held_out, run.model.context)
            rows.append({"seed": seed, "density": density, "group": group, "accuracy": found.accuracy})
            console.print(rows[-1], highlight=False)
    return rows


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Paired differences of accuracy to groups of 1."""
    by = {(row["seed"], row["density"], row["group"]): row["accuracy"] for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    return [
        {
            "density": density,
            "group": group,
            **interval([by[s, density, group] - by[s, density, 1] for s in seeds]),
        }
        for density in DENSITIES
        for group in GROUPS[1:]
    ]


def main() -> None:
    """Run what is missing, then write and print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/groups"))
    parser.add_argument("--json", type=Path, default=HERE / "results" / "groups.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, help="threads of training (all cores)")
    options = parser.parse_args()
    if options.threads is None:
        use_all_cores()
    else:
        torch.set_num_threads(options.threads)
    began = time.monotonic()
    rows = [row for seed in options.seeds for row in score_seed(seed, options.folder)]
    differences = compare(rows)
    write_json(
        options.json,
        {
            "kind": "experiment",
            "host": describe(),
            "threads": torch.get_num_threads(),
            "seconds": time.monotonic() - began,
            "rows": rows,
            "differences": differences,
        },
    )
    table = Table("density", "groups of", "accuracy against groups of 1, points", "95 % interval")
    for found in differences:
        low, high = (f"{100 * found[end]:+.2f}" for end in ("low", "high"))
        table.add_row(
            f"{found['density']:.3f}", str(found["group"]), f"{100 * found['mean']:+.2f}", f"{low} … {high}"
        )
    console.print(table)


if __name__ == "__main__":
    main()
