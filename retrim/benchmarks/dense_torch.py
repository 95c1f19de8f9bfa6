"""PyTorch: plain, with weights prepacked for oneDNN or MKL, and its int8 engines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from chains import Chain, Layer

Run = Callable[[], torch.Tensor]
Step = Callable[[torch.Tensor], torch.Tensor]

ZERO = 128  # the zero of an activation held in uint8


def _in_turn(chain: Chain, x: torch.Tensor, steps: Sequence[Step]) -> Run:
    torch.set_num_threads(chain.threads)

    def run() -> torch.Tensor:
        y = x
        with torch.inference_mode():
            for step in steps:
                y = step(y)
        return y

    return run


def _input(chain: Chain) -> torch.Tensor:
    x = torch.from_numpy(chain.x)
    return x.bfloat16() if chain.precision == "bf16" else x


def _weight(layer: Layer) -> torch.Tensor:
    if layer.weight.dtype == np.uint16:
        return torch.from_numpy(layer.weight.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(layer.weight)


def _bias(layer: Layer, chain: Chain) -> torch.Tensor:
    bias = torch.from_numpy(layer.bias)
    return bias.bfloat16() if chain.precision == "bf16" else bias


def plain(chain: Chain) -> Run:
    """`torch.nn.functional.linear` as any model calls it."""
    linear = torch.nn.functional.linear

    def step(layer: Layer) -> Step:
        weight, bias = _weight(layer), _bias(layer, chain)
        return lambda y: linear(y, weight, bias)

    return _in_turn(chain, _input(chain), [step(layer) for layer in chain.layers])


def onednn(chain: Chain) -> Run:
    """oneDNN with weights reordered ahead of time, as torch.compile does in freezing."""
    ops, tokens = torch.ops.mkldnn, chain.tokens

    def step(layer: Layer) -> Step:
        weight, bias = ops._reorder_linear_weight(_weight(layer), tokens), _bias(layer, chain)
        return lambda y: ops._linear_pointwise(y, weight, bias, "none", [], "")

    return _in_turn(chain, _input(chain), [step(layer) for layer in chain.layers])


def mkl(chain: Chain) -> Run:
    """MKL with weights packed ahead of time."""
    ops, tokens = torch.ops.mkl, chain.tokens

    def step(layer: Layer) -> Step:
        weight, bias = _weight(layer), _bias(layer, chain)
        packed = ops._mkl_reorder_linear_weight(weight, tokens)
        return lambda y: ops._mkl_linear(y, packed, weight, bias, tokens)

    return _in_turn(chain, _input(chain), [step(layer) for layer in chain.layers])


def dynamic(engine: str) -> Callable[[Chain], Run]:
    """An engine of `torch.ao.nn.quantized.dynamic.Linear`: activations quantised tensor by tensor."""

    def build(chain: Chain) -> Run:
        apply = torch.ops.quantized.linear_dynamic

        def step(layer: Layer) -> Step:
            packed = _engine_pack(engine, layer)
            return lambda y: apply(y, packed, False)

        return _in_turn(chain, _input(chain), [step(layer) for layer in chain.layers])

    return build


def static(engine: str) -> Callable[[Chain], Run]:
    """An engine of `torch.ao.nn.quantized.Linear`: uint8 between the layers."""

    def build(chain: Chain) -> Run:
        apply = torch.ops.quantized.linear

        def step(layer: Layer, scale: float) -> Step:
            packed = _engine_pack(engine, layer)
            return lambda y: apply(y, packed, scale, ZERO)

        with warnings.catch_warnings(action="ignore"):  # quantised tensors are deprecated
            x = torch.quantize_per_tensor(_input(chain), float(chain.steps[0]), ZERO, torch.quint8)
        scales = [float(scale) for scale in chain.steps[1:]]
        steps = [step(layer, scale) for layer, scale in zip(chain.layers, scales, strict=True)]
        return _in_turn(chain, x, [*steps, torch.dequantize])

    return build


def onednn_static(chain: Chain) -> Run:
    """oneDNN's quantised linear, which torch.compile calls after PT2E quantisation: uint8 between."""
    ops, x = torch.ops.onednn, _input(chain)
    scales = [float(scale) for scale in chain.steps]

    def step(layer: Layer, before: float, after: float) -> Step:
        weight = ops.qlinear_prepack(_weight(layer), [chain.tokens, layer.weight.shape[1]])
        bias, rows = _bias(layer, chain), _row_scales(layer)
        zeros = torch.zeros(len(rows), dtype=torch.long)

        def apply(y: torch.Tensor) -> Any:
            return ops.qlinear_pointwise(
                y, before, ZERO, weight, rows, zeros, bias, after, ZERO, torch.uint8, "none", [], ""
            )

        return apply

    first = ((x / scales[0]).round() + ZERO).clamp(0, 255).to(torch.uint8)
    steps = [
        step(layer, before, after)
        for layer, before, after in zip(chain.layers, scales[:-1], scales[1:], strict=True)
    ]
    return _in_turn(chain, first, [*steps, lambda y: (y.float() - ZERO) * scales[-1]])


def _row_scales(layer: Layer) -> torch.Tensor:
    assert layer.scales is not None
    return torch.from_numpy(layer.scales)


def _engine_pack(engine: str, layer: Layer) -> Any:
    """The weight as the engine wants it; afterwards the pack knows its engine by itself."""
    torch.backends.quantized.engine = engine
    scales = _row_scales(layer).double()
    with warnings.catch_warnings(action="ignore"):  # quantised tensors are deprecated
        weight = torch._make_per_channel_quantized_tensor(
            _weight(layer), scales, torch.zeros(len(scales), dtype=torch.long), 0
        )
    return torch.ops.quantized.linear_prepack(weight, torch.from_numpy(layer.bias))


VARIANTS: dict[str, dict[str, Callable[[Chain], Run]]] = {
    "fp32": {"plain": plain, "onednn": onednn, "mkl": mkl},
    "bf16": {"plain": plain, "onednn": onednn},
    "int8": {
        "fbgemm_dynamic": dynamic("fbgemm"),
        "x86_dynamic": dynamic("x86"),
        "onednn_dynamic": dynamic("onednn"),
        "x86_static": static("x86"),
        "onednn_static": onednn_static,
    },
}
ABSENT: dict[str, str] = {}
