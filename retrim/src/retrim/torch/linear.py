"""Packed weights inside torch models."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from retrim.artifact import PackedWeight
from retrim.errors import RetrimError, ShapeError
from retrim.runtime.matrix import Activation, PackedMatrix


class PackedLinear(nn.Module):
    """A linear layer whose weight lies in the packed layout; for inference.

    Input (..., in) and output (..., out) are float32 tensors on the CPU; a
    contiguous input is read where it lies.  The number of threads is
    `retrim.runtime.threads.get()`, the instruction set the processor's best.

    Parameters
    ----------
    weight : PackedWeight
    bias : Tensor of float32, shape (out,), optional
    activation : {"relu", "gelu", "gelu_tanh"}, optional
        Fused: applied while results are in registers.

    Raises
    ------
    ShapeError
        If the bias does not fit, or an input has another width, type or device.
    RetrimError
        If a gradient is asked to flow through it.
    """

    def __init__(
        self, weight: PackedWeight, bias: torch.Tensor | None = None, activation: Activation | None = None
    ) -> None:
        super().__init__()
        self.weight = weight
        array = None if bias is None else bias.detach().to("cpu", torch.float32).numpy().copy()
        self.matrix = PackedMatrix(weight.pack().data, array, activation)
        self.in_features = self.matrix.inputs
        self.out_features = self.matrix.outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu" or x.dtype != torch.float32 or x.shape[-1:] != (self.in_features,):
            raise ShapeError(
                f"the input of a packed layer must be a float32 CPU tensor of shape (..., {self.in_features}), "
                f"not {x.dtype} {x.device.type} {tuple(x.shape)}"
            )
        if torch.is_grad_enabled() and x.requires_grad:
            out: torch.Tensor = _Forward.apply(x, self)  # type: ignore[no-untyped-call]
            return out
        return self.multiply(x)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """The layer on a tensor that was checked."""
        rows = x.detach().reshape(-1, self.in_features)
        if rows.stride(-1) != 1 and self.in_features > 1:
            rows = rows.contiguous()
        y = torch.empty((rows.shape[0], self.out_features), dtype=torch.float32, device="cpu")
        if len(rows):  # NumPy gives an empty array other strides
            self.matrix.into(rows.numpy(), y.numpy())  # half the cost of torch's DLPack
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Shape, structure and density, as torch prints modules."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"structure={self.weight.structure['type']}, density={self.weight.density:.3f}, "
            f"activation={self.matrix.activation}"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLinear:
        return self  # it never changes, and the compiled core is not copied


class _Forward(torch.autograd.Function):
    """The layer where a gradient is tracked: forward works, backward says why it does not."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: PackedLinear) -> torch.Tensor:
        return layer.multiply(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> NoReturn:
        raise RetrimError(
            "a packed layer must not be trained, but a gradient reached it: train the hardened model before it "
            "is packed, or run the packed one under torch.inference_mode()"
        )


def matrix_of(weight: PackedWeight) -> np.ndarray:
    """The dense weight, float32, in the shape in which the model stores it."""
    from retrim.structures import from_dict

    structure = from_dict(weight.structure)
    matrix = weight.matrix().reshape(structure.view_shape(weight.shape, weight.kind))  # type: ignore[arg-type]
    dense: np.ndarray = structure.unview(matrix, weight.shape, weight.kind)  # type: ignore[arg-type]
    return np.ascontiguousarray(dense)
