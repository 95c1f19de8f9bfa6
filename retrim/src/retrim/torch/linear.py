"""Packed weights inside torch models."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.dlpack import from_dlpack

from retrim.artifact import PackedWeight
from retrim.errors import ShapeError
from retrim.runtime.matrix import Activation, PackedMatrix
from retrim.torch.operator import Core, Tracked, multiply

_TYPES: dict[str, tuple[torch.dtype, ...]] = {
    "fp32": (torch.float32,),
    "bf16": (torch.float32, torch.bfloat16),
    "int8": (torch.float32, torch.bfloat16),
}


def taken(matrix: PackedMatrix, x: torch.Tensor) -> torch.Tensor:
    """An input of a packed layer in the type that it, and a region of `torch.autocast` around it, ask for.

    Raises
    ------
    ShapeError
        If it has another width, type or device than the layer takes.
    """
    types = _TYPES[matrix.precision]
    if torch.is_autocast_enabled("cpu") and x.dtype in (torch.float32, torch.bfloat16, torch.float16):
        wanted = torch.get_autocast_dtype("cpu")
        x = x.to(wanted if wanted in types else torch.float32)
    if x.device.type != "cpu" or x.dtype not in types or x.shape[-1:] != (matrix.inputs,):
        raise ShapeError(_refusal(matrix, x, types))
    return x


def applied(matrix: PackedMatrix, x: torch.Tensor) -> torch.Tensor:
    """A packed layer on an input that `taken` has passed; a gradient that reaches it is refused."""
    if x.requires_grad and torch.is_grad_enabled():
        y: torch.Tensor = Tracked.apply(matrix, x)  # type: ignore[no-untyped-call]
        return y
    return multiply(matrix, x)


def _refusal(matrix: PackedMatrix, x: torch.Tensor, types: tuple[torch.dtype, ...]) -> str:
    names = " or ".join(str(known).removeprefix("torch.") for known in types)
    remedy = ""
    if x.dtype == torch.bfloat16 and matrix.precision == "fp32":
        remedy = ": pack the model in bf16 or int8, or convert the input with x.float()"
    return (
        f"the input of a packed layer must be a {names} CPU tensor of shape (..., {matrix.inputs}), "
        f"not {x.dtype} {x.device.type} {tuple(x.shape)}{remedy}"
    )


class PackedLinear(nn.Module):
    """A linear layer whose weight lies in the packed layout; for inference.

    Input (..., in) and output (..., out) are CPU tensors of one type: float32,
    and where the weight is bf16 or int8, bfloat16 as well.  A contiguous input
    is read where it lies.  The number of threads is
    `retrim.runtime.threads.get()`, the instruction set the processor's best.

    Under `torch.autocast` a layer in bf16 or int8 takes the region's bfloat16,
    as torch's own linear layers do; one in fp32 takes and gives float32.

    `torch.compile` and `torch.export` keep it as one call of
    ``torch.ops.retrim.packed_linear``; an exported file holds the pack, and runs
    wherever `retrim.torch` is imported.

    Parameters
    ----------
    weight : PackedWeight
    bias : Tensor of float32, shape (out,), optional
    activation : {"relu", "gelu", "gelu_tanh"}, optional
        Fused: applied while results are in registers.
    precision : {"fp32", "bf16", "int8"}, optional
        Which of the weight's packs; default: its first.
    input_scale : float, optional
        In int8, the scale of all inputs; default: each token has its own.

    Raises
    ------
    ArtifactError
        If the weight was not packed in the precision.
    ShapeError
        If the bias does not fit, or an input has another width, type or device.
    RetrimError
        If a gradient is asked to flow through it.
    """

    def __init__(
        self,
        weight: PackedWeight,
        bias: torch.Tensor | None = None,
        activation: Activation | None = None,
        precision: str | None = None,
        input_scale: float | None = None,
    ) -> None:
        super().__init__()
        pack = weight.packs[0] if precision is None else weight.pack(precision)
        self.weight = weight
        self.precision = pack.precision
        self.activation = activation
        self.input_scale = input_scale
        # no buffers: the state dict has what can be trained, and no cast of the model may reach them
        self._pack = from_dlpack(pack.data)  # which takes mapped files as well, read-only as they are
        own = None if bias is None else bias.detach().to("cpu", torch.float32, copy=True).contiguous()
        self._core = Core(self._pack, own, activation, input_scale)
        self._bias = self._core.bias
        self.matrix = self._core.matrix
        self.in_features = self.matrix.inputs
        self.out_features = self.matrix.outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = taken(self.matrix, x)
        if torch.compiler.is_compiling() or type(x) is not torch.Tensor:
            y: torch.Tensor = torch.ops.retrim.packed_linear(
                x, self._pack, self._bias, self.out_features, self.activation, self.input_scale
            )
            return y
        return applied(self.matrix, x)

    @property
    def nbytes(self) -> int:
        """Of the pack."""
        return self.matrix.nbytes

    def extra_repr(self) -> str:
        """Shape, structure, density and precision, as torch prints modules."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"structure={self.weight.structure['type']}, density={self.weight.density:.3f}, "
            f"precision={self.precision}, activation={self.activation}"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedLinear:
        return self  # it never changes, and the compiled core is not copied

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.weight, self._bias, self.activation, self.precision, self.input_scale)


def matrix_of(weight: PackedWeight) -> np.ndarray:
    """The dense weight, float32, in the shape in which the model stores it."""
    from retrim.structures import from_dict

    structure = from_dict(weight.structure)
    matrix = weight.matrix().reshape(structure.view_shape(weight.shape, weight.kind))  # type: ignore[arg-type]
    dense: np.ndarray = structure.unview(matrix, weight.shape, weight.kind)  # type: ignore[arg-type]
    return np.ascontiguousarray(dense)
