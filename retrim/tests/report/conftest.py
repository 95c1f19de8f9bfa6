"""A result as a demo makes it, its numbers drawn from a seed."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

KINDS = {
    "attention.qkv": [768, 256],
    "attention.out": [256, 256],
    "feed_forward.up": [1024, 256],
    "feed_forward.down": [256, 1024],
}
BRANCHES = [
    ("reweighted group lasso", 1 / 2, 0.402),
    ("reweighted group lasso", 1 / 3, 0.396),
    ("one-shot magnitude", 1 / 2, 0.393),
    ("one-shot magnitude", 1 / 3, 0.371),
]


def make_result(seed: int = 7, *, steps: int = 400) -> dict[str, Any]:
    """A whole demo result: five rows, sixteen weights in each pruned one, five curves."""
    draw = random.Random(seed)
    return {
        "kind": "demo",
        "host": {
            "cpu": "AMD EPYC 7763 64-Core Processor (cpu family 25, model 1)",
            "isa": ["avx2", "portable"],
            "isa_selected": "avx2",
            "cores": 2,
            "system": "Linux x86_64",
            "python": "3.11.9",
            "versions": {"retrim": "0.1.0", "numpy": "2.3.1", "torch": "2.13.0"},
        },
        "seconds": 371.4,
        "settings": {
            "seed": 0,
            "batch": 16,
            "steps": steps,
            "lambda": None,
            "structure": "block columns of 64 rows",
        },
        "rows": [_dense(), *(_pruned(draw, *branch) for branch in BRANCHES)],
        "layers": [layer for method, density, _ in BRANCHES for layer in _layers(draw, method, density)],
        "curves": {
            name: _curve(draw, steps, last, penalty)
            for name, last, penalty in (
                ("dense", 3.31, 0.0),
                ("reweighted group lasso 1/2", 3.35, 0.08),
                ("reweighted group lasso 1/3", 3.40, 0.10),
                ("one-shot magnitude 1/2", 3.44, 0.0),
                ("one-shot magnitude 1/3", 3.62, 0.0),
            )
        },
        "corpus": {
            "source": "standard library of Python 3.11.9",
            "digest": "sha256:6f1c0de2a4b7",
            "train_tokens": 4_812_330,
            "held_out_tokens": 241_118,
        },
    }


def make_bench(seed: int = 7) -> dict[str, Any]:
    """What a benchmark knows: machine, times and layers, no training."""
    whole = make_result(seed)
    untrained = [row | {"perplexity": None, "accuracy": None} for row in whole["rows"][:3]]
    kept = {"host": whole["host"], "rows": untrained, "layers": whole["layers"][:32]}
    return kept | {"kind": "bench", "seconds": 14.2, "settings": {}, "curves": None, "corpus": None}


def _dense() -> dict[str, Any]:
    counts = {"method": "dense", "density": 1.0, "parameters": 4_214_016, "bytes": 16_912_384}
    times = {"ms_dense": 14.62, "ms_packed": None, "speedup": None, "speedup_linears": None, "amdahl": None}
    return counts | {"perplexity": 27.4, "accuracy": 0.4042} | times


def _pruned(draw: random.Random, method: str, density: float, accuracy: float) -> dict[str, Any]:
    linears = 0.85 / density * draw.uniform(0.97, 1.03)
    bound = 1 / (0.35 + 0.65 / linears)
    reached = draw.uniform(0.91, 0.97)
    return {
        "method": method,
        "density": density,
        "parameters": round(1_068_288 + 3_145_728 * density),
        "bytes": round(4_330_000 + 12_582_912 * density),
        "perplexity": 27.4 * math.exp(4 * (0.4042 - accuracy)),
        "accuracy": accuracy,
        "ms_dense": 14.62,
        "ms_packed": 14.62 / (bound * reached),
        "speedup": bound * reached,
        "speedup_linears": linears,
        "amdahl": reached,
    }


def _layers(draw: random.Random, method: str, density: float) -> list[dict[str, Any]]:
    row = f"{method} 1/{round(1 / density)}"
    found = []
    for block in range(4):
        for kind, (outputs, inputs) in KINDS.items():
            kept = density * draw.uniform(0.7, 1.3)
            size = round(outputs * inputs * kept * 4 / 64) * 64
            name = f"blocks.{block}.{kind}.weight"
            found.append(
                {"row": row, "name": name, "shape": [outputs, inputs], "density": kept, "bytes": size}
            )
    return found


def _curve(draw: random.Random, steps: int, last: float, penalty: float) -> dict[str, list[float]]:
    at = list(range(1000, 1000 + steps))
    loss = [last + 0.35 * math.exp(-k / (steps / 4)) + draw.gauss(0, 0.06) for k in range(steps)]
    return {"step": at, "loss": loss, "penalty": [penalty * math.exp(-k / steps) for k in range(steps)]}


@pytest.fixture
def result() -> dict[str, Any]:
    return make_result()


@pytest.fixture
def bench() -> dict[str, Any]:
    return make_bench()
