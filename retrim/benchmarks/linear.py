"""Packed linear layers against the best dense run-time of the same precision.

For each shape a chain of layers, so long that the weights of all of them fit in no cache; the same
number of layers for everyone.  Our layers at each density and every dense run-time installed take
turns, in an order that changes; each number is a median.  The 3072x768 and 768x3072 layers of a
Transformer's block alternate in one chain and are one row.  Density 1 is our own layout with
nothing left out.

    python retrim/benchmarks/linear.py --precision int8 --group 1 4 --verify --json int8.json
    python retrim/benchmarks/linear.py --structure pattern --row-group 1 2 4 8 --tile 32x64

With `--structure pattern` layers of pattern sets take turns with the block columns of the same
densities, and a second table gives their speed over those.

Microseconds are those of one layer (of both layers for the pair).  `--verify` holds every timed
output to the float64 or integer oracle and reports nothing if one disagrees.  `--clock cpu` counts
processor time instead of time on the wall: on a machine that other jobs share it is the steadier of
the two, and for one thread on an idle machine the same.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import chains
import dense
import numpy as np
import table
import targets
import verification
from packed import ACTIVATIONS, PackedChain

from retrim.cli_console import write_json
from retrim.errors import ProfileError
from retrim.runtime import host, isa, profile_file, tuning

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
LEAST_ROUNDS, MOST_ROUNDS = 5, 100
SETTLE_S = 0.02  # for the threads of the run before to stop spinning


@dataclass(frozen=True)
class Ours:
    """Names one run of our layers."""

    form: chains.Form
    activations: str | None

    def __str__(self) -> str:
        kind = f", {self.activations}" if self.activations else ""
        if self.form.tile:
            tile = "x".join(map(str, self.form.tile))
            return f"density {self.form.density:.4g} (patterns of {tile}, row groups of {self.form.rows})"
        return f"density {self.form.density:.4g} (rows {self.form.rows}, groups of {self.form.group}{kind})"


@dataclass(frozen=True)
class Timing:
    """Seconds of each round of one run, and what it gave in the last one."""

    seconds: list[float]
    output: Any

    def us(self, repetitions: int) -> float:
        """Median microseconds of one repetition of the shape."""
        return round(1e6 * statistics.median(self.seconds) / repetitions, 3)

    def quartiles_us(self, repetitions: int) -> list[float]:
        """The middle half of the rounds lies between these."""
        first, _, third = statistics.quantiles(self.seconds, n=4)
        return [round(1e6 * value / repetitions, 3) for value in (first, third)]


Name = Ours | str


def measure(
    runs: dict[Name, dense.Run], clock: Callable[[], float], seconds: float, threads: int
) -> dict[Name, Timing]:
    """Every run in turn, again and again, in an order that shifts and is turned round."""
    names, rounds = list(runs), LEAST_ROUNDS
    times: dict[Name, list[float]] = {name: [] for name in names}
    outputs: dict[Name, Any] = {}
    began = time.perf_counter()
    turn = -1  # the first round warms up
    while turn < rounds:
        first = turn % len(names)
        order = names[first:] + names[:first]
        for name in order if turn % 2 else reversed(order):
            if threads > 1:
                time.sleep(SETTLE_S)
            start = clock()
            outputs[name] = runs[name]()
            if turn >= 0:
                times[name].append(clock() - start)
        turn += 1
        if turn == 1:
            each = (time.perf_counter() - began) / 2
            rounds = max(LEAST_ROUNDS, min(MOST_ROUNDS, int(seconds / each)))
    return {name: Timing(times[name], outputs[name]) for name in names}


def forms(options: argparse.Namespace) -> list[chains.Form]:
    """Every height, group, tile and density that is asked for."""
    densities = [float(density) for density in options.densities]
    found = [chains.Form(r, g, d) for r in options.rows for g in options.group for d in densities]
    if options.structure == "pattern":
        found += [
            chains.Form(rows, 1, density, tile)
            for rows in options.row_group
            for tile in options.tile
            for density in densities
        ]
    return found


def bench_shape(shape: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one shape: its layers are made once, the dense run-times anew for each `tokens`."""
    shapes = chains.layers_of(shape, options.precision, options.least_bytes)
    rng = np.random.default_rng(len(shape))
    layers, packs = chains.build(shapes, options.precision, forms(options), rng)
    rows = []
    for tokens in options.tokens:
        chain = chains.chain(layers, options.precision, tokens, options.threads)
        rows += bench(shape, chain, packs, options)
        print(progress(rows, shape, tokens), file=sys.stderr, flush=True)
        gc.collect()
    return rows


def progress(rows: Sequence[targets.Row], shape: str, tokens: int) -> str:
    """What was just measured, in one line."""
    here = [row for row in rows if row["tokens"] == tokens]
    fastest = targets.best(here[0])
    rival = f"{fastest[0]} {fastest[1]:.1f} µs" if fastest else "no rival"
    ours = ", ".join(f"{row['ours_us']:.1f}" for row in here)
    return f"{shape}, {tokens} tokens, {here[0]['rounds']} rounds: {rival}; ours {ours}"


