"""Why group lasso does not beat one-shot pruning on a well trained model: which columns each keeps.

    python retrim/experiments/masks.py [--folder runs/masks] [--json results/masks.json] [--only-trained]

As `lm.py` at density 1/3, from a dense model of 10,000 steps.  Beside one-shot
magnitude pruning and group lasso (as in the paper, and selective), each with the
share of columns that it keeps in common with one-shot pruning, stands one-shot pruning to columns chosen at
random: it bounds what the choice of columns is worth.  `--only-trained` leaves
out the branches that have not been trained in this folder yet (six minutes each on one core).
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import torch
from lm import HERE, console

from retrim.cli_console import write_json
from retrim.demo import GROUP_LASSO, ONE_SHOT, branch
from retrim.prune import Magnitude, Target
from retrim.recipe import run as running
from retrim.recipe.run import Run, Trained, use_all_cores
from retrim.recipe.schema import CorpusPart, DistilPart, ModelPart, PrunePart, TrainPart
from retrim.runtime.host import describe
from retrim.structures import Support
from retrim.zoo.evaluation import evaluate

DENSE_STEPS = 10_000
DENSITY = 1 / 3
RANDOM = "one-shot, random columns"
PRESSED = ((300, 0.1, False), (300, 0.5, True), (600, 1.0, True))
"""Steps of group lasso, strength, and whether only what will be dropped is pressed."""


class AtRandom(Magnitude):
    """One-shot pruning to groups chosen at random."""

    generator = torch.Generator()

    def _final(self, target: Target, matrix: torch.Tensor) -> tuple[torch.Tensor, Support]:
        noise = torch.randn(matrix.shape, generator=self.generator)
        support = target.structure.project(noise, target.density)[1]
        return support.apply(matrix), support


def kept_in_common(one: Trained, other: Trained) -> float:
    """Share of one model's kept weights that the other keeps, mean over the layers."""
    assert one.pruner is not None and other.pruner is not None
    pairs = zip(one.pruner.targets, other.pruner.targets, strict=True)
    shares = [
        float(((a.matrix() != 0) & (b.matrix() != 0)).sum() / (a.matrix() != 0).sum()) for a, b in pairs
    ]
    return sum(shares) / len(shares)


def score_seed(recipe: dict[str, Any], seed: int, folder: Path, only_trained: bool) -> list[dict[str, Any]]:
    """One row for every branch of one seed."""
    base = TrainPart(**{**recipe["base"], "steps": DENSE_STEPS})
    stage, distil = TrainPart(**recipe["branch"]), DistilPart(**recipe["distil"])
    parts = {"model": ModelPart(**recipe["model"]), "corpus": CorpusPart(), "base": base, "seed": seed}
    run, random_run = Run(folder, **parts), Run(folder / "random", **parts)
    rows: list[dict[str, Any]] = []

    def record(what: dict[str, Any], trained: Trained) -> None:
        found = evaluate(trained.model, run.tokens.held_out, run.model.context)
        rows.append({"seed": seed, **what, "accuracy": found.accuracy, "perplexity": found.perplexity})
        console.print(rows[-1], highlight=False)

    record({"method": "dense, before branching"}, run.dense)
    random_run.dense = run.dense  # the same dense model, not one more
    dense = run.continued(stage)
    record({"method": "dense"}, dense)
    shot_part = branch(ONE_SHOT, DENSITY, stage, 0, recipe["rows"], distil)
    shot = run.pruned(shot_part, ONE_SHOT, dense.model)
    record({"method": ONE_SHOT, "in_common": 1.0}, shot)
    for steps, fraction, selective in PRESSED:
        part = branch(GROUP_LASSO, DENSITY, stage, steps, recipe["rows"], distil, fraction, selective)
        if only_trained and not run.is_done(part):
            continue
        pruned = run.pruned(part, GROUP_LASSO, dense.model)
        what = {"method": GROUP_LASSO, "pressed_steps": steps, "fraction": fraction, "selective": selective}
        record({**what, "in_common": kept_in_common(shot, pruned)}, pruned)
    if not only_trained or random_run.is_done(shot_part):
        found = pruned_at_random(random_run, shot_part, seed, dense)
        record({"method": RANDOM, "in_common": kept_in_common(shot, found)}, found)
    return rows


def pruned_at_random(run: Run, part: PrunePart, seed: int, dense: Trained) -> Trained:
    """The one-shot branch with its columns chosen by `AtRandom`."""
    AtRandom.generator.manual_seed(seed)
    usual, running.make_pruner = running.make_pruner, lambda stage: AtRandom()
    try:
        return run.pruned(part, RANDOM, dense.model)
    finally:
        running.make_pruner = usual


def main() -> None:
    """Run what is missing, then write and print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/masks"))
    parser.add_argument("--json", type=Path, default=HERE / "results" / "masks.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, help="threads of training (all cores)")
    parser.add_argument("--only-trained", action="store_true")
    options = parser.parse_args()
    if options.threads is None:
        use_all_cores()
    else:
        torch.set_num_threads(options.threads)
    recipe = tomllib.loads((HERE / "lm.toml").read_text("utf-8"))
    rows = [
        row
        for seed in options.seeds
        for row in score_seed(recipe, seed, options.folder, options.only_trained)
    ]
    settings = {"dense_steps": DENSE_STEPS, "density": DENSITY, "recipe": recipe}
    write_json(options.json, {"kind": "experiment", "host": describe(), "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
