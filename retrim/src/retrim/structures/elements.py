"""Single weights: the finest form, of any pattern."""

from __future__ import annotations

from dataclasses import dataclass

from array_api_compat import array_namespace

from retrim.structures.base import Grouped, squares
from retrim.structures.view import Array


@dataclass(frozen=True)
class Elements(Grouped):
    """Every weight is kept or dropped by itself; the budget is the layer's.

    The kernels store whole columns of 32 rows, so this form saves no time on
    a processor: it is the yardstick that coarser forms are compared with.
    """

    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        return 1, shape[0] * shape[1]

    def energies(self, matrix: Array) -> Array:
        return array_namespace(matrix).reshape(squares(matrix), (1, -1))

    def expand(self, values: Array, shape: tuple[int, int]) -> Array:
        return array_namespace(values).reshape(values, shape)
