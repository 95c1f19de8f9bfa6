"""Running a recipe of levels: dense network, backbone, candidates, search, joint training of what was chosen.

Everything is kept in the run's folder under a key of all that decides it, so that a run that
was interrupted goes on, and methods of search share what was scored.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from retrim.device import Cluster, Device, find
from retrim.errors import ConfigError
from retrim.files import replacing
from retrim.levels import (
    Candidate,
    Choice,
    JointTraining,
    Point,
    Reward,
    Space,
    Trial,
    Trials,
    best,
    one_by_one,
    search,
)
from retrim.levels.search import Runner
from retrim.prune import Plan, Pruner, Rule
from retrim.recipe.level_cycles import Calibrated, Cycles
from retrim.recipe.level_masks import LevelMasks
from retrim.recipe.levels import LevelsRecipe
from retrim.recipe.tasks import make_task
from retrim.structures import BlockColumns
from retrim.zoo.fit import fit
from retrim.zoo.glue.finetuning import FineTuning
from retrim.zoo.language import LanguageTask
from retrim.zoo.task import FewSteps, Task

Progress = Callable[[str, int, int, float], None]
"""Called with a stage's name, steps done, steps in all, and the loss."""


class LevelsRun:
    """A recipe of levels in its folder.

    Parameters
    ----------
    recipe : LevelsRecipe
    data : Path
        Folder that the task's files lie in.
    folder : Path
        Checkpoints and trials.
    seed : int
    progress : callable, optional
    task : Task, optional
        In place of the recipe's.
    identity : str
        What else decides networks.
    calibrated : callable, optional
        Gives a profile that knows layers that are asked for; for recipes that take latencies from a profile.
    """

    def __init__(
        self,
        recipe: LevelsRecipe,
        data: Path,
        folder: Path,
        *,
        seed: int = 0,
        progress: Progress | None = None,
        task: Task | None = None,
        identity: str = "",
        calibrated: Calibrated | None = None,
    ) -> None:
        self.recipe, self.data, self.folder, self.seed = recipe, data, folder, seed
        self.calibrated = calibrated
        self.task: Task = make_task(recipe.task, data) if task is None else task
        self._identity = identity
        self._progress = progress

    @cached_property
    def _taught(self) -> Task:
        """The task as students of the dense network learn it; made once, since it reads its data anew."""
        return self.task.taught(self.dense)

    # --- networks ---------------------------------------------------------------

    @cached_property
    def dense(self) -> nn.Module:
        """The dense network."""
        model = self.task.build(self.seed)
        self._fit("dense", self.task, model, self.recipe.dense)
        return model

    @cached_property
    def rival(self) -> nn.Module:
        """The dense network after as many more epochs as backbone and levels get together."""
        part = self.recipe.backbone
        model = copy.deepcopy(self.dense)
        for name, stage in (
            ("pruned", part.prune),
            ("retrained", part.retrain),
            ("final", self.recipe.final),
        ):
            self._fit(f"dense, {name}", self._taught, model, stage)
        return model

    @cached_property
    def backbone(self) -> tuple[nn.Module, Pruner]:
        """The first level: hardened and retrained."""
        part = self.recipe.backbone
        model = copy.deepcopy(self.dense)
        pruner = part.pruner.pruner(self.task.steps, None)
        rules = [
            Rule(weights=g, structure=BlockColumns(part.rows), density=part.density) for g in part.weights
        ]
        pruner.prepare(model, Plan(rules))
        task = self._taught
        self._fit("backbone", task, model, part.prune, pruner=pruner)
        pruner.harden()
        self._fit("backbone, retraining", task, model, part.retrain, pruner=pruner, seed=1000)
        return model, pruner

    # --- candidates and space ---------------------------------------------------

    @property
    def device(self) -> Device:
        """With its battery."""
        return find(self.recipe.device.name)

    @property
    def cluster(self) -> Cluster:
        """That runs the model."""
        return self.device.cluster(self.recipe.device.cluster)

    @cached_property
    def latency(self) -> Cycles:
        """Cycles of an inference, as the recipe models them."""
        told = self._progress

        def measuring(done: int, steps: int) -> None:
            if told is not None:
                told("measuring kernels", done, steps, 0.0)

        model, pruner = self.backbone
        return Cycles(model, pruner.targets, self.recipe, self.cluster, self.calibrated, measuring)

    def cycles(self, density: float) -> float:
        """Cycles of one inference with so much of the backbone's weights, in patterns."""
        return self.latency.patterns(density)

    @cached_property
    def level_masks(self) -> LevelMasks:
        """Masks of the candidates, and the weights that joint training starts from."""
        told = self._progress
        model, pruner = self.backbone
        return LevelMasks(
            model,
            pruner,
            self.recipe.patterns,
            self.task,
            seed=self.seed,
            folder=self.folder / "lists",
            progress=lambda done, steps: None if told is None else told("ordering columns", done, steps, 0.0),
        )

    @cached_property
    def space(self) -> Space:
        """What may be chosen."""
        part = self.recipe.device
        shares = part.shares or (1.0,) * len(part.mhz)
        energy = self._battery()
        points = tuple(
            Point(
                mhz=mhz,
                milliwatts=self.cluster.busy_mw(mhz, part.cores),
                millijoules=energy * share / sum(shares),
            )
            for mhz, share in zip(part.mhz, shares, strict=True)
        )
        patterns = self.recipe.patterns
        candidates = tuple(
            Candidate(density=density, patterns=number, cycles=self.cycles(density))
            for density in self.level_masks.densities
            for number in range(patterns.sets + patterns.lists)
        )
        return Space(
            points=points, candidates=candidates, deadline_ms=self.deadline_ms, keep=self.recipe.search.keep
        )

    @property
    def deadline_ms(self) -> float:
        """A multiple of the backbone's modelled latency at the fastest point."""
        return self.recipe.device.deadline * self.latency.backbone / (1000 * max(self.recipe.device.mhz))

    # --- search and levels --------------------------------------------------------

    def baseline(self) -> dict[str, float]:
        """Accuracies, 0 to 1, of the dense network, of it with the whole budget, and of the backbone."""
        named = {
            "dense": lambda: self.dense,
            "rival": lambda: self.rival,
            "backbone": lambda: self.backbone[0],
        }
        return {name: self._scored(name, model) for name, model in named.items()}

    def search(
        self, *, run: Runner = one_by_one, method: str | None = None, seed: int | None = None
    ) -> list[Trial]:
        """The recipe's search, or another method's with the same budget; trials are shared by all of them."""
        part = self.recipe.search
        told = self._progress
        with Trials(self.folder / "trials.sqlite", self._key("trials")) as store:
            return search(
                self.space,
                self.score,
                self.reward,
                method=method or part.method,
                trials=part.trials,
                batch=part.batch,
                seed=self.seed if seed is None else seed,
                store=store,
                run=run,
                progress=None
                if told is None
                else lambda done, all_, value: told("search", done, all_, value),
            )

    @property
    def reward(self) -> Reward:
        """With the dense accuracy as what is worth 1."""
        part = self.recipe.search
        dense = self._scored("dense", lambda: self.dense, self._trial_task)
        return Reward(
            dense=dense,
            least=part.least * dense,
            weights=part.weights,
            runs=part.runs,
            disorder=part.disorder,
        )

    def score(self, choice: Choice) -> list[float]:
        """Accuracies of a choice's levels after a trial's joint training."""
        return self.trained(choice, final=False)[1]

    def trained(
        self, choice: Choice, *, final: bool = True
    ) -> tuple[nn.Module, list[float], list[dict[str, Any]]]:
        """The shared weights after joint training, accuracies of the levels, and their masks."""
        numbers = sorted(set(choice))
        masks = self.level_masks.masks([self.space.candidates[number] for number in numbers])
        model = copy.deepcopy(self.level_masks.start)
        joint = JointTraining(model, masks, self._weights(choice, numbers))
        stage = self.recipe.final if final else self.recipe.search.stage
        name = "levels" if final else f"trial {','.join(map(str, choice))}"
        most = None if final else self.recipe.search.steps
        task = self._taught if most is None else FewSteps(self._taught, most)
        self._fit(name, task, model, stage, joint=joint, seed=2000, keep=final)
        scoring = self.task if final else self._trial_task
        found = {}
        for place, number in enumerate(numbers):
            with joint.at(place), torch.no_grad():
                found[number] = scoring.score(model)[scoring.metric] / 100
        return (
            model,
            [found[number] for number in choice],
            [masks[numbers.index(number)] for number in choice],
        )

    def _weights(self, choice: Choice, numbers: Sequence[int]) -> list[float]:
        """Of the candidates' losses: those of the levels' accuracies in the reward, summed over the levels that share one."""
        each = self.reward.shares(self.space, choice)
        return [
            sum(weight for weight, at in zip(each, choice, strict=True) if at == number) for number in numbers
        ]

    def chosen(self, trials: Sequence[Trial]) -> Choice:
        """The best trial's."""
        return best(trials).choice

    # --- shared ---------------------------------------------------------------------

    def _fit(
        self,
        name: str,
        task: Task,
        model: nn.Module,
        part: Any,
        *,
        pruner: Pruner | None = None,
        joint: JointTraining | None = None,
        seed: int = 0,
        keep: bool = True,
    ) -> None:
        told = self._progress
        identity = "" if joint is None else _digest(joint)
        file = "-".join(part for part in (_file(name), self._key(name), identity) if part)
        fit(
            task,
            model,
            part.stage(),
            seed=self.seed + seed,
            pruner=pruner,
            checkpoint=self.folder / f"{file}.pt" if keep else None,
            on_step=None if told is None else lambda step, steps, loss: told(name, step, steps, loss),
            backward=None if joint is None else joint.backward,
            identity=identity,
        )

    @cached_property
    def _trial_task(self) -> Task:
        """The task as trials are scored on it."""
        scored = self.recipe.search.scored
        if scored is None:
            return self.task
        if not isinstance(self.task, LanguageTask | FineTuning):
            raise ConfigError(
                "search.scored must be left out where the task is neither a language nor GLUE's"
            )
        return replace(self.task, scored=scored)

    def _scored(self, name: str, model: Callable[[], nn.Module], task: Task | None = None) -> float:
        task = self.task if task is None else task
        few = "" if task is self.task else f"-{self.recipe.search.scored}"
        path = self.folder / f"score-{name}{few}-{self._key(name)}.json"
        if not path.exists():
            score = task.score(model())
            with replacing(path, "score", ConfigError) as beside:
                beside.write_text(json.dumps(score), "utf-8")
        found = json.loads(path.read_text("utf-8"))[task.metric]
        return float(found) / 100

    def _battery(self) -> float:
        part = self.recipe.device
        if part.battery_mwh is not None:
            return 3600 * part.battery_mwh
        battery = self.device.battery
        if battery is None:
            raise ConfigError(f"device {part.name!r} has no battery: give battery_mwh in the recipe")
        return battery.millijoules

    def _key(self, name: str) -> str:
        """Of everything that decides a stage; search methods and scales of rewards do not decide accuracies."""
        recipe = self.recipe.model_dump(mode="json")
        parts = ["task", "dense"]
        if not name.startswith("dense"):
            parts += ["backbone"]
        if name == "rival" or name.startswith("dense, "):
            parts += ["backbone", "final"]
        if name.startswith(("trial", "levels")):
            parts += ["patterns", "device", "final" if name == "levels" else "search"]
        decides: dict[str, Any] = {part: recipe[part] for part in parts} | {"seed": self.seed}
        if "patterns" in parts and self.recipe.patterns.importance != "magnitude":
            decides["masks"] = 2  # how inputs are measured; of magnitudes nothing is
        if self._identity:
            decides["identity"] = self._identity
        if name == "trials":
            decides["search"] = {
                name: recipe["search"][name] for name in ("stage", "steps", "scored", "weights")
            }
        elif name == "levels":
            decides["weights"] = recipe["search"]["weights"]
        if name == "trials" and self.recipe.search.weights == "runs" and self.calibrated is not None:
            decides["cycles"] = [candidate.cycles for candidate in self.space.candidates]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _digest(joint: JointTraining) -> str:
    """Of all that a choice decides in joint training: masks and weights."""
    digest = hashlib.sha256(np.array(joint.weights).tobytes())
    for masks in joint.levels:
        for name, mask in masks.items():
            digest.update(name.encode())
            digest.update(np.packbits(mask.numpy()).tobytes())
    return digest.hexdigest()[:16]
