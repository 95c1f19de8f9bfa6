"""torch's dense linear layers, for calibration to time beside ours: plain, and prepacked where torch can.

Layers by the names that a profile has: ``linear`` as any model calls it, ``onednn`` and ``mkl``
with weights that were reordered in advance (as torch.compile does when it freezes a
model), ``dynamic`` for the int8 engine that scales activations tensor by tensor.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from retrim.runtime.calibration import Run
from retrim.runtime.entry import Request

_SCALE, _ZERO = 1 / 16, 128  # of uint8 activations
_Step = Callable[[torch.Tensor], Any]


@contextmanager
def dense(request: Request, copies: int) -> Iterator[Mapping[str, Run]]:
    """Layers of torch that do what a dense request asks for.

    Parameters
    ----------
    request : Request
    copies : int
        Distinct weights that each run goes through once.

    Yields
    ------
    dict of str to callable
        While it is open, torch runs on the request's threads.  What this build of
        torch cannot run is left out.
    """
    threads, engine = torch.get_num_threads(), torch.backends.quantized.engine
    torch.set_num_threads(request.threads)
    try:
        yield {
            name: run for name, make in _KINDS[_kind(request)].items() if (run := _run(make, request, copies))
        }
    finally:
        torch.set_num_threads(threads)
        torch.backends.quantized.engine = engine


def _kind(request: Request) -> str:
    return request.activations or request.precision


def _run(make: Callable[[torch.Tensor, int], _Step], request: Request, copies: int) -> Run | None:
    x = _input(request)
    shape = (request.outputs, request.inputs)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch deprecates what it has no other way for
            steps = [make(_weight(shape, request), request.tokens) for _ in range(copies)]
            with torch.inference_mode():
                steps[0](x)
    except (AttributeError, NotImplementedError, RuntimeError):
        return None

    def run() -> None:
        with torch.inference_mode():
            for step in steps:
                step(x)

    return run


def _input(request: Request) -> torch.Tensor:
    shape = (request.tokens, request.inputs)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if request.activations == "static":
        return (x * 32 + _ZERO).clamp(1, 255).to(torch.uint8)
    return x.bfloat16() if request.precision == "bf16" else x


def _weight(shape: tuple[int, int], request: Request) -> torch.Tensor:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    if request.precision == "int8":
        return (weight * 32).clamp(-127, 127).to(torch.int8)
    return weight.bfloat16() if request.precision == "bf16" else weight


def _linear(weight: torch.Tensor, tokens: int) -> _Step:
    bias = weight.new_zeros(len(weight))
    return lambda x: torch.nn.functional.linear(x, weight, bias)


def _onednn(weight: torch.Tensor, tokens: int) -> _Step:
    ops, bias = torch.ops.mkldnn, weight.new_zeros(len(weight))
    packed = ops._reorder_linear_weight(weight, tokens)
    return lambda x: ops._linear_pointwise(x, packed, bias, "none", [], "")


def _mkl(weight: torch.Tensor, tokens: int) -> _Step:
    ops, bias = torch.ops.mkl, weight.new_zeros(len(weight))
    packed = ops._mkl_reorder_linear_weight(weight, tokens)
    return lambda x: ops._mkl_linear(x, packed, weight, bias, tokens)


def _onednn_static(weight: torch.Tensor, tokens: int) -> _Step:
    ops, bias = torch.ops.onednn, torch.zeros(len(weight))
    packed = ops.qlinear_prepack(weight, [tokens, weight.shape[1]])
    scales, zeros = torch.full((len(weight),), 1 / 32), torch.zeros(len(weight), dtype=torch.long)
    kinds: tuple[Any, ...] = (torch.uint8, "none", [], "")
    return lambda x: ops.qlinear_pointwise(
        x, _SCALE, _ZERO, packed, scales, zeros, bias, _SCALE, _ZERO, *kinds
    )


def _dynamic(weight: torch.Tensor, tokens: int) -> _Step:
    torch.backends.quantized.engine = "x86"
    scales, zeros = torch.full((len(weight),), 1 / 32).double(), torch.zeros(len(weight), dtype=torch.long)
    held = torch._make_per_channel_quantized_tensor(weight, scales, zeros, 0)
    packed = torch.ops.quantized.linear_prepack(held, torch.zeros(len(weight)))
    return lambda x: torch.ops.quantized.linear_dynamic(x, packed, False)


_KINDS: dict[str, dict[str, Callable[[torch.Tensor, int], _Step]]] = {
    "fp32": {"linear": _linear, "onednn": _onednn, "mkl": _mkl},
    "bf16": {"linear": _linear, "onednn": _onednn},
    "static": {"onednn": _onednn_static},
    "dynamic": {"dynamic": _dynamic},
}
