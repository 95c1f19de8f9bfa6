"""Our own layers on a chain: packed, run between two buffers, held to the oracle layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from chains import Chain

from retrim.artifact.bfloat16 import from_bits, to_bits
from retrim.artifact.layout import unpack
from retrim.runtime import PackedMatrix, oracle
from retrim.runtime.tuning import tune

Run = Callable[[], np.ndarray]

ACTIVATIONS: dict[str, tuple[str | None, ...]] = {
    "fp32": (None,),
    "bf16": (None,),
    "int8": ("static", "dynamic"),
}
"""How activations are held, by precision: in int8 static (uint8 between the layers) and dynamic
(float32 between them, quantised token by token, which is timed too)."""

ZERO = 128  # the zero of an activation held in uint8
ROUNDING = 1e-5  # of a layer's largest output: what summing in float32 may cost
BF16_STEP = 2.0**-8  # twice what rounding to nearest may cost, relative
INT8_STEP = 0.5 + 1e-3  # steps of the output's scale


class PackedChain:
    """The layers of a chain in one form.

    Parameters
    ----------
    packs : sequence of ndarray of uint8
    activations : {"static", "dynamic"} or None
        One of `ACTIVATIONS`.
    """

    def __init__(self, packs: Sequence[np.ndarray], chain: Chain, activations: str | None) -> None:
        static = activations == "static"
        self.layers = [
            PackedMatrix(
                pack,
                layer.bias,
                input_scale=float(before) if static else None,
                output_scale=float(after) if static else None,
            )
            for pack, layer, before, after in zip(
                packs, chain.layers, chain.steps[:-1], chain.steps[1:], strict=True
            )
        ]
        for layer in self.layers:
            tune(layer, chain.threads)
        self.packs, self.threads = packs, chain.threads
        self.biases = [layer.bias for layer in chain.layers]
        self.x = _held(chain, activations)

    def run(self) -> Run:
        """A function that runs all layers and gives the last output, which its next call overwrites."""
        buffers: dict[tuple[int, int], np.ndarray] = {}
        steps, at = [], self.x
        for i, layer in enumerate(self.layers):
            shape = (len(self.x), layer.outputs)
            out = buffers.setdefault((i % 2, layer.outputs), np.empty(shape, self.x.dtype))
            steps.append((layer.into, at, out))
            at = out

        def run() -> np.ndarray:
            for into, x, y in steps:
                into(x, y, self.threads)
            return at

        return run

    def disagreement(self, timed: np.ndarray) -> str | None:
        """What is wrong with a timed output, or None.

        Every layer is held to the oracle on the very input it had, and the timed output, bit by
        bit, to the last of these.  Of many tokens some are held to it: those of the first and last
        tiles, and others at random (a token's output depends on no other token).
        """
        x = self.x
        some = _some(len(x))
        for number, layer in enumerate(self.layers):
            y = layer(x, threads=self.threads)
            error = _error(layer, y[some], _expected(layer, self.packs[number], self.biases[number], x[some]))
            if not error <= 1:
                return f"layer {number} is {error:.1f} times as far from the oracle as rounding explains"
            x = y
        return None if np.array_equal(x, timed) else "the timed output is not that of the same layers"


def _some(tokens: int) -> np.ndarray:
    """All of a few tokens; of more the first and last 16, and 16 between."""
    if tokens <= 48:
        return np.arange(tokens)
    between = np.random.default_rng(tokens).choice(np.arange(16, tokens - 16), 16, replace=False)
    return np.sort(np.concatenate([np.arange(16), between, np.arange(tokens - 16, tokens)]))


def _held(chain: Chain, activations: str | None) -> np.ndarray:
    """The chain's input in the type that travels between its layers."""
    if activations == "static":
        q, _ = oracle.quantize_static(chain.x, float(chain.steps[0]))
        return (q.astype(np.int16) + ZERO).astype(np.uint8)
    return to_bits(chain.x) if chain.precision == "bf16" else chain.x


def _error(layer: PackedMatrix, y: np.ndarray, expected: np.ndarray) -> float:
    """The largest deviation from the oracle over the one that rounding explains."""
    allowed = ROUNDING * np.abs(expected).max()
    if y.dtype == np.uint8:
        assert layer.output_scale is not None
        scale = float(np.float32(layer.output_scale))
        deviation = np.abs(np.clip(expected / scale, -ZERO, ZERO - 1) - (y.astype(np.int16) - ZERO))
        return float(deviation.max() / INT8_STEP)
    if y.dtype == np.uint16:
        y = from_bits(y)
        allowed = allowed + BF16_STEP * np.abs(expected)
    return float((np.abs(y - expected) / allowed).max())


def _expected(layer: PackedMatrix, pack: np.ndarray, bias: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The oracle's float64 output."""
    view = layer.view
    weight, _ = unpack(pack)
    if view.scales is None:
        return oracle.linear(from_bits(x) if x.dtype == np.uint16 else x, weight, bias)
    scales = view.scales[: view.outputs]  # no row is left out of these packs
    whole = np.rint(weight / scales[:, None])
    if x.dtype == np.uint8:
        q, scale = x.astype(np.int16) - ZERO, np.full(len(x), layer.input_scale, np.float32)
    else:
        q, scale = oracle.quantize_tokens(x)
    return oracle.linear_int8(q, scale, whole, scales, bias)
