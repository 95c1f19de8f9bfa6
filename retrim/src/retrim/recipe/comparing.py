"""Running a comparison of pruners: one branch after another, each kept on disk.

A branch is a method at one plan, rate and seed: the dense network is trained on
with the pruner, hardened, scored, retrained and scored again.  Checkpoints and
finished rows lie in the run's folder, keyed by all that decides them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from retrim.errors import CheckpointError, ConfigError
from retrim.files import replacing
from retrim.prune import Hardened, Pruner
from retrim.prune.digest import model_digest
from retrim.prune.lagrangian import AugmentedLagrangian
from retrim.recipe.comparison import Comparison, FormsPart, MethodPart
from retrim.recipe.densities import plan_of
from retrim.recipe.earlier import Earlier
from retrim.recipe.tasks import make_task
from retrim.recipe.watching import watched
from retrim.zoo.fit import Curve, fit
from retrim.zoo.glue.finetuning import FineTuning
from retrim.zoo.task import Task
from retrim.zoo.training import load_state, save_state

Progress = Callable[[str, int, int, float], None]
"""Called with the branch's name, steps done, steps in all, and the loss."""


@dataclass(frozen=True)
class Branch:
    """One method at one plan, rate and seed; `rho` where it is not the recipe's."""

    forms: FormsPart
    rate: float
    method: MethodPart
    seed: int
    rho: float | None = None

    @property
    def name(self) -> str:
        """In words, for progress bars."""
        rho = "" if self.rho is None else f", rho {self.rho:g}"
        return f"{self.method.name}, {self.forms.name} {self.rate:g}x, seed {self.seed}{rho}"

    @property
    def before(self) -> Branch | None:
        """The same at the next smaller rate of its plan; None at the smallest."""
        smaller = [rate for rate in self.forms.rates if rate < self.rate]
        return replace(self, rate=max(smaller)) if smaller else None


