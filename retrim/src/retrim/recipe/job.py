"""What the commands do: prune by a recipe, pack a run, score and time an artifact."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrim.artifact import load, save
from retrim.errors import ArtifactError, ConfigError
from retrim.files import replacing
from retrim.recipe.run import Progress, Run, plain, use_all_cores
from retrim.recipe.schema import Recipe, parse
from retrim.runtime import threads as threads_
from retrim.runtime.host import describe
from retrim.torch.latency import measure
from retrim.zoo.corpus import read_corpus
from retrim.zoo.evaluation import evaluate as score
from retrim.zoo.models import load_dense, load_packed
from retrim.zoo.tokens import encode

_RECIPE = "recipe.json"


def prune(recipe: Recipe, folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Train, prune and retrain by a recipe; the folder then holds what `pack` needs.

    Returns
    -------
    dict
        Ready for JSON: host, seconds, accuracy, perplexity, dense_accuracy,
        weights (name, density, share of the norm that was pruned away), curve.
    """
    began = time.monotonic()
    use_all_cores()
    run = Run.of(recipe, folder, progress)
    dense = run.dense
    pruned = run.pruned(recipe.prune)
    before = score(dense.model, run.tokens.held_out, recipe.model.context)
    after = score(pruned.model, run.tokens.held_out, recipe.model.context)
    with replacing(folder / _RECIPE, "recipe", ConfigError) as beside:
        beside.write_text(json.dumps(_plain(recipe), indent=1) + "\n", "utf-8")
    return {
        "kind": "prune",
        "host": describe(),
        "seconds": time.monotonic() - began,
        "corpus": run.about_corpus(),
        "accuracy": after.accuracy,
        "perplexity": after.perplexity,
        "dense_accuracy": before.accuracy,
        "dense_perplexity": before.perplexity,
        "weights": pruned.history.hardened,
        "curve": asdict(pruned.history),
    }


def pack(folder: Path, target: Path) -> dict[str, Any]:
    """Pack the model of a finished run.

    Raises
    ------
    ConfigError
        If `folder` holds no finished run.
    ArtifactError
        If the artifact cannot be written.
    """
    recipe = _finished(folder)
    run = Run.of(recipe, folder)
    if not run.is_done(recipe.prune):
        raise ConfigError(
            f"run {str(folder)!r} must be finished before it is packed: call retrim prune again"
        )
    trained = run.pruned(recipe.prune)
    found = score(trained.model, run.tokens.held_out, recipe.model.context)
    metrics = {"perplexity": found.perplexity, "accuracy": found.accuracy, "held_out_tokens": found.tokens}
    artifact = run.artifact(trained, metrics, {"recipe": _plain(recipe)})
    size = save(target, artifact)
    return {
        "artifact": str(target),
        "bytes": size,
        "parameters": artifact.parameters,
        "density": artifact.density,
        "metrics": metrics,
    }


def evaluate(path: Path, corpus: Path | None) -> dict[str, Any]:
    """Score a packed language model on held-out text.

    Raises
    ------
    ArtifactError
        If the artifact is damaged, or holds no language model with a tokenizer.
    CorpusError
        If there is no text, or too little.
    """
    artifact = load(path)
    if artifact.tokenizer is None:
        raise ArtifactError(
            f"artifact {str(path)!r} must hold a tokenizer to be scored on text, but has none"
        )
    use_all_cores()
    text = read_corpus(corpus)
    ids = encode(artifact.tokenizer, text)
    model = load_packed(artifact) if artifact.weights else load_dense(artifact)
    found = score(model, ids, int(artifact.config["context"]))
    return {"host": describe(), "corpus": text.source, "corpus_digest": text.digest, **asdict(found)}


def bench(path: Path, *, tokens: int, threads: int, seconds: float) -> dict[str, Any]:
    """Time an artifact against its dense twin.

    Raises
    ------
    ArtifactError, ConfigError
    """
    began = time.monotonic()
    threads_.check(threads)
    artifact = load(path)
    context = int(artifact.config.get("context", tokens))
    if tokens > context:
        raise ConfigError(f"tokens must be at most the model's context {context}, not {tokens}")
    rng = np.random.default_rng(0)
    ids = rng.integers(0, int(artifact.config["vocabulary"]), (1, tokens))
    latency = measure(
        load_dense(artifact), load_packed(artifact), torch.from_numpy(ids), threads=threads, seconds=seconds
    )
    row = {
        "method": str(artifact.provenance.get("method", path.stem)),
        "density": artifact.density,
        "parameters": artifact.parameters,
        "bytes": path.stat().st_size,
        "perplexity": artifact.metrics.get("perplexity"),
        "accuracy": artifact.metrics.get("accuracy"),
        **latency.row(),
    }
    return {
        "kind": "bench",
        "host": describe(),
        "seconds": time.monotonic() - began,
        "settings": {"tokens": tokens, "threads": threads, "rounds": latency.rounds},
        "rows": [row],
        "layers": [{"row": row["method"], **layer} for layer in artifact.layers()],
    }


def _plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data that `parse` reads again."""
    found = recipe.model_dump(exclude={"prune"}, exclude_none=True, mode="json")
    return found | {"prune": _without_none(plain(recipe.prune))}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return value


def _finished(folder: Path) -> Recipe:
    path = folder / _RECIPE
    try:
        return parse(json.loads(path.read_text("utf-8")), str(path))
    except (OSError, ValueError):
        raise ConfigError(
            f"run {str(folder)!r} must be the folder of a finished run, but holds no {_RECIPE}: call retrim prune "
            "first"
        ) from None
