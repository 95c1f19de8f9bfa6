"""The demo's second part: levels of the pruned model for a device whose clock falls with its battery (RT3).

The branch at half of the weights is the backbone.  A short search takes a pattern set for each of three
operating points of an Odroid-XU3's small cores, the levels are trained jointly, and one battery is
emptied with and without them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from retrim.artifact import load, save
from retrim.device import LevelTable, Workload, read_levels
from retrim.device.simulation import simulate
from retrim.errors import ConfigError
from retrim.files import replacing
from retrim.prune import Pruner
from retrim.prune.digest import model_digest
from retrim.recipe.level_bench import switches
from retrim.recipe.level_results import packed_levels, run_levels
from retrim.recipe.leveling import LevelsRun
from retrim.recipe.levels import LevelsRecipe
from retrim.recipe.run import Progress, Run, Trained
from retrim.zoo.language import LanguageTask

MHZ = (1400, 1000, 600)
DENSITIES = (1.0, 0.86, 0.72, 0.6, 0.5, 0.4, 0.3, 0.22)
TABLE = "levels.json"
ARTIFACT = "levels.safetensors"


def levels(
    work: Run,
    dense: Trained,
    backbone: Trained,
    *,
    weights: Sequence[str],
    rows: int,
    density: float,
    scored: int,
    trials: int = 12,
    steps: int = 8,
    final: int = 32,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Search levels, train them, and empty a battery; go on from what the run's folder holds.

    Parameters
    ----------
    work : Run
        With the text and the dense model.
    dense, backbone : Trained
        Branches of equal steps; the backbone is hardened.
    weights, rows, density
        Of the backbone.
    scored : int
        Held-out tokens of a score.
    trials : int
        Choices that are tried.
    steps, final : int
        Of joint training: of a trial, and of the levels that are chosen.

    Returns
    -------
    dict
        As `retrim levels --json`, with ``battery``: that of `retrim simulate`, and ``switches``: what those of the
        packed levels take here.
    """
    run = _Demo(
        work, dense, backbone, _recipe(work, weights, rows, density, scored, trials, steps, final), progress
    )
    result = run_levels(run)
    path = work.folder / TABLE
    with replacing(path, "table of levels", ConfigError) as beside:
        beside.write_text(json.dumps(result["levels"], indent=1) + "\n", "utf-8")
    result["battery"] = emptied(read_levels(path), run)
    artifact = packed_levels(run, tuple(result["choice"]), result["levels"])
    save(work.folder / ARTIFACT, artifact)
    result["switches"] = switches(load(work.folder / ARTIFACT))
    return result


def emptied(table: LevelTable, run: LevelsRun) -> dict[str, Any]:
    """One battery under five policies."""
    battery = run.device.battery
    if battery is None or table.deadline_ms is None:
        raise ConfigError(f"device {run.device.name!r} must have a battery, and its levels a deadline")
    found = simulate(table, run.cluster, battery, Workload(deadline_ms=table.deadline_ms))
    title = f"{run.device.title}, {battery.capacity_mwh / 1000:g} Wh, deadline {table.deadline_ms:.3g} ms"
    return {**found, "device": run.device.name, "title": title}


class _Demo(LevelsRun):
    """A run of levels whose networks are the demo's."""

    def __init__(
        self, work: Run, dense: Trained, backbone: Trained, recipe: LevelsRecipe, progress: Progress | None
    ) -> None:
        assert backbone.pruner is not None  # noqa: S101 - a pruned branch has one
        networks = (work.dense.model, dense.model, backbone.model)
        super().__init__(
            recipe,
            Path(),
            work.folder,
            seed=work.seed,
            progress=progress,
            task=_task(recipe, work),
            identity=" ".join(model_digest(network) for network in networks),
        )
        self._named: dict[str, nn.Module] = {"dense": work.dense.model, "rival": dense.model}
        self._backbone = (backbone.model, backbone.pruner)

    @property
    def dense(self) -> nn.Module:
        """Trained by the demo."""
        return self._named["dense"]

    @property
    def rival(self) -> nn.Module:
        """The dense branch: with as many steps as the backbone."""
        return self._named["rival"]

    @property
    def backbone(self) -> tuple[nn.Module, Pruner]:
        """The pruned branch."""
        return self._backbone


def _task(recipe: LevelsRecipe, work: Run) -> LanguageTask:
    options = recipe.task.model_dump(exclude={"type", "distil"})
    task = LanguageTask(**options)
    task.__dict__["_ids"] = work.tokens  # tokenised already
    return task


def _recipe(
    work: Run,
    weights: Sequence[str],
    rows: int,
    density: float,
    scored: int,
    trials: int,
    steps: int,
    final: int,
) -> LevelsRecipe:
    model = work.model.model_dump()
    stage: dict[str, Any] = {"epochs": 1, "rate": 1e-3, "optimizer": "adam", "decay": 0.01, "clip": 1.0}
    stage |= {"precision": "bf16"}
    task = {"type": "language", **model, "batch": work.base.batch, "windows": final * work.base.batch}
    backbone = {
        "weights": tuple(weights),
        "rows": rows,
        "density": density,
        "pruner": {"type": "magnitude"},
        "prune": stage,
        "retrain": {**stage, "score_after": (0,)},
    }
    return LevelsRecipe.model_validate(
        {
            "version": 1,
            "task": {**task, "scored": scored},
            "dense": stage,
            "backbone": backbone,
            "device": {"name": "odroid-xu3-a7", "mhz": MHZ, "tokens": model["context"]},
            "patterns": {
                "tile": (16, 32),
                "sets": 1,
                "lists": True,
                "importance": "surgeon",
                "densities": DENSITIES,
            },
            "search": {
                "trials": trials,
                "batch": 4,
                "keep": 2,
                "least": 0.8,
                "weights": "runs",
                "stage": stage,
                "steps": steps,
            },
            "final": stage,
        }
    )


Say = Callable[[str], None]


def tell(result: Mapping[str, Any], say: Say) -> None:
    """What levels are worth, in a few sentences."""
    battery, table = result["battery"], result["levels"]
    gains = battery["gain"]
    worst = min(entry["accuracy"] for entry in table["level"]) / table["dense"]["accuracy"] - 1
    say(
        f"Levels, modelled on an Odroid-XU3's small cores: {len(result['trials'])} trials of "
        f"{result['space']['size']} choices, deadline {table['deadline_ms']:.3g} ms; the sparsest level's accuracy is "
        f"{100 * worst:+.1f} % of the dense model's."
    )
    say(
        "One battery: "
        + ", ".join(
            f"{gain:.2f}× the inferences of {_RIVALS[name]}"
            for name, gain in gains.items()
            if name in _RIVALS
        )
        + "."
    )

    say(
        "A switch of levels here: "
        + ", ".join(f"{mode} {times['median_ms']:.3f} ms" for mode, times in result["switches"].items())
        + f"; the model with its levels: {ARTIFACT}."
    )


_RIVALS = {
    "a": "the dense model at the top clock",
    "b": "the backbone there",
    "c": "the top level there",
    "d": "one model at falling clocks",
}
