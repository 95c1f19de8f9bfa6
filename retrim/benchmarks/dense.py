"""Dense run-times that packed layers are measured against: a chain of linear layers, float32.

Each builder takes the weights (out, in) and biases of a chain and its first input, and gives a
function without arguments that runs the chain.  Weights are prepacked where the run-time can: what
is timed is what a deployed model would do.  A run-time that is not installed, or that lacks an
operation, is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Run = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Layers applied one after another to x, shape (tokens, in)."""

    weights: Sequence[np.ndarray]
    biases: Sequence[np.ndarray]
    x: np.ndarray
    threads: int


def torch_linear(chain: Chain) -> Run:
    """`torch.nn.functional.linear` as any model calls it."""
    pairs = [
        (torch.from_numpy(w), torch.from_numpy(b)) for w, b in zip(chain.weights, chain.biases, strict=True)
    ]

    def run() -> torch.Tensor:
        y = torch.from_numpy(chain.x)
        with torch.inference_mode():
            for weight, bias in pairs:
                y = torch.nn.functional.linear(y, weight, bias)
        return y

    return run


def torch_onednn(chain: Chain) -> Run:
    """oneDNN with weights reordered ahead of time, as torch.compile does in freezing."""
    tokens, ops = len(chain.x), torch.ops.mkldnn
    pairs = [
        (ops._reorder_linear_weight(torch.from_numpy(w), tokens), torch.from_numpy(b))
        for w, b in zip(chain.weights, chain.biases, strict=True)
    ]

    def run() -> torch.Tensor:
        y = torch.from_numpy(chain.x)
        with torch.inference_mode():
            for weight, bias in pairs:
                y = ops._linear_pointwise(y, weight, bias, "none", [], "")
        return y

    return run


def torch_mkl(chain: Chain) -> Run:
    """MKL with weights packed ahead of time."""
    tokens, ops = len(chain.x), torch.ops.mkl
    layers = []
    for w, b in zip(chain.weights, chain.biases, strict=True):
        weight = torch.from_numpy(w)
        layers.append((ops._mkl_reorder_linear_weight(weight, tokens), weight, torch.from_numpy(b)))

    def run() -> torch.Tensor:
        y = torch.from_numpy(chain.x)
        with torch.inference_mode():
            for packed, weight, bias in layers:
                y = ops._mkl_linear(y, packed, weight, bias, tokens)
        return y

    return run


def onnxruntime(chain: Chain) -> Run:
    """ONNX Runtime, input and output bound once."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    nodes, initial, at = [], [], "x"
    for i, (w, b) in enumerate(zip(chain.weights, chain.biases, strict=True)):
        initial += [
            numpy_helper.from_array(np.ascontiguousarray(w.T), f"w{i}"),
            numpy_helper.from_array(b, f"b{i}"),
        ]
        nodes.append(helper.make_node("Gemm", [at, f"w{i}", f"b{i}"], [f"y{i}"]))
        at = f"y{i}"
    value = helper.make_tensor_value_info
    tokens, last = len(chain.x), chain.weights[-1].shape[0]
    graph = helper.make_graph(
        nodes,
        "chain",
        [value("x", TensorProto.FLOAT, [tokens, chain.x.shape[1]])],
        [value(at, TensorProto.FLOAT, [tokens, last])],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = chain.threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", chain.x)
    binding.bind_output(at)

    def run() -> np.ndarray:
        session.run_with_iobinding(binding)
        return np.asarray(binding.get_outputs()[0].numpy())

    return run


def openvino(chain: Chain) -> Run:
    """OpenVINO, one stream, latency hint."""
    import openvino as ov
    from openvino import opset13 as op

    first = y = op.parameter(list(chain.x.shape), np.float32)
    for w, b in zip(chain.weights, chain.biases, strict=True):
        y = op.add(op.matmul(y, op.constant(w), False, True), op.constant(b[None]))
    settings = {
        "INFERENCE_NUM_THREADS": chain.threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    compiled = ov.Core().compile_model(ov.Model([y], [first]), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(chain.x, shared_memory=True))

    def run() -> np.ndarray:
        request.infer(share_outputs=True)
        return request.get_output_tensor().data

    return run


BUILDERS: dict[str, Callable[[Chain], Run]] = {
    "torch": torch_linear,
    "torch, oneDNN prepacked": torch_onednn,
    "torch, MKL prepacked": torch_mkl,
    "ONNX Runtime": onnxruntime,
    "OpenVINO": openvino,
}


def build(chain: Chain) -> tuple[dict[str, Run], dict[str, str]]:
    """All run-times that work here, and why the others do not."""
    logging.disable(logging.WARNING)
    runs: dict[str, Run] = {}
    missing: dict[str, str] = {}
    for name, builder in BUILDERS.items():
        try:
            run = builder(chain)
            run()
        except (ImportError, RuntimeError, AttributeError, NotImplementedError) as error:
            missing[name] = str(error).partition("\n")[0]
        else:
            runs[name] = run
    return runs, missing
