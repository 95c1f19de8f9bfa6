"""What a projection leaves of a weight: the linear subspace that it may move in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from array_api_compat import array_namespace

from retrim.structures.view import Array


class Support(ABC):
    """A linear subspace of the (out, in) matrices, and the projection onto it."""

    @abstractmethod
    def apply(self, matrix: Array) -> Array:
        """Project `matrix`, shape (out, in), orthogonally onto the subspace."""

    @property
    @abstractmethod
    def density(self) -> float:
        """Dimension of the subspace over that of the whole space."""


@dataclass(frozen=True, eq=False)
class Mask(Support):
    """Matrices that are zero wherever `mask` is false.

    Parameters
    ----------
    mask : array of bool, shape (out, in)
    """

    mask: Array

    def apply(self, matrix: Array) -> Array:
        xp = array_namespace(matrix, self.mask)
        # where, not a product: an infinite weight outside the mask must become 0, not NaN
        return xp.where(self.mask, matrix, xp.zeros_like(matrix))

    @property
    def density(self) -> float:
        xp = array_namespace(self.mask)
        rows, columns = self.mask.shape
        return int(xp.sum(xp.astype(self.mask, xp.int64))) / int(rows * columns)
