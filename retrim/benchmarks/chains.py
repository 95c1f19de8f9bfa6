"""Chains of distinct linear layers: what every run-time is timed on.

A chain is so long that its weights fit in no cache, so that each layer finds its weights in memory,
as it does in a model.  Weights and biases are random with variances that leave activations of
variance 1 after any number of layers, half of it from the layer before and half from the bias: what
rounding adds in one layer fades in the next ones, and the last output can be held to the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrim.artifact.bfloat16 import from_bits, to_bits
from retrim.artifact.int8 import quantize_rows
from retrim.artifact.layout import pack_lists, pack_rows
from retrim.runtime.pages import place

SHAPES: dict[str, list[tuple[int, int]]] = {
    "768x768": [(768, 768)],
    "3072x768 pair": [(3072, 768), (768, 3072)],
}
"""Shapes (out, in) that a chain repeats."""

BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
"""Bytes of a weight."""

PATTERNS = 4
"""Patterns of a set."""

SHARE = 0.5  # of an activation's variance that comes from the layer before, not from the bias
CLIPPED_AT = (3.5, 5.0)  # standard deviations of an activation that 127 steps of a static scale span


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One dense layer, its weight exactly as the precision holds it.

    Attributes
    ----------
    weight : ndarray, shape (out, in)
        float32, uint16 (the bits of bfloat16) or int8.
    scales : ndarray of float32, shape (out,), or None
        Of the rows, int8 only.
    bias : ndarray of float32, shape (out,)
    """

    weight: np.ndarray
    scales: np.ndarray | None
    bias: np.ndarray

    def dense(self) -> np.ndarray:
        """The weight in float32."""
        if self.scales is not None:
            return np.multiply(self.weight, self.scales[:, None], dtype=np.float32)
        return from_bits(self.weight) if self.weight.dtype == np.uint16 else self.weight


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Layers applied one after another to x.

    Attributes
    ----------
    x : ndarray of float32, shape (tokens, in)
        Exact in bfloat16 where that is the precision.
    steps : ndarray of float32, shape (layers + 1,)
        Scales of the activations for static int8: of the input, then of each layer's output.
    """

    layers: Sequence[Layer]
    x: np.ndarray
    steps: np.ndarray
    precision: str
    threads: int

    @property
    def tokens(self) -> int:
        """Rows of x."""
        return len(self.x)

    @property
    def outputs(self) -> int:
        """Columns of what the chain gives."""
        return len(self.layers[-1].bias)


@dataclass(frozen=True, order=True)
class Form:
    """How a weight is thinned out: block columns of `rows` rows, kept in aligned groups.

    With a `tile` (height, width) it is by patterns: every tile takes one of four random ones, whose
    rows are alike in groups of `rows`.
    """

    rows: int
    group: int
    density: float
    tile: tuple[int, int] | None = None

    @property
    def structure(self) -> str:
        """As reports name it."""
        return "block" if self.tile is None else "pattern"

    def mask(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """A random mask of this form, bool (out, in), as many columns in every block."""
        if self.tile is not None:
            return self._of_patterns(rng, shape, self.tile)
        outputs, inputs = shape
        groups = inputs // self.group
        kept = max(1, round(groups * self.density))
        blocks = -(-outputs // self.rows)
        chosen = np.zeros((blocks, groups), bool)
        for block in chosen:
            block[rng.permutation(groups)[:kept]] = True
        return np.repeat(np.repeat(chosen, self.group, axis=1), self.rows, axis=0)[:outputs]

    def pack(self, weight: np.ndarray, mask: np.ndarray, precision: str) -> np.ndarray:
        """The layout that kernels of this form read."""
        if self.tile is not None:
            return pack_lists(weight, mask, self.rows, precision)
        return pack_rows(weight, mask, self.rows, precision=precision, group=self.group)

    def _of_patterns(
        self, rng: np.random.Generator, shape: tuple[int, int], tile: tuple[int, int]
    ) -> np.ndarray:
        lines, wide = tile[0] // self.rows, tile[1]
        kept = max(1, round(lines * wide * self.density))
        order = rng.random((PATTERNS, lines * wide)).argsort(axis=1).argsort(axis=1)
        patterns = np.repeat((order < kept).reshape(PATTERNS, lines, wide), self.rows, axis=1)
        down, across = shape[0] // tile[0], shape[1] // wide
        taken = patterns[rng.integers(0, PATTERNS, (down, across))]
        return taken.transpose(0, 2, 1, 3).reshape(shape)


def last_level_cache() -> int:
    """Bytes of the largest cache of processor 0."""
    units = {"K": 1 << 10, "M": 1 << 20}
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text.rstrip("KM")) * units.get(text[-1], 1))
    return max(sizes)


def cold_bytes() -> int:
    """Bytes of dense weights that a chain must have for its weights to be cold."""
    return max(256 << 20, 4 * last_level_cache())


def layers_of(shape: str, precision: str, least_bytes: int) -> list[tuple[int, int]]:
    """The shape repeated until its dense weights are at least so many bytes."""
    pattern = SHAPES[shape]
    size = sum(outputs * inputs for outputs, inputs in pattern) * BYTES[precision]
    return pattern * -(-least_bytes // size)


def build(
    shapes: Sequence[tuple[int, int]], precision: str, forms: Sequence[Form], rng: np.random.Generator
) -> tuple[list[Layer], dict[Form, list[np.ndarray]]]:
    """Dense layers, and for each form the packs of the same layers thinned out, placed as a model's are."""
    layers: list[Layer] = []
    packs: dict[Form, list[np.ndarray]] = {form: [] for form in forms}
    for outputs, inputs in shapes:
        weight = rng.standard_normal((outputs, inputs), np.float32)
        weight *= np.float32(np.sqrt(SHARE / inputs))
        bias = rng.standard_normal(outputs, np.float32) * np.float32(np.sqrt(1 - SHARE))
        layers.append(_layer(weight, _held(bias, precision), precision))
        for form in forms:
            mask = form.mask(rng, weight.shape)
            scaled = weight * np.float32(np.sqrt(mask.size / np.count_nonzero(mask)))
            packs[form].append(form.pack(scaled, mask, precision))
    return layers, {form: place(packs.pop(form)) for form in forms}


def chain(layers: Sequence[Layer], precision: str, tokens: int, threads: int, seed: int = 0) -> Chain:
    """The layers with an input and with scales for static int8."""
    rng = np.random.default_rng([seed, tokens])
    x = _held(rng.standard_normal((tokens, layers[0].weight.shape[1]), np.float32), precision)
    steps = (rng.uniform(*CLIPPED_AT, len(layers) + 1) / 127).astype(np.float32)
    return Chain(layers=layers, x=x, steps=steps, precision=precision, threads=threads)


def _layer(weight: np.ndarray, bias: np.ndarray, precision: str) -> Layer:
    if precision == "int8":
        q, scales = quantize_rows(weight)
        return Layer(weight=q, scales=scales, bias=bias)
    return Layer(weight=to_bits(weight) if precision == "bf16" else weight, scales=None, bias=bias)


def _held(values: np.ndarray, precision: str) -> np.ndarray:
    """The values as the precision's activations and biases hold them."""
    return from_bits(to_bits(values)) if precision == "bf16" else values
