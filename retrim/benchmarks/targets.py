"""What packed layers are meant to reach, by the kind of processor, and what a report reached."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

DENSITIES = (1 / 2, 1 / 3, 1 / 5)
OWN_DENSE = 1 / 1.1
"""Density 1 in our own layout may take 10 % longer than the best rival."""
OVER_BLOCK = 0.9
"""Speed of pattern sets in row groups of 4 over block columns, at density 1/3."""
TWO_THREADS = 1.8
"""Speed of two threads over one, from 128 tokens on, where there are two cores."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Ratios to the best dense rival at `DENSITIES`, for each number of tokens.

    Attributes
    ----------
    activations : tuple
        None, "static", "dynamic": those it holds for.
    groups : tuple of int
    rows : tuple of int
        Least and largest height of a block.
    """

    precision: str
    activations: tuple[str | None, ...] = (None,)
    groups: tuple[int, ...] = (1,)
    rows: tuple[int, int] = (32, 32)
    ratios: Mapping[int, tuple[float, float, float]]

    def holds_for(self, row: Row) -> bool:
        """Whether a row of a report is measured against it."""
        return (
            row["precision"] == self.precision
            and row["activations"] in self.activations
            and row["group"] in self.groups
            and self.rows[0] <= row["rows"] <= self.rows[1]
        )


_ANY_GROUP = (1, 2, 4)
_WIDE = (64, 128)
_AVX512 = (
    Target(
        precision="fp32",
        ratios={1: (2.1, 3.1, 5.0), 8: (2.1, 3.1, 5.2), 128: (2.0, 2.95, 4.8), 384: (1.95, 2.9, 4.6)},
    ),
    Target(
        precision="bf16",
        ratios={1: (3.0, 4.1, 6.0), 8: (2.3, 3.1, 4.3), 128: (1.95, 2.9, 4.7), 384: (1.95, 2.85, 4.6)},
    ),
    Target(
        precision="bf16",
        groups=(2,),
        ratios={8: (2.7, 4.0, 6.5), 128: (2.05, 3.05, 4.9), 384: (2.0, 2.95, 4.8)},
    ),
    Target(
        precision="int8",
        activations=("static",),
        ratios={1: (2.2, 3.2, 5.0), 8: (2.2, 3.1, 4.4), 128: (2.0, 2.9, 4.6), 384: (1.95, 2.8, 4.4)},
    ),
    Target(
        precision="int8",
        activations=("static",),
        groups=(4,),
        ratios={8: (2.7, 3.8, 5.1), 128: (2.1, 3.1, 4.9), 384: (2.0, 2.95, 4.65)},
    ),
    Target(
        precision="int8",
        activations=("dynamic",),
        ratios={1: (2.2, 3.2, 5.0), 8: (2.2, 3.1, 4.4), 128: (1.8, 2.6, 3.9), 384: (1.75, 2.5, 3.7)},
    ),
)
_AMX = (
    Target(
        precision="fp32",
        ratios={1: (1.9, 2.8, 4.6), 128: (1.7, 2.5, 3.9), 384: (1.6, 2.3, 3.6)},
    ),
    Target(
        precision="bf16",
        groups=_ANY_GROUP,
        rows=_WIDE,
        ratios={1: (1.9, 2.8, 4.6), 128: (1.6, 2.3, 3.6), 384: (1.3, 1.8, 2.6)},
    ),
    Target(
        precision="int8",
        activations=("static", "dynamic"),
        groups=_ANY_GROUP,
        rows=_WIDE,
        ratios={1: (1.8, 2.6, 4.2), 128: (1.3, 1.9, 3.0), 384: (1.2, 1.7, 2.5)},
    ),
)
TARGETS = {"amx": _AMX, "avx512": _AVX512}
"""By the kind of processor; others have none yet."""

INSTRUCTIONS = {
    "bf16": ("amx", "avx512_bf16"),
    "int8": ("amx", "avx512_bf16", "avx512_vnni", "avx2_vnni", "neon_dot"),
}
"""Instruction sets that multiply in the precision; without one it is emulated."""


def processor_kind(isa: Sequence[str]) -> str | None:
    """Which of `TARGETS` a processor with these instruction sets is held to."""
    if "amx" in isa:
        return "amx"
    return "avx512" if any(name.startswith("avx512") for name in isa) else None


def applicable(precision: str, isa: Sequence[str]) -> bool:
    """Whether the processor has instructions for the precision."""
    return precision not in INSTRUCTIONS or any(name in isa for name in INSTRUCTIONS[precision])


def target(row: Row, isa: Sequence[str]) -> float | None:
    """The ratio that a row is meant to reach, or None where nothing is asked."""
    if row["threads"] != 1 or not applicable(row["precision"], isa):
        return None
    if row["density"] == 1:
        return OWN_DENSE
    for asked in TARGETS.get(processor_kind(isa) or "", ()):
        if asked.holds_for(row) and row["tokens"] in asked.ratios:
            for density, ratio in zip(DENSITIES, asked.ratios[row["tokens"]], strict=True):
                if math.isclose(density, row["density"], abs_tol=1e-3):
                    return ratio
    return None


def best(row: Row) -> tuple[str, float] | None:
    """The fastest dense rival of a row, "run-time/variant", and its microseconds."""
    times = {name: us for name, us in row["variants_us"].items() if us is not None}
    return min(times.items(), key=lambda item: item[1]) if times else None


def ratio(rows: Iterable[Row]) -> float | None:
    """Geometric mean over the rows of the best rival's time over ours; None without a rival."""
    found = []
    for row in rows:
        fastest = best(row)
        if fastest is None:
            return None
        found.append(fastest[1] / row["ours_us"])
    return mean(found) if found else None


def mean(ratios: Iterable[float]) -> float:
    """Geometric mean of one ratio or more."""
    logarithms = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logarithms) / len(logarithms))
