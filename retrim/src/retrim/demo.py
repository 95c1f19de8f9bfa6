"""The main job end to end: a Transformer trained, pruned, packed, scored and timed.

One dense model is trained; branches of equal extra steps then go on dense, with
reweighted group lasso, and with one-shot magnitude pruning.  Accuracy and speed
of a row are those of one and the same artifact.  The sparsest branch of group lasso
is packed in bf16 and in int8 as well.  Kernels are chosen by the machine's profile,
which learns of the layers where it does not know them.  Levels of the model for the clocks of a
device are `retrim.demo_levels`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from retrim.artifact import Artifact, load, save
from retrim.demo_levels import levels
from retrim.recipe.expectation import expect, together
from retrim.recipe.run import Progress, Run, Trained, use_all_cores
from retrim.recipe.schema import (
    CorpusPart,
    DistilPart,
    GroupLassoPart,
    MagnitudePart,
    ModelPart,
    PrunePart,
    RulePart,
    TrainPart,
)
from retrim.recipe.wishes import Wishes, measured
from retrim.runtime.host import describe
from retrim.structures import BlockColumns
from retrim.torch.latency import measure, on_threads, time_dense
from retrim.zoo.evaluation import evaluate
from retrim.zoo.models import load_dense, load_packed

TOKENS = 128
ROWS = 32
SCORED_TOKENS = 40_000
LEVEL_TOKENS = 12_000  # of each score of a level
FRACTION = 0.5  # of the loss gradient: the run is short
TIMED_SECONDS = 4.0
MEASURED_SECONDS = 4.0  # for the profile, an artifact
GROUP_LASSO = "reweighted group lasso"
ONE_SHOT = "one-shot magnitude"
WEIGHTS = ("blocks.*.attention.*.weight", "blocks.*.ffn.*.weight")
DENSITIES = (1 / 2, 1 / 3)
ALSO = ("bf16", "int8")
"""Precisions in which the sparsest branch of group lasso is packed besides fp32."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Steps of the demo.

    Parameters
    ----------
    dense : int
        Steps of the dense model.
    branch : int
        Steps of every branch after it.
    harden_at : int
        Steps of group lasso before the hard projection.
    trials, trial : int
        Trials of the search for levels, and steps of joint training of each.
    levels : int
        Steps of joint training of the levels that are chosen.
    """

    dense: int = 550
    branch: int = 160
    harden_at: int = 40
    trials: int = 12
    trial: int = 8
    levels: int = 32


Say = Callable[[str], None]


def run(
    folder: Path,
    *,
    corpus: Path | None = None,
    seed: int = 0,
    threads: int = 1,
    budget: Budget = Budget(),
    progress: Progress | None = None,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Train, prune, pack, score and time; go on from what `folder` already holds.

    Parameters
    ----------
    folder : Path
        Checkpoints and artifacts.
    corpus : Path, optional
        Text; without it the standard library's sources.
    threads : int, default 1
        Of the timed runs; training uses all cores.
    progress, say : callable, optional
        Told of steps and of stages.

    Returns
    -------
    dict
        Ready for JSON: ``kind``, ``host``, ``seconds``, ``settings``, ``corpus``,
        ``rows``, ``layers``, ``kernels``, ``curves``, ``levels``.
    """
    began = time.monotonic()
    use_all_cores()
    base = TrainPart(steps=budget.dense)
    work = Run(
        folder,
        model=ModelPart(),
        corpus=CorpusPart(path=corpus),
        base=base,
        seed=seed,
        progress=progress,
    )
    about = work.about_corpus()
    say(f"corpus: {about['source']}, {about['train_tokens']:,} tokens to train on")
    result: dict[str, Any] = {
        "kind": "demo",
        "host": describe(),
        "settings": _settings(work, budget, threads),
        "corpus": about,
        "rows": [],
        "layers": [],
        "kernels": [],
        "curves": {},
    }
    stage = TrainPart(steps=budget.branch, rate=base.rate / 2)
    trained = [("dense", 1.0, work.continued(stage))]
    for density in DENSITIES:
        for method in (GROUP_LASSO, ONE_SHOT):
            part = branch(method, density, stage, budget.harden_at, fraction=FRACTION, selective=True)
            name = f"{method} 1/{round(1 / density)}"
            trained.append((method, density, work.pruned(part, name)))
    for method, density, branch_ in trained:
        label = method if method == "dense" else f"{method} 1/{round(1 / density)}"
        extra = ALSO if (method, density) == (GROUP_LASSO, min(DENSITIES)) else ()
        for precision in ("fp32", *extra):
            say(f"packing, scoring and timing {label}{'' if precision == 'fp32' else f' in {precision}'}")
            _record(result, work, branch_, Row(method, label, precision), threads, say)
        result["curves"][label] = _curve(branch_, after=budget.dense)
    result["curves"]["dense, before branching"] = _curve(work.dense)
    say("searching levels for a device whose clock falls with its battery")
    half = next(b for method, density, b in trained if (method, density) == (GROUP_LASSO, max(DENSITIES)))
    result["levels"] = levels(
        work,
        trained[0][2],
        half,
        weights=WEIGHTS,
        rows=ROWS,
        density=max(DENSITIES),
        scored=LEVEL_TOKENS,
        trials=budget.trials,
        steps=budget.trial,
        final=budget.levels,
        progress=progress,
    )
    result["seconds"] = time.monotonic() - began
    return result


