"""Weights as matrices: rows are outputs, columns are inputs.

===========  =======================  =========================
kind         stored shape             matrix
===========  =======================  =========================
``linear``   (out, in)                as it is
``conv1d``   (in, out)                transposed (Hugging Face's ``Conv1D``)
``conv2d``   (out, in, kh, kw)        (out, kh * kw * in)
===========  =======================  =========================
"""

from __future__ import annotations

import math
from typing import Any, Literal

from array_api_compat import array_namespace

from retrim.errors import ShapeError

Kind = Literal["linear", "conv1d", "conv2d"]
Array = Any  # numpy.ndarray or torch.Tensor: the arithmetic is the same for both

_NDIM = {"linear": 2, "conv1d": 2, "conv2d": 4}


def check_kind(shape: tuple[int, ...], kind: Kind) -> None:
    """Refuse a shape that a weight of this kind cannot have."""
    if kind not in _NDIM:
        raise ShapeError(f"kind must be one of {', '.join(_NDIM)}, not {kind!r}")
    if len(shape) != _NDIM[kind] or 0 in shape:
        raise ShapeError(
            f"a {kind} weight must have {_NDIM[kind]} non-empty dimensions, not shape {tuple(shape)}"
        )


def matrix_shape(shape: tuple[int, ...], kind: Kind) -> tuple[int, int]:
    """Shape of the matrix that `to_matrix` gives."""
    check_kind(shape, kind)
    if kind == "conv1d":
        return shape[1], shape[0]
    return shape[0], math.prod(shape[1:])


def to_matrix(weight: Array, kind: Kind) -> Array:
    """Rewrite a stored weight as its (out, in) matrix.

    Returns
    -------
    array, shape (out, in)
        A view where the memory allows it, else a copy.
    """
    check_kind(tuple(weight.shape), kind)
    xp = array_namespace(weight)
    if kind == "conv1d":
        return weight.T
    if kind == "conv2d":
        return xp.reshape(xp.permute_dims(weight, (0, 2, 3, 1)), (weight.shape[0], -1))
    return weight


def from_matrix(matrix: Array, shape: tuple[int, ...], kind: Kind) -> Array:
    """Undo `to_matrix`: the stored weight of `shape`."""
    check_kind(shape, kind)
    xp = array_namespace(matrix)
    if kind == "conv1d":
        return matrix.T
    if kind == "conv2d":
        out, cin, kh, kw = shape
        return xp.permute_dims(xp.reshape(matrix, (out, kh, kw, cin)), (0, 3, 1, 2))
    return matrix
