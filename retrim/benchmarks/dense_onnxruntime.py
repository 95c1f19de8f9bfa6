"""ONNX Runtime: input and output bound once, constant weights prepacked by the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from chains import Chain, Layer
from onnx import TensorProto, helper, numpy_helper

Run = Callable[[], np.ndarray]
CONTRIB = "com.microsoft"
BLOCK = 256  # columns of one scale in MatMulNBits: the largest that fits 768, and the fastest


class _Graph:
    """Nodes and constants in the making; `at` names what the last node gave."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.at = "x"

    def constant(self, values: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, *others: str, domain: str = "", **attributes: Any) -> None:
        """A node whose first input is what the last one gave."""
        name = f"y{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.at, *others], [name], domain=domain, **attributes))
        self.at = name

    def dequantized(self, *inputs: str, axis: int) -> str:
        name = f"d{len(self.nodes)}"
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], axis=axis))
        return name

    def serialized(self, chain: Chain) -> bytes:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [value("x", TensorProto.FLOAT, list(chain.x.shape))],
            [value(self.at, TensorProto.FLOAT, [chain.tokens, chain.outputs])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = 9
        return bytes(model.SerializeToString())


def _run(chain: Chain, graph: _Graph) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = chain.threads, 1
    options.log_severity_level = 3
    # its threads may not spin into the turn of the next run-time
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(graph.serialized(chain), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", chain.x)
    binding.bind_output(graph.at)

    def run() -> np.ndarray:
        session.run_with_iobinding(binding)
        return np.asarray(binding.get_outputs()[0].numpy())

    return run


def fp32(chain: Chain) -> Run:
    """Gemm."""
    graph = _Graph()
    for layer in chain.layers:
        graph.add("Gemm", graph.constant(layer.weight.T), graph.constant(layer.bias))
    return _run(chain, graph)


def static(chain: Chain) -> Run:
    """QuantizeLinear and DequantizeLinear around Gemm, which the session fuses: uint8 between."""
    graph = _Graph()
    zero = graph.constant(np.array(128, np.uint8))
    for layer, step in zip(chain.layers, chain.steps, strict=False):
        scale = graph.constant(step)
        graph.add("QuantizeLinear", scale, zero)
        graph.add("DequantizeLinear", scale, zero)
        weight = graph.dequantized(*_weight(graph, layer), axis=1)
        steps = step * _scales(layer)
        bias = graph.dequantized(
            graph.constant(np.rint(layer.bias / steps).astype(np.int32)),
            graph.constant(steps),
            graph.constant(np.zeros(len(steps), np.int32)),
            axis=0,
        )
        graph.add("Gemm", weight, bias)
    scale = graph.constant(chain.steps[-1])
    graph.add("QuantizeLinear", scale, zero)
    graph.add("DequantizeLinear", scale, zero)
    return _run(chain, graph)


def dynamic(chain: Chain) -> Run:
    """DynamicQuantizeMatMul, which `quantize_dynamic` models become: one scale a tensor."""
    graph = _Graph()
    for layer in chain.layers:
        graph.add("DynamicQuantizeMatMul", *_weight(graph, layer), graph.constant(layer.bias), domain=CONTRIB)
    return _run(chain, graph)


def nbits(chain: Chain) -> Run:
    """MatMulNBits with 8 bits and accuracy level 4: arithmetic on int8."""
    graph = _Graph()
    for layer in chain.layers:
        outputs, inputs = layer.weight.shape
        blocks = inputs // BLOCK
        shifted = (layer.weight.view(np.uint8) ^ np.uint8(128)).reshape(outputs, blocks, BLOCK)
        scales = np.repeat(_scales(layer)[:, None], blocks, axis=1)
        graph.add(
            "MatMulNBits",
            graph.constant(shifted),
            graph.constant(scales),
            "",
            "",
            graph.constant(layer.bias),
            domain=CONTRIB,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=BLOCK,
            accuracy_level=4,
        )
    return _run(chain, graph)


def _scales(layer: Layer) -> np.ndarray:
    assert layer.scales is not None
    return layer.scales


def _weight(graph: _Graph, layer: Layer) -> tuple[str, str, str]:
    """Constants: the weight (in, out), the scales of its columns, their zeros."""
    scales = _scales(layer)
    return (
        graph.constant(layer.weight.T),
        graph.constant(scales),
        graph.constant(np.zeros(len(scales), np.int8)),
    )


VARIANTS: dict[str, dict[str, Callable[[Chain], Run]]] = {
    "fp32": {"prepacked": fp32},
    "int8": {"static": static, "dynamic": dynamic, "nbits": nbits},
}
ABSENT = {"bf16": "ONNX Runtime has no bfloat16 arithmetic on processors"}
