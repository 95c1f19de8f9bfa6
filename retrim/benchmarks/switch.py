"""What a switch of levels takes, and what memory: resident, nested and packed anew.

    python retrim/benchmarks/switch.py [--precision fp32] [--densities 1/2,1/3,1/5] [--json PATH]

The linear layers of DistilBERT's encoder, 42.5 million random weights; sets of 4 patterns of 32 x 32, rows in
groups of 4, free for levels that are resident or packed anew, and nested for nested ones.  All pairs of levels
are switched between, while (unless --idle) another process multiplies matrices.  A level is packed anew from
all that any level keeps, into memory that a level before left ("repack") or into new ("repack_lean"), or from
the whole weight ("repack_dense").  First each level's outputs
are held to float64.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from retrim.artifact.bfloat16 import from_bits, to_bits
from retrim.artifact.lists import pack_lists
from retrim.cli_console import write_json
from retrim.levels import Families, Tiling, draw_families, free_masks, nested_masks
from retrim.runtime import LevelSet, Nested, PackedMatrix, Resident, Stock, Stocked
from retrim.runtime import threads as threads_
from retrim.runtime.host import describe
from retrim.runtime.switching import switch_ms

BLOCK = {"attention.q_lin": (768, 768), "attention.k_lin": (768, 768), "attention.v_lin": (768, 768)}
BLOCK |= {"attention.out_lin": (768, 768), "ffn.lin1": (3072, 768), "ffn.lin2": (768, 3072)}
TILING = Tiling(height=32, width=32, group=4)
TARGET_MS = {"resident": 0.1, "nested": 0.1, "repack": 20.0, "repack_lean": 20.0, "repack_dense": 20.0}
ROUNDING = 1e-5  # of a layer's largest output


class Load(AbstractContextManager["Load"]):
    """A process that keeps another core at work."""

    def __enter__(self) -> Load:
        self._process = multiprocessing.get_context("spawn").Process(target=_multiply, daemon=True)
        self._process.start()
        time.sleep(2.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()


def _multiply() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    a = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
    while True:
        a @ a


class Subject:
    """A level set in one mode, and the masks that its levels are to have.

    Parameters
    ----------
    mode : str
        One of `TARGET_MS`.
    weights : mapping of str to ndarray of float32
    families : Families
        Patterns that tiles take.
    densities : sequence of float
        Of the levels, the sparsest first.
    precision : {"fp32", "bf16"}
    """

    def __init__(
        self,
        mode: str,
        weights: Mapping[str, np.ndarray],
        families: Families,
        densities: Sequence[float],
        precision: str,
    ) -> None:
        self.names = [f"{density:.3g}" for density in densities]
        self.weights, self.precision = weights, precision
        choose = nested_masks if mode == "nested" else free_masks
        self.masks = {
            layer: dict(zip(self.names, choose(families, weight, densities), strict=True))
            for layer, weight in weights.items()
        }
        self.levels, self.nbytes = getattr(self, f"_{mode}")()

    def _packed(self, layer: str, masks: np.ndarray | list[np.ndarray]) -> PackedMatrix:
        return PackedMatrix(pack_lists(self.weights[layer], masks, TILING.group, self.precision))

    def _resident(self) -> tuple[LevelSet[PackedMatrix], int]:
        packs = {
            name: {layer: self._packed(layer, masks[name]) for layer, masks in self.masks.items()}
            for name in self.names
        }
        return LevelSet(Resident(packs)), sum(m.nbytes for level in packs.values() for m in level.values())

    def _nested(self) -> tuple[LevelSet[PackedMatrix], int]:
        packs = {layer: self._packed(layer, list(masks.values())) for layer, masks in self.masks.items()}
        source = Nested(self.names, packs)
        return LevelSet(source), source.nbytes

    def _repack(self, *, whole: bool = False, spare: bool = True) -> tuple[LevelSet[PackedMatrix], int]:
        extra = {"whole": np.ones((1, 1), bool)} if whole else {}
        source = Stocked(
            {
                layer: Stock(
                    weight,
                    self.masks[layer]
                    | {name: np.broadcast_to(one, weight.shape) for name, one in extra.items()},
                    TILING.group,
                    self.precision,
                )
                for layer, weight in self.weights.items()
            },
            spare=spare,
        )
        levels = LevelSet(source, self.names[-1])
        levels.switch(self.names[0])
        with levels.pinned() as on:  # the level that is on; the memory of one that was waits in the source
            return levels, source.nbytes + sum(matrix.nbytes for matrix in on.layers.values())

    def _repack_lean(self) -> tuple[LevelSet[PackedMatrix], int]:
        return self._repack(spare=False)

    def _repack_dense(self) -> tuple[LevelSet[PackedMatrix], int]:
        return self._repack(whole=True)

    def check(self, level: str) -> None:
        """Hold the level that is on to float64."""
        draw = np.random.default_rng(1)
        for layer, weight in self.weights.items():
            x = draw.standard_normal((3, weight.shape[1])).astype(np.float32)
            kept = np.where(self.masks[layer][level], weight, np.float32(0))
            if self.precision == "bf16":
                x, kept = from_bits(to_bits(x)), from_bits(to_bits(kept))
            wanted = x.astype(np.float64) @ kept.T.astype(np.float64)
            error = np.abs(self.levels.layer(layer)(x) - wanted).max() / np.abs(wanted).max()
            if error > ROUNDING:
                raise SystemExit(f"{layer} at {level} is off by {error:.1e} of its largest output")

    def timed(self, rounds: int) -> list[float]:
        """Milliseconds of switches between all pairs of levels, once each of them is known to be right."""
        for name in self.names:
            self.levels.switch(name)
            self.check(name)
        return switch_ms(self.levels, rounds, self.names)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--densities", default="1/2,1/3,1/5")
    parser.add_argument("--rounds", type=int, default=20, help="of switches between all pairs of levels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=6, help="of the encoder: 6 in DistilBERT")
    parser.add_argument("--idle", action="store_true", help="no work on another core")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    threads_.set(options.threads)
    densities = sorted(float(Fraction(part)) for part in options.densities.split(","))
    draw = np.random.default_rng(0)
    weights = {
        f"layer.{i}.{name}": draw.standard_normal(shape).astype(np.float32)
        for i in range(options.blocks)
        for name, shape in BLOCK.items()
    }
    families = draw_families(list(weights.values())[:2], TILING, 4, density=densities[0], seed=0)
    count = sum(weight.size for weight in weights.values())
    report: dict[str, Any] = {"weights": count, "precision": options.precision, "densities": densities}
    report |= {"threads": options.threads, "loaded": not options.idle, "machine": describe()}
    report |= {"mode_ms": {}, "p99_ms": {}, "largest_ms": {}, "switches": {}, "bytes": {}, "dense_bytes": 0}
    report["dense_bytes"] = count * (4 if options.precision == "fp32" else 2)
    with nullcontext() if options.idle else Load():
        for mode in TARGET_MS:
            subject = Subject(mode, weights, families, densities, options.precision)
            times = subject.timed(options.rounds)
            report["mode_ms"][mode] = statistics.median(times)
            report["p99_ms"][mode] = float(np.quantile(times, 0.99))
            report["largest_ms"][mode], report["switches"][mode] = max(times), len(times)
            report["bytes"][mode] = subject.nbytes
            del subject
    show(report)
    if options.json:
        write_json(options.json, report)


def show(report: dict[str, Any]) -> None:
    """Print a table."""
    load = "beside work on another core" if report["loaded"] else "idle"
    title = f"a switch, {report['weights'] / 1e6:.1f} M weights, {report['precision']}, {report['threads']} thread, {load}"
    table = Table(title=title, caption=report["machine"]["cpu"])
    for column in ("mode", "median ms", "99 % ms", "largest ms", "target ms", "MB", "of dense"):
        table.add_column(column, justify="left" if column == "mode" else "right")
    for mode, median in report["mode_ms"].items():
        size = report["bytes"][mode]
        table.add_row(
            mode, f"{median:.3f}", f"{report['p99_ms'][mode]:.3f}", f"{report['largest_ms'][mode]:.3f}",
            f"{TARGET_MS[mode]:g}", f"{size / 1e6:.0f}", f"{size / report['dense_bytes']:.2f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
