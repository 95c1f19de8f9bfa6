"""Speed of an artifact's levels, and what a switch between them takes."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, get_args

import torch

from retrim.artifact import Artifact
from retrim.errors import ConfigError
from retrim.runtime.switching import switch_ms
from retrim.torch.latency import measure, on_threads
from retrim.torch.levels import Mode, load_levels_
from retrim.zoo.models import load_dense, make

MODES: tuple[Mode, ...] = get_args(Mode)
_ROUNDS = 20


def switches(artifact: Artifact, precision: str | None = None) -> dict[str, dict[str, float]]:
    """Milliseconds of a switch, and bytes of all levels, by mode; nested where the artifact's levels are.

    Returns
    -------
    dict
        Mode to ``median_ms``, ``largest_ms``.
    """
    found: dict[str, dict[str, float]] = {}
    for mode in MODES:
        try:
            model = load_levels_(
                make(artifact.architecture, artifact.config), artifact, mode=mode, precision=precision
            )
        except ConfigError:
            if mode != "nested":
                raise
            continue
        times = switch_ms(model.levels, _ROUNDS) or [0.0]  # type: ignore[arg-type]
        found[mode] = {"median_ms": statistics.median(times), "largest_ms": max(times)}
    return found


def level_rows(
    artifact: Artifact, path: Path, ids: torch.Tensor, *, threads: int, seconds: float, precision: str | None
) -> list[dict[str, Any]]:
    """A row of `retrim bench` for each level, against the dense network with the same zeros."""
    rows = []
    with on_threads(threads):
        packed = load_levels_(make(artifact.architecture, artifact.config), artifact, precision=precision)
    for place, (name, level) in enumerate(artifact.levels.items()):
        packed.levels.switch(name)  # type: ignore[union-attr,operator]
        latency = measure(
            load_dense(artifact, name), packed, ids, threads=threads, seconds=seconds / len(artifact.levels)
        )
        masks = [weight.level_mask(place, level) for weight in artifact.weights.values()]
        kept, size = sum(int(mask.sum()) for mask in masks), sum(mask.size for mask in masks)
        dense = sum(int(tensor.data.size) for tensor in artifact.tensors.values())
        rows.append(
            {
                "method": name,
                "density": kept / size if size else 1.0,
                "parameters": dense + kept,
                "bytes": path.stat().st_size,
                "perplexity": None,
                "accuracy": level.facts.get("accuracy"),
                "precision": precision or artifact_precision(artifact),
                **latency.row(),
            }
        )
    return rows


def artifact_precision(artifact: Artifact) -> str:
    """Of the packs that run where none is asked for."""
    return ", ".join(dict.fromkeys(weight.packs[0].precision for weight in artifact.weights.values()))
