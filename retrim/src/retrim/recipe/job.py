"""What the commands do: prune by a recipe, pack a run, score and time an artifact."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from retrim.artifact import Artifact, load, save
from retrim.artifact.layout import PRECISIONS
from retrim.errors import ArtifactError, ConfigError, MissingExtraError
from retrim.files import replacing
from retrim.recipe.expectation import advice, expect, fastest, filled, together
from retrim.recipe.level_bench import level_rows, switches
from retrim.recipe.run import Progress, Run, Trained, plain, use_all_cores
from retrim.recipe.schema import Recipe, parse
from retrim.recipe.wishes import Measuring, Wishes, measured
from retrim.runtime import threads as threads_
from retrim.runtime import tuning
from retrim.runtime.host import describe
from retrim.runtime.profile import Profile
from retrim.torch.latency import measure, on_threads
from retrim.zoo.corpus import read_corpus
from retrim.zoo.evaluation import evaluate as score
from retrim.zoo.models import load_dense, load_packed
from retrim.zoo.tokens import encode

AS_IT_IS = Wishes()
_TOKENS = 128
_RECIPE = "recipe.json"
_CONTEXT = ("context", "max_position_embeddings", "n_positions")
_VOCABULARY = ("vocabulary", "vocab_size")


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
    run.check(recipe.prune)
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


def pack(
    folder: Path, target: Path, wishes: Wishes = AS_IT_IS, measuring: Measuring = lambda done, steps: None
) -> dict[str, Any]:
    """Pack the model of a finished run.

    Parameters
    ----------
    measuring : callable, optional
        Told of measurements done and measurements in all.

    Returns
    -------
    dict
        Ready for JSON: artifact, bytes, parameters, density, metrics, ``layers``
        (what to expect of each pack, `retrim.recipe.expectation.Expectation.row`),
        ``speedup`` (of all layers, those packs that run) and ``advice`` (sentences).

    Raises
    ------
    ConfigError
        If `folder` holds no finished run.
    ArtifactError
        If the artifact cannot be written.
    ProfileError
        If a profile that was named is damaged or of another machine, or cannot be written.
    """
    recipe = _finished(folder)
    run = Run.of(recipe, folder)
    if not run.is_done(recipe.prune):
        raise ConfigError(
            f"run {str(folder)!r} must be finished before it is packed: call retrim prune again"
        )
    trained = run.pruned(recipe.prune)
    artifact = run.artifact(
        trained, {}, {"recipe": _plain(recipe)}, precisions=PRECISIONS if wishes.auto else wishes.precisions
    )
    artifact, told = _fitted(artifact, wishes, measuring)
    found = score(_scored(artifact, trained), run.tokens.held_out, recipe.model.context)
    metrics = {"perplexity": found.perplexity, "accuracy": found.accuracy, "held_out_tokens": found.tokens}
    artifact = replace(artifact, metrics=metrics)
    size = save(target, artifact)
    return {"artifact": str(target), "bytes": size, **told, "metrics": metrics}


def pack_checkpoint(
    source: Path, goal: Path, wishes: Wishes = AS_IT_IS, measuring: Measuring = lambda done, steps: None
) -> dict[str, Any]:
    """Pack a checkpoint of Hugging Face that `save_pruned` wrote, into a folder that loads with `from_pretrained`.

    Returns
    -------
    dict
        As that of `pack`, without metrics; ``artifact`` is the folder.

    Raises
    ------
    MissingExtraError
        Without transformers.
    ConfigError, ArtifactError
        As `retrim.torch.huggingface.pack_pretrained` does.
    ProfileError
        As `pack` does.
    """
    try:
        from retrim.torch.huggingface.saving import packed_artifact, write_packed
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"retrim pack needs {error.name} for it: pip install 'retrim[hf]'") from None
    artifact = packed_artifact(source, goal, PRECISIONS if wishes.auto else wishes.precisions)
    artifact, told = _fitted(artifact, wishes, measuring)
    write_packed(source, goal, artifact)
    return {"artifact": str(goal), "bytes": (goal / "model.safetensors").stat().st_size, **told}


def _fitted(artifact: Artifact, wishes: Wishes, measuring: Measuring) -> tuple[Artifact, dict[str, Any]]:
    """The packs that run best as the model will be run, and what is to be told of them."""
    profile = measured(artifact, wishes, measuring)
    artifact = filled(artifact, expect(artifact, profile, wishes.tokens, wishes.threads), profile)
    if wishes.auto:
        artifact = fastest(artifact, expect(artifact, profile, wishes.tokens, wishes.threads))
    expectations = expect(artifact, profile, wishes.tokens, wishes.threads)
    running = [e for e in expectations if e.pack is e.weight.packs[0]]
    return artifact, {
        "parameters": artifact.parameters,
        "density": artifact.density,
        "layers": [expectation.row() for expectation in expectations],
        "speedup": together(running),
        "advice": [words for e in expectations if (words := advice(e, profile)) is not None],
    }


def _scored(artifact: Artifact, trained: Trained) -> nn.Module:
    """The model whose accuracy is the artifact's: what packs in fp32 compute, the trained one does too."""
    plain = all(weight.packs[0].precision == "fp32" for weight in artifact.weights.values())
    return trained.model if plain else load_packed(artifact)


