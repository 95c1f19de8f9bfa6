"""How far the latency model is from what models take here: sums of layers' times in the profile against runs.

    python retrim/benchmarks/latency_model.py [--precision fp32] [--profile PATH] [--json PATH]

Layers of each shape are measured for a profile at two densities (`--known`), as `retrim device calibrate` does.
Then whole models run at these and at other densities, in turns, in processor time of one thread:

- `layers`: the linear layers of an encoder, distinct weights one after another;
- `torch`: a packed Transformer in torch; what is not packed is measured in its dense twin (activations
  that packed layers take in are theirs, and cost nothing in the model).

Kernels are chosen from the same profile.  `unseen` marks densities or shapes that the profile only estimates.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chains import Form
from model import SIZES, pruned
from rich.console import Console
from rich.table import Table
from torch import nn

from retrim.artifact.layout import pack_rows
from retrim.cli_console import write_json
from retrim.runtime import PackedMatrix, host, profile_file, tuning
from retrim.runtime.calibration import calibrate
from retrim.runtime.entry import Request
from retrim.runtime.latency_model import LatencyModel
from retrim.runtime.pages import place
from retrim.runtime.profile import Profile
from retrim.torch.linear import PackedLinear

ENCODERS = {"DistilBERT's encoder, 42.5 M weights": (768, 6), "MiniLM's encoder, 10.6 M weights": (384, 6)}
"""Width and layers; the profile is told the first one's shapes."""
TYPES = {"fp32": np.float32, "bf16": np.uint16, "int8": np.float32}
LEAST_TURNS = 15


@dataclass(frozen=True)
class Model:
    """Something that runs, and the packed layers in it."""

    name: str
    kind: str
    density: float
    run: Callable[[], object]
    requests: list[Request]
    rest: Callable[[], float] = lambda: 0.0


def request(shape: tuple[int, int], density: float, options: argparse.Namespace) -> Request:
    """A layer of block columns of 32 rows."""
    return Request(
        precision=options.precision,
        activations="dynamic" if options.precision == "int8" else None,
        outputs=shape[0],
        inputs=shape[1],
        density=density,
        rows=32,
        group=1,
        tokens=options.tokens,
        threads=1,
    )


def shapes_of(width: int) -> list[tuple[int, int]]:
    """The layers of one encoder block."""
    return [(width, width)] * 4 + [(4 * width, width), (width, 4 * width)]


def layers(name: str, density: Fraction, options: argparse.Namespace) -> Model:
    """An encoder's packed layers, each with memory of its own."""
    width, blocks = ENCODERS[name]
    rng = np.random.default_rng(0)
    shapes = shapes_of(width) * blocks
    packs = {shape: _pack(shape, density, options.precision, rng) for shape in set(shapes)}
    matrices = [PackedMatrix(pack) for pack in place([packs[shape].copy() for shape in shapes])]
    for matrix in matrices:
        tuning.tune(matrix, 1)
    kind = TYPES[options.precision]
    x = {n: _input(options.tokens, n, kind, rng) for n in {shape[1] for shape in shapes}}
    y = {n: np.empty((options.tokens, n), kind) for n in {shape[0] for shape in shapes}}

    def run() -> None:
        for matrix, (outputs, inputs) in zip(matrices, shapes, strict=True):
            matrix.into(x[inputs], y[outputs], 1)

    activations = "dynamic" if options.precision == "int8" else None
    requests = [Request.of(matrix.view, options.tokens, 1, activations) for matrix in matrices]
    return Model(name, "layers", float(density), run, requests)


def _pack(shape: tuple[int, int], density: Fraction, precision: str, rng: np.random.Generator) -> np.ndarray:
    mask = Form(rows=32, group=1, density=float(density)).mask(rng, shape)
    return pack_rows(rng.standard_normal(shape, np.float32), mask, 32, precision, 1)