class ComparisonRun:
    """A comparison in its folder.

    Parameters
    ----------
    recipe : Comparison
    data : Path
        Folder that the task's files lie in.
    folder : Path
        Checkpoints and rows; made where it is missing.
    progress : callable, optional
    tensorboard : Path, optional
        Folder that updates of the multipliers are logged to, a run for each branch.
    """

    def __init__(
        self,
        recipe: Comparison,
        data: Path,
        folder: Path,
        progress: Progress | None = None,
        *,
        tensorboard: Path | None = None,
    ) -> None:
        self.recipe, self.folder, self._tensorboard = recipe, folder, tensorboard
        self.task: Task = make_task(recipe.task, data)
        self._progress = progress

    @cached_property
    def dense(self) -> nn.Module:
        """The dense network that every branch starts from."""
        for method in self.recipe.methods:
            method.pruner.pruner(self.task.steps, None)  # what cannot be made is told before any training
        model = self.task.build(0)
        if isinstance(self.task, FineTuning):
            self._check_same(model, self.task)
        for forms in self.recipe.forms:
            for rate in (1.0,) if forms.uneven() else forms.rates:
                forms.plan(rate).resolve(model)
        if self.recipe.dense is not None:
            path = self.folder / f"dense-{self._key(None)}.pt"
            stage = self.recipe.dense.stage()
            fit(self.task, model, stage, seed=0, checkpoint=path, on_step=self._reporter("dense"))
        return model

    def _check_same(self, model: nn.Module, task: FineTuning) -> None:
        """Refuse a folder whose results are those of other weights under the same name, or of other examples."""
        path = self.folder / f"checkpoint-{self._key(None)}.json"
        here = {"sha256": model_digest(model), "held_out": task.held_out_digest}
        there = self._kept(path) if path.exists() else {}
        if there.get("sha256", here["sha256"]) != here["sha256"]:
            raise CheckpointError(
                f"{str(self.folder)!r} must hold runs of one checkpoint, but what lay under {task.model!r} when they were made "
                "was another: use another folder, or remove it"
            )
        if there.get("held_out", here["held_out"]) != here["held_out"]:
            raise CheckpointError(
                f"{str(self.folder)!r} must hold scores on the same examples, but those of {task.task!r} were others when "
                "they were made: use another folder, or remove it"
            )
        if there != here:
            self._keep(path, here)

    def baseline(self) -> dict[str, float]:
        """The dense network's score."""
        path = self.folder / f"dense-{self._key(None)}.json"
        if not path.exists():
            self._keep(path, self.task.score(self.dense))
        return self._kept(path)

    @property
    def is_begun(self) -> bool:
        """Whether the dense network's score is on disk."""
        return (self.folder / f"dense-{self._key(None)}.json").exists()

    def branches(self, only: Sequence[str] | None = None) -> Iterator[Branch]:
        """Every branch of the recipe, its rho chosen; tuning runs on first use.

        Parameters
        ----------
        only : sequence of str, optional
            Branches whose names (without rho) hold one of these, and those that are done; None: all.

        Raises
        ------
        ConfigError
            If no name holds one of them.
        """
        names = [Branch(*place, seed).name for place in self._places() for seed in place[2].seeds]
        for part in only or ():
            if not any(part in name for name in names):
                raise ConfigError(f"no branch's name holds {part!r}: names are like {names[0]!r}")
        for forms, rate, method in self._places():
            plain = [Branch(forms, rate, method, seed) for seed in method.seeds]
            asked = [only is None or any(part in branch.name for part in only) for branch in plain]
            if method.tuned and not any(asked) and not self.is_tuned(method):
                continue
            rho = self.tuned(method)["rho"] if method.tuned else None
            for branch, wanted in zip(plain, asked, strict=True):
                chosen = replace(branch, rho=rho)
                if wanted or self.is_done(chosen):
                    yield chosen

    def is_tuned(self, method: MethodPart) -> bool:
        """Whether all scores that a method's rho is chosen by are on disk."""
        return all(self._found(branch) is not None for branch in self._grid(method))

    def tuned(self, method: MethodPart) -> dict[str, Any]:
        """The grid's scores for one method, and the rho that won."""
        grid = self._grid(method)
        rows = [self.row(branch, retrain=False) for branch in grid]
        scores = [row["score"]["0"][self.task.metric] for row in rows]
        best = max(range(len(scores)), key=scores.__getitem__)
        return {
            "method": method.name,
            "grid": [branch.rho for branch in grid],
            "scores": scores,
            "rho": grid[best].rho,
            "rows": rows,
        }

    def _places(self) -> Iterator[tuple[FormsPart, float, MethodPart]]:
        for forms in self.recipe.forms:
            for rate in forms.rates:
                for method in self.recipe.methods:
                    yield forms, rate, method

    def _grid(self, method: MethodPart) -> list[Branch]:
        """Branches that a method's rho is chosen by."""
        tune = self.recipe.tune
        if tune is None:
            return []
        forms = next(forms for forms in self.recipe.forms if forms.name == tune.forms)
        return [Branch(forms, tune.rate, method, tune.seed, rho) for rho in tune.rho]

    def row(self, branch: Branch, *, retrain: bool = True) -> dict[str, Any]:
        """What a branch reached, up to hard pruning or whole; what is done is found on disk."""
        found = self._found(branch)
        wanted = self.recipe.retrain.score_after if retrain else (0,)
        if found is not None and all(str(epochs) in found["score"] for epochs in wanted):
            return found
        _, _, found = self.trained(branch, retrain=retrain)
        if retrain:
            key = self._key(branch)
            for path in (self.folder / f"prune-{key}.pt", self.folder / f"retrain-{key}.pt"):
                path.unlink(missing_ok=True)
        return found

    def trained(self, branch: Branch, *, retrain: bool = True) -> tuple[nn.Module, Pruner, dict[str, Any]]:
        """A branch's network, its hardened pruner, and the row; checkpoints stay."""
        key = self._key(branch)
        model, pruner, curve = self._pruned(branch, key)
        found = self._found(branch)
        if found is None:
            found = self._described(branch, model, pruner, curve)
            self._keep(self._row_path(branch), found)
        if not pruner.hardened:
            pruner.harden()
        if retrain:
            self._retrain(branch, key, model, pruner, found)
            if self.recipe.ladder:
                save_state(self.folder / f"network-{key}.pt", {"format": 1, "model": model.state_dict()})
        return model, pruner, found

    def take(self, path: Path) -> int:
        """Take what an earlier result file holds as if it had been run here; how many branches that were.

        Branches of other settings are passed over, and those that are here already.

        Raises
        ------
        ConfigError
            If it is no result of a comparison.
        """
        earlier = Earlier.read(path)
        kept = self.folder / f"dense-{self._key(None)}.json"
        if key_of(earlier.recipe, None) != self._key(None):
            return 0
        if not kept.exists():
            self._keep(kept, earlier.baseline)
        taken = 0
        for row in earlier.rows:
            branch = branch_of(earlier.recipe, row)
            found = self._found(branch)
            further = found is None or len(found["score"]) < len(row["score"])
            if further and key_of(earlier.recipe, branch) == self._key(branch):
                self._keep(self._row_path(branch), row)
                taken += 1
        return taken

    def is_done(self, branch: Branch) -> bool:
        """Whether all that a branch is asked for is on disk."""
        found = self._found(branch)
        return found is not None and len(found["score"]) == len(self.recipe.retrain.score_after)

    def _pruned(self, branch: Branch, key: str) -> tuple[nn.Module, Pruner, Curve]:
        """Train with the pruner; not hardened."""
        model, before = self._start(branch)
        initial = 1.0 if before is None else 1 / before.rate
        pruner = branch.method.pruner.pruner(self.task.steps, branch.rho, initial)
        measuring = self._reporter("sensitivity")
        plan = plan_of(branch.forms, branch.rate, self.task, self.dense, self.folder, measuring)
        pruner.prepare(model, plan)
        log = None if self._tensorboard is None else self._tensorboard / branch.name
        with watched(pruner, self.folder / f"updates-{key}.csv", log):
            curve = fit(
                self.task.taught(self.dense),
                model,
                self.recipe.prune.stage(),
                seed=branch.seed,
                pruner=pruner,
                checkpoint=self.folder / f"prune-{key}.pt",
                on_step=self._reporter(branch.name),
            )
        return model, pruner, curve

    def _start(self, branch: Branch) -> tuple[nn.Module, Branch | None]:
        """The network that a branch starts from: the dense one, or in a ladder that of the rate before it."""
        model = copy.deepcopy(self.dense)
        before = branch.before if self.recipe.ladder else None
        if before is None:
            return model, None
        path = self.folder / f"network-{self._key(before)}.pt"
        if not path.exists():
            self.trained(before)
        model.load_state_dict(load_state(path)["model"])
        return model, before

    def _described(self, branch: Branch, model: nn.Module, pruner: Pruner, curve: Curve) -> dict[str, Any]:
        """Harden and score; the row so far."""
        updates = pruner.updates if isinstance(pruner, AugmentedLagrangian) else []
        lost = pruner.harden()
        return {
            "forms": branch.forms.name,
            "rate": branch.rate,
            **rates(model, pruner),
            "method": branch.method.name,
            "seed": branch.seed,
            "rho": getattr(branch.method.pruner, "rho", None) if branch.rho is None else branch.rho,
            "lost": overall(lost),
            **({"unmeasured": list(pruner.unmeasured)} if pruner.unmeasured else {}),
            "score": {"0": self.task.score(model)},
            "loss": curve.loss,
            "seconds_per_step": seconds_per_step(curve, self.task.steps),
            "updates": [asdict(update) for update in updates],
        }

    def _retrain(
        self, branch: Branch, key: str, model: nn.Module, pruner: Pruner, found: dict[str, Any]
    ) -> None:
        """Train on, masked; score after the epochs asked for, and keep each score before training goes on."""
        path = self.folder / f"retrain-{key}.pt"
        missing = [
            epochs for epochs in self.recipe.retrain.score_after[1:] if str(epochs) not in found["score"]
        ]
        if missing and path.exists() and load_state(path)["step"] > missing[0] * self.task.steps:
            path.unlink()  # it is past the network that is to be scored
        for epochs in self.recipe.retrain.score_after[1:]:
            fit(
                self.task.taught(self.dense),
                model,
                self.recipe.retrain.stage(),
                seed=branch.seed + 1000,  # other batches than before hardening
                pruner=pruner,
                checkpoint=path,
                on_step=self._reporter(f"{branch.name}, retraining"),
                stop_after=epochs,
            )
            if str(epochs) not in found["score"]:
                found["score"][str(epochs)] = self.task.score(model)
                self._keep(self._row_path(branch), found)

    def _row_path(self, branch: Branch) -> Path:
        return self.folder / f"row-{self._key(branch)}.json"

    def _found(self, branch: Branch) -> dict[str, Any] | None:
        path = self._row_path(branch)
        if not path.exists():
            return None
        return {
            **self._kept(path),
            "forms": branch.forms.name,
            "method": branch.method.name,
        }  # as they are called now

    def _reporter(self, name: str) -> Callable[[int, int, float], None] | None:
        progress = self._progress
        return None if progress is None else lambda step, steps, loss: progress(name, step, steps, loss)

    def _key(self, branch: Branch | None) -> str:
        return key_of(self.recipe, branch)

    def _keep(self, path: Path, found: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "result of a branch", CheckpointError) as beside:
            beside.write_text(json.dumps(found), "utf-8")

    def _kept(self, path: Path) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except ValueError:
            raise CheckpointError(
                f"{str(path)!r} must be the result of a branch, but is damaged: remove it"
            ) from None
        return found


