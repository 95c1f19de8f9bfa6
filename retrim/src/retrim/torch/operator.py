"""The packed layer as an operator of torch, ``torch.ops.retrim.packed_linear``.

Graphs that `torch.compile` and `torch.export` make hold it as one call, for they cannot look into a
compiled core.  It is a function of its tensors alone, the bytes of the pack among them; what the core
prepared for them is found by their addresses.  So a graph holds nothing that its copies, its file or
another process would lack: there the core is prepared again, on the first call.

Outside of graphs the core is called directly: torch's dispatcher costs as much as a small layer.
"""

from __future__ import annotations

from typing import Any, NoReturn
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from retrim.errors import RetrimError
from retrim.runtime.matrix import Activation, PackedMatrix
from retrim.runtime.tuning import tune

_NAME = "retrim::packed_linear"
_BACKWARD = "retrim::packed_linear_backward"


class Core:
    """A compiled core with the tensors that it is found by.

    It holds their memory, so that no others come to lie at their addresses while it lives.

    Parameters
    ----------
    pack : Tensor of uint8, shape (n,)
    bias : Tensor of float32, shape (out,), optional
        Default: zero.  Neither may change any more.
    activation : {"relu", "gelu", "gelu_tanh"}, optional
    input_scale : float, optional
        Static scale of the input in int8.
    """

    def __init__(
        self,
        pack: torch.Tensor,
        bias: torch.Tensor | None,
        activation: Activation | None,
        input_scale: float | None,
    ) -> None:
        self.pack = pack.detach()
        array = None if bias is None else bias.detach().numpy()
        self.matrix = PackedMatrix(self.pack.numpy(), array, activation, input_scale=input_scale)
        tune(self.matrix)
        if bias is None:
            bias = torch.zeros(self.matrix.outputs, dtype=torch.float32, device="cpu")
        self.bias = bias.detach()
        _CORES[_key(self.pack, self.bias, activation, input_scale)] = self


_CORES: WeakValueDictionary[tuple[Any, ...], Core] = WeakValueDictionary()
# cores that no layer holds live as long as the graph's own pack
_KEPT: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _key(
    pack: torch.Tensor, bias: torch.Tensor, activation: Activation | None, input_scale: float | None
) -> tuple[Any, ...]:
    return pack.data_ptr(), bias.data_ptr(), activation, input_scale


def multiply(matrix: PackedMatrix, x: torch.Tensor) -> torch.Tensor:
    """The layer on a CPU tensor of a type that the matrix takes, shape (..., in), of any memory layout."""
    rows = x.detach() if x.requires_grad else x
    if not rows.is_contiguous():
        rows = rows.reshape(-1, matrix.inputs)  # a view where it can be one
        if rows.stride(1) != 1 and matrix.inputs > 1:
            rows = rows.contiguous()
    if rows.data_ptr() % rows.element_size():
        rows = rows.clone()
    y = rows.new_empty(*x.shape[:-1], matrix.outputs)
    if y.numel():  # NumPy gives an empty array other strides
        matrix.into(_matrix(rows), _matrix(y))
    return y


def _matrix(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory as rows; NumPy's way costs half of DLPack's, and has no bfloat16."""
    plain = tensor if tensor.dtype == torch.float32 else tensor.view(torch.uint16)
    array: np.ndarray = plain.numpy()
    return array if array.ndim == 2 else array.reshape(-1, array.shape[-1])


torch.library.define(
    _NAME,
    "(Tensor x, Tensor pack, Tensor bias, int outputs, str? activation, float? input_scale) -> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)
torch.library.define(_BACKWARD, "(Tensor grad, SymInt inputs) -> Tensor", tags=torch.Tag.pt2_compliant_tag)


@torch.library.impl(_NAME, "CPU")
def _packed_linear(
    x: torch.Tensor,
    pack: torch.Tensor,
    bias: torch.Tensor,
    outputs: int,
    activation: Activation | None,
    input_scale: float | None,
) -> torch.Tensor:
    core = _CORES.get(_key(pack, bias, activation, input_scale))
    if core is None:
        core = Core(pack, bias, activation, input_scale)
        _KEPT.setdefault(pack, []).append(core)  # type: ignore[no-untyped-call]
    return multiply(core.matrix, x)


@torch.library.register_fake(_NAME)  # type: ignore[untyped-decorator]
def _shape_of(
    x: torch.Tensor,
    pack: torch.Tensor,
    bias: torch.Tensor,
    outputs: int,
    activation: Activation | None,
    input_scale: float | None,
) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], outputs))


# An operator of its own: a compiler runs through backward passes that may never be called for.
@torch.library.impl(_BACKWARD, "CPU")
def _refuse_gradient(grad: torch.Tensor, inputs: int) -> NoReturn:
    raise RetrimError(
        "a packed layer must not be trained, but a gradient reached it: train the hardened model before it "
        "is packed, or run the packed one under torch.inference_mode()"
    )


@torch.library.register_fake(_BACKWARD)  # type: ignore[untyped-decorator]
def _shape_of_gradient(grad: torch.Tensor, inputs: int) -> torch.Tensor:
    return grad.new_empty((*grad.shape[:-1], inputs))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.inputs = inputs[0].shape[-1]


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return torch.ops.retrim.packed_linear_backward(grad, ctx.inputs), None, None, None, None, None


torch.library.register_autograd(_NAME, _backward, setup_context=_remember)


class Tracked(torch.autograd.Function):
    """`multiply` outside of graphs, where a gradient is tracked."""

    @staticmethod
    def forward(ctx: Any, matrix: PackedMatrix, x: torch.Tensor) -> torch.Tensor:
        ctx.inputs = matrix.inputs
        return multiply(matrix, x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, torch.ops.retrim.packed_linear_backward(grads[0], ctx.inputs)
