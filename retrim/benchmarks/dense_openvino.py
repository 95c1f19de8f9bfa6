"""OpenVINO: one stream, latency hint."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from chains import Chain, Layer
from openvino import opset13 as op

from retrim.artifact.bfloat16 import to_bits

Run = Callable[[], np.ndarray]


def _run(chain: Chain, model: Any, x: Any, **settings: Any) -> Run:
    plain = {
        "INFERENCE_NUM_THREADS": chain.threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    request = ov.Core().compile_model(model, "CPU", {**plain, **settings}).create_infer_request()
    request.set_input_tensor(x)

    def run(kept: object = chain) -> np.ndarray:  # tensors do not keep alive what they share
        request.infer(share_outputs=True)
        return request.get_output_tensor().data

    return run


def _tensor(values: np.ndarray) -> Any:
    return ov.Tensor(values, shared_memory=True)


def _bf16(bits: np.ndarray) -> Any:
    return ov.Tensor(bits, list(bits.shape), ov.Type.bf16)


def _linear(y: Any, weight: Any, layer: Layer) -> Any:
    return op.add(op.matmul(y, weight, False, True), op.constant(layer.bias[None]))


def fp32(chain: Chain) -> Run:
    """Float32 throughout."""
    y = x = op.parameter(list(chain.x.shape), np.float32)
    for layer in chain.layers:
        y = _linear(y, op.constant(layer.weight), layer)
    return _run(chain, ov.Model([y], [x]), _tensor(chain.x))


def bf16(chain: Chain) -> Run:
    """A model of bfloat16 weights, its input and output in bfloat16, hint bf16."""
    x = op.parameter(list(chain.x.shape), ov.Type.bf16)
    y = op.convert(x, "f32")  # the hint makes all between bfloat16
    for layer in chain.layers:
        y = _linear(y, op.convert(op.constant(_bf16(layer.weight)), "f32"), layer)
    model = ov.Model([op.convert(y, "bf16")], [x])
    bits = to_bits(chain.x)
    run = _run(chain, model, _bf16(bits), INFERENCE_PRECISION_HINT="bf16")

    def on_bits(kept: np.ndarray = bits) -> np.ndarray:
        return run().view(np.uint16)

    return on_bits


def _compressed(layer: Layer) -> Any:
    """An int8 weight with a scale for each row, as NNCF writes it."""
    assert layer.scales is not None
    return op.multiply(op.convert(op.constant(layer.weight), "f32"), op.constant(layer.scales[:, None]))


def static(lowest: int) -> Callable[[Chain], Run]:
    """FakeQuantize before each layer, as NNCF writes it after calibration.

    With lowest -128 (symmetric) activations travel as int8, with another one as uint8 and a zero.
    """

    def build(chain: Chain) -> Run:
        y = x = op.parameter(list(chain.x.shape), np.float32)
        for layer, step in zip(chain.layers, chain.steps, strict=False):
            y = _quantized(y, lowest * step, (lowest + 255) * step)
            y = _linear(y, _compressed(layer), layer)
        return _run(chain, ov.Model([y], [x]), _tensor(chain.x))

    return build


def _quantized(y: Any, low: np.float32, high: np.float32) -> Any:
    return op.fake_quantize(y, low, high, low, high, 256)


def dynamic(group: int | None) -> Callable[[Chain], Run]:
    """Compressed weights; activations quantised in groups of columns (None: whole tokens).

    The plug-in wants a group that divides every layer's columns.
    """

    def build(chain: Chain) -> Run:
        y = x = op.parameter(list(chain.x.shape), np.float32)
        for layer in chain.layers:
            y = _linear(y, _compressed(layer), layer)
        columns = group or math.gcd(*(layer.weight.shape[1] for layer in chain.layers))
        model = ov.Model([y], [x])
        return _run(chain, model, _tensor(chain.x), DYNAMIC_QUANTIZATION_GROUP_SIZE=columns)

    return build


VARIANTS: dict[str, dict[str, Callable[[Chain], Run]]] = {
    "fp32": {"prepacked": fp32},
    "bf16": {"prepacked": bf16},
    "int8": {
        "static": static(-128),
        "static_u8": static(-127),
        "dynamic": dynamic(None),
        "dynamic_128": dynamic(128),
    },
}
ABSENT: dict[str, str] = {}
