"""Packed linear layers against the best dense run-time, float32.

Chains of distinct layers, as a Transformer has them; before every run a sweep over more memory than
the last-level cache holds puts all weights out of it.  Packed and dense runs take turns; each number
is a median.  Density 1 is the packed layout with nothing left out.  `--clock cpu` counts processor
time instead of time on the wall: on a machine that other jobs share it is the steadier of the two,
and for one thread on an idle machine the same.

    python retrim/benchmarks/linear.py [--chains 768 ...] [--tokens 1 128 ...] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dense
import numpy as np
import torch

from retrim.artifact.layout import pack_rows
from retrim.runtime import PackedMatrix, host

CHAINS: dict[str, list[tuple[int, int]]] = {
    "768": [(768, 768)],
    "768-3072-768": [(3072, 768), (768, 3072)],
    "256": [(256, 256)],
    "256-1024-256": [(1024, 256), (256, 1024)],
}
"""Shapes (out, in) that a chain repeats."""

DENSITIES = {"1": 1.0, "1/2": 1 / 2, "1/3": 1 / 3, "1/5": 1 / 5}
TOKENS = [1, 8, 128, 384]
HEIGHT = 32
CHAIN_BYTES = 36 << 20  # dense weights of a chain, at most
MOST_LAYERS = 24
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
AGREEMENT = 1e-4  # of the largest output, after a whole chain


def layers_of(shapes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """As many repetitions of the shapes as a chain has room for."""
    size = sum(4 * outputs * inputs for outputs, inputs in shapes)
    return shapes * max(2, min(CHAIN_BYTES // size, MOST_LAYERS // len(shapes)))


def random_layer(rng: np.random.Generator, shape: tuple[int, int], density: float) -> np.ndarray:
    """A weight whose block columns keep the same number of columns in every block."""
    outputs, inputs = shape
    weight = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(inputs * density))
    kept = round(inputs * density)
    for first in range(0, outputs, HEIGHT):
        weight[first : first + HEIGHT, rng.permutation(inputs)[kept:]] = 0
    return weight


def packed(chain: dense.Chain) -> dense.Run:
    """The chain on packed layers, between two buffers."""
    layers = [
        PackedMatrix(pack_rows(w, w != 0, HEIGHT), b)
        for w, b in zip(chain.weights, chain.biases, strict=True)
    ]
    buffers = [np.empty((len(chain.x), layer.outputs), np.float32) for layer in layers[:2]]

    def run() -> np.ndarray:
        y = chain.x
        for i, layer in enumerate(layers):
            out = buffers[i % 2]
            layer.into(y, out, chain.threads)
            y = out
        return y

    return run


def cache_sweep() -> Callable[[], object]:
    """A function that fills the caches with something else."""
    found = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    kib = int(found.read_text().strip().rstrip("K")) if found.exists() else 32 << 10
    other = np.ones(min(2 * kib, 256 << 10) << 8, np.float32)
    return other.sum


def measure(
    runs: dict[str, dense.Run], sweep: Callable[[], object], rounds: int, clock: Callable[[], float]
) -> dict[str, dict[str, float]]:
    """Milliseconds of each run, taking turns in a changing order."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    names = list(runs)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            sweep()
            start = clock()
            runs[name]()
            times[name].append(1e3 * (clock() - start))
    return {name: {"median": statistics.median(ms), "lowest": min(ms)} for name, ms in times.items()}


def bench(name: str, tokens: int, options: argparse.Namespace, sweep: Callable[[], object]) -> dict[str, Any]:
    """One row: a chain at a number of tokens, all run-times and densities."""
    shapes, rng = layers_of(CHAINS[name]), np.random.default_rng(tokens)
    x = rng.standard_normal((tokens, shapes[0][1]), np.float32)
    biases = [rng.standard_normal(outputs, np.float32) for outputs, _ in shapes]

    def chain(density: float) -> dense.Chain:
        weights = [random_layer(rng, shape, density) for shape in shapes]
        return dense.Chain(weights=weights, biases=biases, x=x, threads=options.threads)

    runs, missing = dense.build(chain(1.0))
    rivals = list(runs)
    for label, density in DENSITIES.items():
        layers = chain(density)
        runs[label] = packed(layers)
        expected = dense.torch_linear(layers)().numpy()
        worst = float(np.abs(runs[label]() - expected).max() / np.abs(expected).max())
        if not worst <= AGREEMENT:
            raise SystemExit(
                f"{name}, density {label}: packed and dense differ by {worst:.1e} of the largest"
            )
    clock = CLOCKS[options.clock]
    start = time.perf_counter()
    measure(runs, sweep, 1, clock)
    rounds = max(5, min(60, int(options.seconds / (time.perf_counter() - start))))
    times = measure(runs, sweep, rounds, clock)
    best = min(rivals, key=lambda rival: times[rival]["median"])
    work = 2e-6 * tokens * sum(outputs * inputs for outputs, inputs in shapes)  # GF/s of work in ms
    return {
        "chain": name,
        "layers": len(shapes),
        "tokens": tokens,
        "rounds": rounds,
        "dense_best": best,
        "dense_gflops": work / times[best]["median"],
        "dense_ms": {rival: times[rival] for rival in rivals},
        "dense_missing": missing,
        "packed_ms": {label: times[label] for label in DENSITIES},
        "packed_gflops": {label: d * work / times[label]["median"] for label, d in DENSITIES.items()},
        "speedup": {label: times[best]["median"] / times[label]["median"] for label in DENSITIES},
    }


def line(row: dict[str, Any]) -> str:
    ratios = "".join(f"{row['speedup'][label]:7.2f}" for label in DENSITIES)
    rate = "".join(f"{row['packed_gflops'][label]:6.0f}" for label in DENSITIES)
    dense_best = f"{row['dense_ms'][row['dense_best']]['median']:8.3f} ms {row['dense_gflops']:5.0f} GF/s"
    return f"{row['chain']:>13} {row['tokens']:6d} {dense_best}  {row['dense_best']:<24}{ratios}  {rate}"


def commit() -> str:
    here = Path(__file__).parent
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chains", nargs="+", choices=list(CHAINS), default=list(CHAINS))
    parser.add_argument("--tokens", nargs="+", type=int, default=TOKENS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0, help="spent on each row, about")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--json", type=Path, help="write host, versions, commit, threads and rows there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sweep = cache_sweep()
    header = "".join(f"{label:>7}" for label in DENSITIES)
    print(f"{'chain':>13} {'tokens':>6} {'best dense':>22}{'':<27}{header}   packed GF/s at these densities")
    rows = []
    for name in options.chains:
        for tokens in options.tokens:
            rows.append(bench(name, tokens, options, sweep))
            print(line(rows[-1]), flush=True)
    if options.json:
        report = {
            "benchmark": "linear",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "host": host.describe(),
            "load": os.getloadavg()[0],
            "threads": options.threads,
            "precision": "fp32",
            "clock": options.clock,
            "rows": rows,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
