"""Running a recipe: a dense model trained once, and branches of it that are pruned.

Every stage is keyed by all that decides it and leaves a checkpoint in the run's
folder, so that a second call finds what is there and an interrupted one goes on.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrim.artifact import Artifact
from retrim.prune import (
    ADMM,
    SLR,
    CubicSchedule,
    Magnitude,
    OptimalBrainSurgeon,
    Plan,
    Pruner,
    ReweightedGroupLasso,
    Rule,
)
from retrim.recipe.schema import (
    CorpusPart,
    ModelPart,
    PrunePart,
    Recipe,
    TrainPart,
)
from retrim.torch import Distillation, pack
from retrim.zoo.corpus import Corpus, read_corpus
from retrim.zoo.lm import TransformerLM, build
from retrim.zoo.tokens import TokenizedCorpus, tokenize
from retrim.zoo.training import History, Pruning, Schedule, Teacher, load_state, train

Progress = Callable[[str, int, int, float], None]
"""Called with the stage's name, steps done, steps in all, and the loss."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A model at the end of a stage."""

    model: TransformerLM
    history: History
    pruner: Pruner | None = None


class Run:
    """One dense model and its branches, in one folder.

    Parameters
    ----------
    folder : Path
        Checkpoints and token arrays; made where it is missing.
    model, corpus, base, seed
        As in a recipe; `base` trains the dense model.
    progress : callable, optional
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: ModelPart,
        corpus: CorpusPart,
        base: TrainPart,
        seed: int,
        progress: Progress | None = None,
    ) -> None:
        self.folder, self.model, self.base, self.seed = folder, model, base, seed
        self._corpus_part = corpus
        self._progress = progress

    @classmethod
    def of(cls, recipe: Recipe, folder: Path, progress: Progress | None = None) -> Run:
        """The run that a recipe describes."""
        return cls(
            folder,
            model=recipe.model,
            corpus=recipe.corpus,
            base=recipe.train,
            seed=recipe.seed,
            progress=progress,
        )

    @cached_property
    def corpus(self) -> Corpus:
        """The text."""
        return read_corpus(self._corpus_part.path)

    @cached_property
    def tokens(self) -> TokenizedCorpus:
        """The text as tokens."""
        return tokenize(self.corpus, self.model.vocabulary, self.folder)

    def check(self, stage: PrunePart) -> None:
        """Whether a stage's plan fits the model, before hours of training.

        Raises
        ------
        ConfigError, ShapeError, DensityError
        """
        plan_of(stage).resolve(build(self.model.model_dump(), self.seed))

    @cached_property
    def dense(self) -> Trained:
        """The dense model that all branches start from; trained on first use."""
        model = build(self.model.model_dump(), self.seed)
        history = train(
            model,
            self.tokens.train,
            self._schedule(self.base),
            seed=self.seed,
            checkpoint=self.folder / f"dense-{self._key()}.pt",
            on_step=self._reporter("dense", self.base.steps),
        )
        return Trained(model, history)

    def continued(self, stage: TrainPart, name: str = "dense continued") -> Trained:
        """The dense model, trained on without a pruner."""
        return self._branch(stage, name)

    def pruned(self, stage: PrunePart, name: str = "pruned", teacher: TransformerLM | None = None) -> Trained:
        """The dense model, pruned and retrained.

        Parameters
        ----------
        teacher : TransformerLM, optional
            For a stage that distils; without it, the dense model.
        """
        return self._branch(stage, name, teacher)

    def is_done(self, stage: TrainPart) -> bool:
        """Whether a branch was trained to its end."""
        path = self._path(stage)
        return path.exists() and load_state(path)["step"] == stage.steps

    def _branch(self, stage: TrainPart, name: str, teaches: TransformerLM | None = None) -> Trained:
        model = copy.deepcopy(self.dense.model)
        pruner, pruning, teacher = None, None, None
        if isinstance(stage, PrunePart):
            pruner = make_pruner(stage)
            pruner.prepare(model, plan_of(stage))
            pruning = Pruning(pruner=pruner, harden_at=stage.harden_at)
            if stage.distil is not None:
                distillation = Distillation(**stage.distil.model_dump())
                teacher = Teacher(model=teaches or self.dense.model, distillation=distillation)
        history = train(
            model,
            self.tokens.train,
            self._schedule(stage),
            seed=self.seed + 1,  # other batches than the dense model saw
            pruning=pruning,
            teacher=teacher,
            checkpoint=self._path(stage),
            on_step=self._reporter(name, stage.steps),
        )
        return Trained(model, history, pruner)

    def artifact(
        self,
        trained: Trained,
        metrics: dict[str, Any],
        provenance: dict[str, Any],
        precisions: Sequence[str] = ("fp32",),
    ) -> Artifact:
        """Pack a stage's model, with the tokenizer and the text it was trained on."""
        return pack(
            trained.model,
            trained.pruner,
            architecture=TransformerLM.architecture,
            config=self.model.model_dump(),
            tokenizer=self.tokens.tokenizer,
            metrics=metrics,
            provenance={"corpus": self.about_corpus(), "seed": self.seed, **provenance},
            precisions=precisions,
        )

    def about_corpus(self) -> dict[str, Any]:
        """Source, digest and size of the text."""
        return {
            "source": self.corpus.source,
            "digest": self.corpus.digest,
            "train_tokens": int(np.size(self.tokens.train)),
            "held_out_tokens": int(np.size(self.tokens.held_out)),
        }

    def _schedule(self, stage: TrainPart) -> Schedule:
        wanted = {key: getattr(stage, key) for key in TrainPart.model_fields}
        return Schedule(context=self.model.context, **wanted)

    def _path(self, stage: TrainPart) -> Path:
        return self.folder / f"branch-{self._key(stage)}.pt"

    def _key(self, stage: TrainPart | None = None) -> str:
        """Hash of everything that decides a stage's result."""
        decides = {
            "corpus": self.corpus.digest,
            "model": self.model.model_dump(),
            "base": self.base.model_dump(),
            "seed": self.seed,
            "stage": None if stage is None else plain(stage),
        }
        text = json.dumps(decides, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _reporter(self, name: str, steps: int) -> Callable[[int, float], None] | None:
        progress = self._progress
        if progress is None:
            return None
        return lambda step, loss: progress(name, step, steps, loss)


def plain(stage: TrainPart) -> dict[str, Any]:
    """A stage as plain data, ready for JSON."""
    found = stage.model_dump(exclude={"plan"})
    if isinstance(stage, PrunePart):
        found["plan"] = [
            {"weights": rule.weights, "structure": rule.structure.to_dict(), "density": rule.density}
            for rule in stage.plan
        ]
    return found


def plan_of(stage: PrunePart) -> Plan:
    """The plan of a recipe."""
    return Plan([Rule(weights=r.weights, structure=r.structure, density=r.density) for r in stage.plan])


def make_pruner(stage: PrunePart) -> Pruner:
    """The pruner of a recipe, not prepared."""
    part = stage.pruner
    options = part.model_dump(exclude={"type", "schedule"})
    schedule = getattr(part, "schedule", None)
    if schedule is not None:
        options["schedule"] = CubicSchedule(**schedule.model_dump())
    return PRUNERS[part.type](**options)


PRUNERS: dict[str, Callable[..., Pruner]] = {
    "ADMM": ADMM,
    "Magnitude": Magnitude,
    "OptimalBrainSurgeon": OptimalBrainSurgeon,
    "ReweightedGroupLasso": ReweightedGroupLasso,
    "SLR": SLR,
}


def use_all_cores() -> None:
    """Let torch train on every core that this process may use."""
    import torch

    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