def branch_of(recipe: Comparison, row: dict[str, Any]) -> Branch:
    """The branch of a recipe that a row belongs to.

    Raises
    ------
    ConfigError
        If the recipe has no such plan or method.
    """
    forms = next((forms for forms in recipe.forms if forms.name == row["forms"]), None)
    method = next((method for method in recipe.methods if method.name == row["method"]), None)
    if forms is None or method is None:
        raise ConfigError(
            f"rows of a result must be of its recipe, which has no {row['forms'] if forms is None else row['method']!r}: "
            "take the file as it was written"
        )
    return Branch(forms, row["rate"], method, row["seed"], row["rho"] if method.tuned else None)


def key_of(recipe: Comparison, branch: Branch | None) -> str:
    """Hash of everything that decides the dense network, or a branch."""
    decides: dict[str, Any] = {
        "task": recipe.task.model_dump(),
        "dense": recipe.dense and recipe.dense.model_dump(),
    }
    if branch is not None:
        rules = [(rule.weights, rule.structure.to_dict()) for rule in branch.forms.rules]
        decides |= {
            "prune": recipe.prune.model_dump(),
            "retrain": recipe.retrain.model_dump(),
            "rules": rules,
            "rate": branch.rate,
            "pruner": branch.method.pruner.model_dump(),
            "seed": branch.seed,
            "rho": branch.rho,
            **branch.forms.uneven(),
        }
        if recipe.ladder:
            decides["before"] = [rate for rate in branch.forms.rates if rate < branch.rate]
    text = json.dumps(decides, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def rates(model: nn.Module, pruner: Pruner) -> dict[str, float]:
    """Weights over kept weights: of the plan, and of all parameters of the model."""
    pruned = sum(target.parameter.numel() for target in pruner.targets)
    kept = sum(target.reached * target.parameter.numel() for target in pruner.targets)
    whole = sum(parameter.numel() for parameter in model.parameters())
    return {"plan_rate": pruned / kept, "model_rate": whole / (whole - pruned + kept)}


def overall(lost: list[Hardened]) -> float:
    """Norm of what hardening pruned over the norm of the weights, all layers together."""
    whole = sum(line.norm**2 for line in lost)
    return (sum((line.lost * line.norm) ** 2 for line in lost) / whole) ** 0.5 if whole else 0.0


def seconds_per_step(curve: Curve, steps: int) -> float:
    """Median over the epochs."""
    return statistics.median(curve.seconds) / steps
