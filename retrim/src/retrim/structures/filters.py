"""Whole rows: the outputs (filters, neurons) of a layer."""

from __future__ import annotations

from dataclasses import dataclass

from array_api_compat import array_namespace

from retrim.structures.base import Grouped, energy
from retrim.structures.view import Array


@dataclass(frozen=True)
class Filters(Grouped):
    """Whole rows of the matrix are kept or dropped: outputs of a linear layer, filters of a convolution."""

    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        return 1, shape[0]

    def energies(self, matrix: Array) -> Array:
        return energy(matrix, axis=1)[None, :]

    def expand(self, values: Array, shape: tuple[int, int]) -> Array:
        xp = array_namespace(values)
        return xp.broadcast_to(xp.reshape(values, (shape[0], 1)), shape)

    def compact(self, matrix: Array, keep: Array) -> Array:
        return matrix[keep[0, :], :]

    def compact_shape(self, shape: tuple[int, int], kept: int) -> tuple[int, int]:
        return (kept, shape[1])

    def scatter(self, small: Array, keep: Array, shape: tuple[int, int]) -> Array:
        full = array_namespace(small).zeros(shape, dtype=small.dtype, device=small.device)
        full[keep[0, :], :] = small
        return full
