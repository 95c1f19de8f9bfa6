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
    Families,
    JointTraining,
    Point,
    Reward,
    Space,
    Trial,
    Trials,
    best,
    draw_families,
    free_masks,
    list_masks,
    nested_masks,
    one_by_one,
    search,
)
from retrim.levels.search import Runner
from retrim.prune import Plan, Pruner, Rule
from retrim.prune.plan import Target
from retrim.recipe.level_cycles import Calibrated, Cycles
from retrim.recipe.levels import LevelsRecipe
from retrim.recipe.tasks import make_task
from retrim.structures import BlockColumns, Mask
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
    def families(self) -> list[Families]:
        """The pattern sets: each from its own samples of the backbone's tiles."""
        part = self.recipe.patterns
        matrices = [small for _, small, _ in self._compacted()]
        middle = sorted(part.densities)[len(part.densities) // 2]
        return [
            draw_families(
                matrices,
                part.tiling,
                part.patterns,
                density=middle,
                seed=1000 * self.seed + number,
                sample=part.sample,
                refinements=part.refinements,
            )
            for number in range(part.sets)
        ]

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
            for density in self._densities
            for number in range(patterns.sets + patterns.lists)
        )
        return Space(
            points=points, candidates=candidates, deadline_ms=self.deadline_ms, keep=self.recipe.search.keep
        )

    @property
    def _densities(self) -> list[float]:
        """Those that patterns reach, the densest first; lists alone take them as they are."""
        part = self.recipe.patterns
        if not part.sets:
            return sorted(set(part.densities), reverse=True)
        return sorted({part.tiling.reached(density) for density in part.densities}, reverse=True)

    @property
    def deadline_ms(self) -> float:
        """A multiple of the backbone's modelled latency at the fastest point."""
        return self.recipe.device.deadline * self.latency.backbone / (1000 * max(self.recipe.device.mhz))

    # --- masks --------------------------------------------------------------------

    def masks(self, numbers: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """Masks of candidates by parameter name, one set for each number."""
        chosen = [self.space.candidates[number] for number in numbers]
        found: list[dict[str, torch.Tensor]] = [{} for _ in chosen]
        for target, small, keep in self._compacted():
            structure = target.structure
            assert isinstance(structure, BlockColumns)  # noqa: S101 - the backbone's
            shape = structure.view_shape(tuple(target.parameter.shape), target.kind)
            for level, mask in zip(found, self._inner(small, chosen), strict=True):
                full = structure.scatter(mask, keep, shape)
                level[target.name] = target.restore(torch.from_numpy(full)).contiguous()
        return found

    def _inner(self, small: np.ndarray, chosen: Sequence[Candidate]) -> list[np.ndarray]:
        part = self.recipe.patterns
        if part.nested and part.sets:
            masks = dict(
                zip(self._densities, nested_masks(self.families[0], small, self._densities), strict=True)
            )
            return [masks[candidate.density] for candidate in chosen]
        return [
            list_masks(small, part.group, [candidate.density])[0]
            if candidate.patterns == part.sets
            else free_masks(self.families[candidate.patterns], small, [candidate.density])[0]
            for candidate in chosen
        ]

    def _compacted(self) -> list[tuple[Target, np.ndarray, np.ndarray]]:
        """The backbone's weights without what was pruned: target, matrix, and the kept groups of columns.

        Columns are scaled by the root mean square of their inputs where that counts as importance.
        """
        _, pruner = self.backbone
        found = []
        for target in pruner.targets:
            support = pruner.supports[target.name]
            assert isinstance(support, Mask)  # noqa: S101 - the backbone's
            assert isinstance(target.structure, BlockColumns)  # noqa: S101
            matrix = target.matrix().numpy() * self._input_sizes.get(target.name, np.float32(1))
            blocks, groups = target.structure.grid((matrix.shape[0], matrix.shape[1]))
            mask = support.mask.numpy().reshape(blocks, -1, groups)
            keep = mask.any(axis=1)
            found.append((target, target.structure.compact(matrix, keep), keep))
        return found

    @cached_property
    def _input_sizes(self) -> dict[str, np.ndarray]:
        """Root mean square of every input of the backbone's layers by weight; none where weights alone count."""
        if self.recipe.patterns.importance == "magnitude":
            return {}
        model, pruner = self.backbone
        squares: dict[str, torch.Tensor] = {}

        def meter(name: str, inputs: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def measure(_: nn.Module, given: tuple[Any, ...]) -> None:
                x = given[0].detach().float()
                if x.shape[-1] != inputs:
                    raise ConfigError(
                        f"patterns.importance = 'inputs' needs linear layers, but {name} is none: take 'magnitude'"
                    )
                squares[name] = squares.get(name, torch.zeros(inputs)) + x.reshape(-1, inputs).square().sum(0)

            return measure

        handles = [
            model.get_submodule(target.name.rpartition(".")[0]).register_forward_pre_hook(
                meter(target.name, target.matrix().shape[1])
            )
            for target in pruner.targets
        ]
        training = model.training
        try:
            with torch.no_grad():
                for batch in self.task.probe():
                    self.task.loss(model.eval(), batch)
        finally:
            model.train(training)
            for handle in handles:
                handle.remove()
        return {name: (total / total.mean()).sqrt().numpy() for name, total in squares.items()}

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
        """The shared weights after joint training from the backbone, accuracies of the levels, and their masks."""
        numbers = sorted(set(choice))
        masks = self.masks(numbers)
        model = copy.deepcopy(self.backbone[0])
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