def _input(tokens: int, inputs: int, kind: Any, rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((tokens, inputs), np.float32)
    return (x.view(np.uint32) >> 16).astype(np.uint16) if kind is np.uint16 else x


def transformer(name: str, density: Fraction, options: argparse.Namespace) -> Model:
    """A packed language model of `model.py` in torch, and the time of what is not packed in it."""
    config = {**SIZES[name], "context": options.tokens}
    dense, packed = pruned(config, float(density))
    ids = torch.randint(0, config["vocabulary"], (1, options.tokens))
    # activations that packed layers took in are theirs
    mine = {n: module for n, module in packed.named_modules() if isinstance(module, PackedLinear)}
    requests = [Request.of(module.matrix.view, options.tokens, 1) for module in mine.values()]
    fused = [act for n, act in dense.fusions().items() if n in mine and mine[n].matrix.activation]

    def run() -> None:
        with torch.inference_mode():
            packed(ids)

    return Model(name, "torch", float(density), run, requests, rest(dense, [*mine, *fused], ids))


def rest(dense: nn.Module, names: Sequence[str], ids: torch.Tensor) -> Callable[[], float]:
    """A function that runs a dense model and gives the milliseconds outside of the named modules."""
    spent = began = 0.0

    def before(*_: Any) -> None:
        nonlocal began
        began = time.thread_time()

    def after(*_: Any) -> None:
        nonlocal spent
        spent += time.thread_time() - began

    for name in names:
        module = dense.get_submodule(name)
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    def run() -> float:
        nonlocal spent
        spent, at = 0.0, time.thread_time()
        with torch.inference_mode():
            dense(ids)
        return 1000 * (time.thread_time() - at - spent)

    return run


def measure(models: Sequence[Model], seconds: float) -> list[tuple[float, float]]:
    """Median milliseconds of each, and of its rest, in turns, in processor time."""
    times: list[list[float]] = [[] for _ in models]
    rests: list[list[float]] = [[] for _ in models]
    until = time.monotonic() + seconds
    while len(times[0]) < LEAST_TURNS or time.monotonic() < until:
        for model, own, other in zip(models, times, rests, strict=True):
            model.run()  # its caches and pages are those of the run before
            began = time.thread_time()
            model.run()
            own.append(1000 * (time.thread_time() - began))
            model.rest()
            other.append(model.rest())
    medians = statistics.median
    return [(medians(own), medians(other)) for own, other in zip(times, rests, strict=True)]


def compare(profile: Profile, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each model."""
    made = [layers(name, density, options) for name in ENCODERS for density in options.densities]
    if options.precision == "fp32":
        made += [transformer(name, density, options) for name in SIZES for density in options.densities]
    estimate = LatencyModel(profile)
    rows = []
    for model, (found, rest_ms) in zip(made, measure(made, options.seconds), strict=True):
        parts = [estimate.layer(one) for one in model.requests]
        predicted = estimate.here_ms(model.requests, rest_ms)
        rows.append(
            {
                "model": model.name,
                "kind": model.kind,
                "density": model.density,
                "layers": len(parts),
                "unseen": sum(not part.measured for part in parts),
                "rest_ms": rest_ms,
                "predicted_ms": predicted,
                "measured_ms": found,
                "error": predicted / found - 1,
            }
        )
    return rows


def drift(profile: Profile, options: argparse.Namespace) -> float:
    """How much slower one layer is after the runs than it was for the profile: what else the machine does."""
    one = wanted(options)[0]
    again = calibrate(Profile(), [one], seconds=10.0)
    return LatencyModel(again).layer(one).microseconds / LatencyModel(profile).layer(one).microseconds - 1


def wanted(options: argparse.Namespace) -> list[Request]:
    """What the profile is told: the shapes of the first encoder and of the torch models, at known densities."""
    widths = [next(iter(ENCODERS.values()))[0], *(sizes["width"] for sizes in SIZES.values())]
    shapes = [shape for width in widths for shape in (*shapes_of(width), (3 * width, width))]
    return [request(shape, float(d), options) for d in options.known for shape in dict.fromkeys(shapes)]


def show(rows: Sequence[dict[str, Any]]) -> Table:
    """The table."""
    table = Table("model", "kind", "density", "unseen layers", "predicted ms", "measured ms", "error")
    for row in rows:
        table.add_row(
            row["model"],
            row["kind"],
            f"{row['density']:.3f}",
            f"{row['unseen']} of {row['layers']}",
            f"{row['predicted_ms']:.2f}",
            f"{row['measured_ms']:.2f}",
            f"{row['error']:+.1%}",
        )
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--precision", choices=list(TYPES), default="fp32")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--known", type=Fraction, nargs="+", default=[Fraction(1, 2), Fraction(1, 5)])
    parser.add_argument(
        "--densities", type=Fraction, nargs="+", default=[Fraction(1, 2), Fraction(1, 3), Fraction(1, 5)]
    )
    parser.add_argument("--calibration", type=float, default=120.0, help="seconds at most")
    parser.add_argument("--seconds", type=float, default=30.0, help="of runs")
    parser.add_argument("--profile", type=Path, help="to read and to add to  [a new one, thrown away]")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        path = options.profile or Path(folder) / "profile.json"
        profile = calibrate(profile_file.begin(path), wanted(options), seconds=options.calibration)
        profile_file.write(path, profile)
    tuning.use(profile)
    rows = compare(profile, options)
    moved = drift(profile, options)
    errors = [abs(row["error"]) for row in rows]
    result = {
        "kind": "latency model",
        "host": host.describe(),
        "load": [load, os.getloadavg()[0]],
        "threads": 1,
        "clock": "processor time",
        "precision": options.precision,
        "tokens": options.tokens,
        "known": [float(density) for density in options.known],
        "seconds": time.monotonic() - began,
        "drift": moved,
        "mean_absolute_error": statistics.mean(errors),
        "largest_error": max(errors),
        "rows": rows,
    }
    console = Console(width=120)
    console.print(show(rows))
    console.print(
        f"error {statistics.mean(errors):.1%} in the mean, {max(errors):.1%} at most; {result['host']['cpu']}, "
        f"{options.precision}, {options.tokens} tokens, 1 thread, load {load:.1f}; one layer measured again "
        f"after the runs takes {moved:+.1%}"
    )
    if options.json is not None:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