def bench(
    shape: str, chain: chains.Chain, packs: dict[chains.Form, list[np.ndarray]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of one shape and number of tokens."""
    rivals = dense.Rivals({}, {}) if options.ours else dense.build(chain)
    ours = {
        Ours(form, activations): PackedChain(pack, chain, activations)
        for activations in ACTIVATIONS[chain.precision]
        for form, pack in packs.items()
    }
    # runs on the same packs lie far apart: none finds another's weights in the cache
    ahead, behind = list(ours)[: len(packs)], list(ours)[len(packs) :]
    order: list[Name] = [*ahead, *rivals.runs, *behind]
    runs = {name: ours[name].run() if isinstance(name, Ours) else rivals.runs[name] for name in order}
    timings = measure(runs, CLOCKS[options.clock], options.seconds, chain.threads)
    if options.verify:
        outputs = {name: timing.output for name, timing in timings.items()}
        verification.check_rivals(shape, chain, {name: outputs[name] for name in rivals.runs})
        verification.check_ours(shape, chain, [(str(name), ours[name], outputs[name]) for name in ours])
    repetitions = len(chain.layers) // len(chains.SHAPES[shape])
    variants = {name: timings[name].us(repetitions) for name in rivals.runs}
    shared = {
        "shape": shape,
        "tokens": chain.tokens,
        "precision": chain.precision,
        "threads": chain.threads,
        "layers": len(chain.layers),
        "rivals_us": best_of_each(variants),
        "rivals_missing": rivals.missing,
        "variants_us": variants | {name: None for name in rivals.missing if "/" in name},
    }
    return [row(name, timings[name], repetitions) | shared for name in ours]


def row(name: Ours, timing: Timing, repetitions: int) -> dict[str, Any]:
    """What a row says of our own layers."""
    return {
        "structure": name.form.structure,
        "tile": name.form.tile,
        "density": round(name.form.density, 4),
        "rows": name.form.rows,
        "group": name.form.group,
        "activations": name.activations,
        "ours_us": timing.us(repetitions),
        "ours_quartiles_us": timing.quartiles_us(repetitions),
        "rounds": len(timing.seconds),
    }


def best_of_each(variants: dict[str, float]) -> dict[str, float | None]:
    """The fastest variant of each run-time; None where none runs."""
    return {
        runtime: min((us for name, us in variants.items() if name.startswith(f"{runtime}/")), default=None)
        for runtime in dense.RUNTIMES
    }


def commit() -> str:
    """The commit that this file is of, with "-dirty" where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def report(options: argparse.Namespace, rows: Sequence[dict[str, Any]], load: float) -> dict[str, Any]:
    """Everything that the file says."""
    return {
        "benchmark": "linear",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "host": host.describe(),
        "load": load,
        "threads": options.threads,
        "precision": options.precision,
        "clock": options.clock,
        "profile": options.profile is not None,
        "verified": options.verify,
        "chain_bytes": options.least_bytes,
        "cold": options.least_bytes >= chains.cold_bytes(),
        "rows": rows,
    }


def tile(text: str) -> tuple[int, int]:
    """Height and width of a pattern."""
    try:
        high, wide = (int(side) for side in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a tile must be written as 32x64, not {text!r}") from None
    return high, wide


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--precision", choices=list(chains.BYTES), default="fp32")
    add("--threads", type=int, default=1)
    add("--tokens", nargs="+", type=int, default=[1, 8, 128, 384])
    add("--group", nargs="+", type=int, choices=[1, 2, 4], default=[1], help="columns kept together")
    add("--rows", nargs="+", type=int, help="heights of blocks; 32 is always among them")
    add("--structure", choices=["block", "pattern"], default="block")
    add("--row-group", nargs="+", type=int, choices=[1, 2, 4, 8], default=[4], help="rows of a mask's row")
    add("--tile", nargs="+", type=tile, default=[(32, 64)], help="of patterns, such as 32x64")
    add("--ours", action="store_true", help="our own layers alone, without dense rivals")
    add("--densities", nargs="+", type=Fraction, default=[Fraction(1, n) for n in (1, 2, 3, 5)])
    add("--shapes", nargs="+", choices=list(chains.SHAPES), default=list(chains.SHAPES))
    add("--seconds", type=float, default=30.0, help="of timing for a shape and number of tokens, about")
    add("--clock", choices=list(CLOCKS), default="wall")
    add("--verify", action="store_true", help="hold every timed output to the oracle")
    add("--chain-mib", type=int, help="a shorter chain, for trials: its weights are not cold")
    add("--profile", type=Path, help="of this machine, to choose our kernels; without it the rule of thumb")
    add("--json", type=Path, help="write host, versions, commit and rows there")
    options = parser.parse_args()
    try:
        tuning.use(profile_file.read_here(options.profile) if options.profile else None)
    except ProfileError as error:
        parser.error(str(error))
    if options.clock == "cpu" and options.threads > 1:
        parser.error("--clock must be wall for several threads, not cpu: it adds up what all of them take")
    if options.structure == "pattern" and options.precision == "int8":
        parser.error(
            "--structure pattern must go with --precision fp32 or bf16: there are no kernels in int8"
        )
    options.least_bytes = options.chain_mib << 20 if options.chain_mib else chains.cold_bytes()
    # matrix units want tall blocks
    tall = [128] if "amx" in isa.available() and options.precision != "fp32" else []
    options.rows = sorted({32, *(options.rows or tall)})
    return options


def main() -> None:
    options = arguments()
    load = os.getloadavg()[0]
    rows = []
    for shape in options.shapes:
        rows += bench_shape(shape, options)
    found = report(options, rows, load)
    print(table.headline(found) + "\n")
    print(table.ratios(found))
    if options.structure == "pattern":
        print(table.patterns(found))
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
