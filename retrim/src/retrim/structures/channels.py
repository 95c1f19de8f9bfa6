"""Whole columns: the inputs (channels) of a layer."""

from __future__ import annotations

from dataclasses import dataclass

from array_api_compat import array_namespace

from retrim.structures.base import Grouped, energy
from retrim.structures.view import Array, Kind, check_kind, matrix_shape, to_matrix


@dataclass(frozen=True)
class Channels(Grouped):
    """Whole inputs are dropped: columns of a linear layer, input channels of a convolution.

    A convolution is viewed as (out * kh * kw, in), so that one column holds
    all taps of a channel.
    """

    def view(self, weight: Array, kind: Kind) -> Array:
        if kind != "conv2d":
            return to_matrix(weight, kind)
        check_kind(tuple(weight.shape), kind)
        xp = array_namespace(weight)
        return xp.reshape(xp.permute_dims(weight, (0, 2, 3, 1)), (-1, weight.shape[1]))

    def unview(self, matrix: Array, shape: tuple[int, ...], kind: Kind) -> Array:
        if kind != "conv2d":
            return super().unview(matrix, shape, kind)
        check_kind(shape, kind)
        out, cin, kh, kw = shape
        xp = array_namespace(matrix)
        return xp.permute_dims(xp.reshape(matrix, (out, kh, kw, cin)), (0, 3, 1, 2))

    def view_shape(self, shape: tuple[int, ...], kind: Kind) -> tuple[int, int]:
        out, columns = matrix_shape(shape, kind)
        return (out * shape[2] * shape[3], shape[1]) if kind == "conv2d" else (out, columns)

    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        return 1, shape[1]

    def energies(self, matrix: Array) -> Array:
        return energy(matrix, axis=0)[None, :]

    def expand(self, values: Array, shape: tuple[int, int]) -> Array:
        xp = array_namespace(values)
        return xp.broadcast_to(xp.reshape(values, (1, shape[1])), shape)

    def compact(self, matrix: Array, keep: Array) -> Array:
        return matrix[:, keep[0, :]]

    def compact_shape(self, shape: tuple[int, int], kept: int) -> tuple[int, int]:
        return (shape[0], kept)

    def scatter(self, small: Array, keep: Array, shape: tuple[int, int]) -> Array:
        full = array_namespace(small).zeros(shape, dtype=small.dtype, device=small.device)
        full[:, keep[0, :]] = small
        return full