def evaluate(path: Path, corpus: Path | None, level: str | None = None) -> dict[str, Any]:
    """Score a packed language model on held-out text.

    Parameters
    ----------
    level : str, optional
        Of an artifact with levels; default: its first.

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
    model = load_packed(artifact, level=level) if artifact.weights else load_dense(artifact, level)
    found = score(model, ids, int(artifact.config["context"]))
    trained = artifact.provenance.get("corpus", {})
    return {
        "host": describe(),
        "corpus": text.source,
        "corpus_digest": text.digest,
        "trained_on": trained.get("source"),
        "same_corpus": trained.get("digest") == text.digest if trained else None,
        **asdict(found),
    }


def bench(
    path: Path, *, tokens: int | None = None, threads: int, seconds: float, precision: str | None = None
) -> dict[str, Any]:
    """Time an artifact against its dense twin, on the kernels that the profile in use chooses.

    Parameters
    ----------
    tokens : int, optional
        Default: 128, or the model's context if that is less.
    precision : str, optional
        Of the packs that run; default: the first of each weight.

    Raises
    ------
    ArtifactError, ConfigError
    """
    began = time.monotonic()
    threads_.check(threads)
    artifact = load(path)
    context, words = (_number(artifact, names) for names in (_CONTEXT, _VOCABULARY))
    if words is None:
        raise ArtifactError(
            f"artifact {str(path)!r} must hold a model of text to be timed, with a vocabulary"
        )
    if tokens is None:
        tokens = _TOKENS if context is None else min(_TOKENS, context)
    if context is not None and tokens > context:
        raise ConfigError(f"tokens must be at most the model's context {context}, not {tokens}")
    ids = np.random.default_rng(0).integers(0, words, (1, tokens))
    if artifact.levels:
        rows = level_rows(
            artifact, path, torch.from_numpy(ids), threads=threads, seconds=seconds, precision=precision
        )
        return {
            "kind": "bench",
            "host": describe(),
            "seconds": time.monotonic() - began,
            "settings": {"tokens": tokens, "threads": threads},
            "rows": rows,
            "layers": [{"row": row["method"], **layer} for row in rows for layer in artifact.layers()],
            "kernels": [],
            "expected": None,
            "switches": switches(artifact, precision),
        }
    with on_threads(threads):  # the profile chooses for them
        packed = load_packed(artifact, precision)
    latency = measure(load_dense(artifact), packed, torch.from_numpy(ids), threads=threads, seconds=seconds)
    running = [
        e
        for e in expect(artifact, tuning.current() or Profile(), tokens, threads)
        if e.pack is (e.weight.packs[0] if precision is None else e.weight.pack(precision))
    ]
    first = all(e.pack is e.weight.packs[0] for e in running)
    metrics = artifact.metrics if first else {}  # they are those of the first packs
    row = {
        "method": str(artifact.provenance.get("method", path.stem)),
        "density": artifact.density,
        "parameters": artifact.parameters,
        "bytes": path.stat().st_size,
        "perplexity": metrics.get("perplexity"),
        "accuracy": metrics.get("accuracy"),
        "precision": ", ".join(dict.fromkeys(e.request.precision for e in running)),
        **latency.row(),
    }
    return {
        "kind": "bench",
        "host": describe(),
        "seconds": time.monotonic() - began,
        "settings": {"tokens": tokens, "threads": threads, "rounds": latency.rounds},
        "rows": [row],
        "layers": [{"row": row["method"], **layer} for layer in artifact.layers()],
        "kernels": [expectation.row() for expectation in running],
        "expected": together(running),
    }


def _number(artifact: Artifact, names: tuple[str, ...]) -> int | None:
    """The first of these that the model's configuration has."""
    found = [artifact.config[name] for name in names if artifact.config.get(name) is not None]
    return int(found[0]) if found else None


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
        if not folder.is_dir():
            raise ConfigError(
                f"run {str(folder)!r} must be a folder, but there is none of that name"
            ) from None
        if (folder / "config.json").is_file():
            raise ConfigError(
                f"checkpoint {str(folder)!r} must be pruned to be packed, but holds no retrim.json: prune it with "
                "retrim glue, or save it with retrim.torch.huggingface.save_pruned"
            ) from None
        raise ConfigError(
            f"run {str(folder)!r} must be the folder of a finished run, but holds no {_RECIPE}: call retrim prune "
            "first, or again where it was interrupted"
        ) from None