def branch(
    method: str,
    density: float,
    stage: TrainPart,
    harden_at: int,
    rows: int = ROWS,
    distil: DistilPart | None = None,
    fraction: float = 0.1,
    selective: bool = False,
) -> PrunePart:
    """A branch of the comparison."""
    shot = method == ONE_SHOT
    return PrunePart(
        **stage.model_dump(),
        harden_at=0 if shot else harden_at,
        distil=distil,
        pruner=MagnitudePart(type="Magnitude")
        if shot
        else GroupLassoPart(
            type="ReweightedGroupLasso",
            fraction=fraction,
            refresh_every=max(1, harden_at // 8),
            selective=selective,
        ),
        plan=tuple(
            RulePart(weights=weights, structure=BlockColumns(rows), density=density) for weights in WEIGHTS
        ),
    )


@dataclass(frozen=True)
class Row:
    """What a row of the result is called."""

    method: str
    label: str
    precision: str

    @property
    def file(self) -> str:
        """Name of its artifact."""
        end = "" if self.precision == "fp32" else f"-{self.precision}"
        return f"{self.label.replace(' ', '-').replace('/', '-')}{end}.safetensors"


def _record(result: dict[str, Any], work: Run, trained: Trained, named: Row, threads: int, say: Say) -> None:
    """Pack one branch, and add its row and layers to the result."""
    path = work.folder / named.file
    size = save(
        path,
        work.artifact(trained, {}, {"method": named.method}, precisions=(named.precision,)),
    )
    artifact = load(path)
    dense = load_dense(artifact)
    packed = _packed(result, artifact, named, threads, say) if artifact.weights else dense
    score = evaluate(packed, work.tokens.held_out, work.model.context, most=SCORED_TOKENS)
    inputs = torch.from_numpy(work.tokens.held_out[:TOKENS].astype("int64"))[None]
    row: dict[str, Any] = {
        "method": named.method,
        "precision": named.precision,
        "density": artifact.density,
        "parameters": artifact.parameters,
        "bytes": size,
        "perplexity": score.perplexity,
        "accuracy": score.accuracy,
        "ms_packed": None,
        "speedup": None,
        "speedup_linears": None,
    }
    if artifact.weights:
        row |= measure(dense, packed, inputs, threads=threads, seconds=TIMED_SECONDS).row()
        if named.precision == "fp32":
            result["layers"] += [{"row": named.label, **layer} for layer in artifact.layers()]
    else:
        row |= {"ms_dense": time_dense(dense, inputs, threads=threads)}
    result["rows"].append(row)


def _packed(result: dict[str, Any], artifact: Artifact, named: Row, threads: int, say: Say) -> nn.Module:
    """The packed model, on kernels that the profile chooses once it knows of the layers."""
    wishes = Wishes(tokens=TOKENS, threads=threads, seconds=MEASURED_SECONDS)
    expectations = expect(artifact, measured(artifact, wishes), TOKENS, threads)
    result["kernels"] += [{"row": named.label, **expectation.row()} for expectation in expectations]
    chosen = Counter(
        f"{e.choice.isa} {e.choice.variant}" if e.choice else "by the rule of thumb" for e in expectations
    )
    words = ", ".join(f"{name} ({count} layers)" for name, count in chosen.items())
    gain = together(expectations)
    expected = "" if gain is None else f"; {gain:.2f}× expected over the best dense layers"
    say(f"  kernels, by this machine's profile: {words}{expected}")
    with on_threads(threads):
        return load_packed(artifact)


def _curve(trained: Trained, after: int = 0) -> dict[str, list[Any]]:
    history = trained.history
    return {"step": [after + step for step in history.step], "loss": history.loss, "penalty": history.penalty}


def _settings(work: Run, budget: Budget, threads: int) -> dict[str, Any]:
    return {
        "model": work.model.model_dump(),
        "structure": f"block columns of {ROWS} rows, balanced",
        "dense steps": budget.dense,
        "branch steps": budget.branch,
        "hardened after": budget.harden_at,
        "group lasso": f"selective, fraction {FRACTION}",
        "batch": work.base.batch,
        "timed tokens": TOKENS,
        "threads": threads,
        "seed": work.seed,
    }
