"""One structure inside what another keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrim.errors import ConfigError
from retrim.structures.base import Density, Grouped, Groups, Structure
from retrim.structures.densities import check_density
from retrim.structures.support import Mask, Support
from retrim.structures.view import Array, Kind


@dataclass(frozen=True)
class Within(Structure):
    """`inner` holds inside the groups that `outer` keeps, moved together.

    The second level of RT3 (arXiv 2102.06336) is pattern sets within block
    columns.  The projection is made in two stages, outer first: the inner
    result is nearest inside the outer choice, the pair need not be nearest
    overall (that choice is a combinatorial one).

    Parameters
    ----------
    outer : Grouped
        With a balanced budget, so that what it keeps is a smaller matrix.
    inner : Structure

    Notes
    -----
    A density is a pair (outer, inner) and the product is reached; a single
    number d stands for (sqrt(d), sqrt(d)).

    Projecting twice is projecting once as long as the inner structure leaves
    something of every group that the outer one kept.  Where it empties a whole
    group, the result no longer tells which group that was: the second
    projection fills its place with the first of the groups that are all zero,
    the others may move up or down by one, and an inner structure that cuts
    across the outer groups (block columns inside block rows) then meets other
    partners.  An inner structure that looks at each group by itself (elements,
    block columns inside block columns) is idempotent without exception.
    """

    outer: Grouped
    inner: Structure

    def __post_init__(self) -> None:
        if not isinstance(self.outer, Grouped) or not self.outer.compacts or not self.outer.balanced:
            raise ConfigError(
                "the outer structure of Within must keep whole rows or columns with a balanced "
                f"budget, not {self.outer}: take Filters, Channels, BlockColumns or BlockRows"
            )

    def view(self, weight: Array, kind: Kind) -> Array:
        return self.outer.view(weight, kind)

    def unview(self, matrix: Array, shape: tuple[int, ...], kind: Kind) -> Array:
        return self.outer.unview(matrix, shape, kind)

    def view_shape(self, shape: tuple[int, ...], kind: Kind) -> tuple[int, int]:
        return self.outer.view_shape(shape, kind)

    def check(self, shape: tuple[int, int]) -> None:
        self.outer.check(shape)

    def densest(self, shape: tuple[int, int]) -> float:
        outer = self.outer.densest(shape)
        return outer * self.inner.densest(self._small_shape(shape, outer))

    def reached(self, shape: tuple[int, int], density: Density) -> float:
        outer, inner = _pair(density)
        kept = self.outer.reached(shape, outer)
        small = self._small_shape(shape, outer)
        self.inner.check(small)
        return kept * self.inner.reached(small, inner)

    def project(self, matrix: Array, density: Density) -> tuple[Array, Support]:
        outer, inner = _pair(density)
        shape = (matrix.shape[0], matrix.shape[1])
        keep = self.outer.choose(matrix, outer)
        small, support = self.inner.project(self.outer.compact(matrix, keep), inner)
        if not isinstance(support, Mask):
            raise ConfigError(f"the inner structure of Within must be a mask, not {self.inner}")
        mask = self.outer.scatter(support.mask, keep, shape)
        return self.outer.scatter(small, keep, shape), Mask(mask)

    def groups(self, matrix: Array) -> Groups:
        """The outer groups: a penalty prepares the first level."""
        return self.outer.groups(matrix)

    @property
    def pack_height(self) -> int:
        return self.inner.pack_height if self._in_lists else self.outer.pack_height

    @property
    def pack_group(self) -> int:
        return self.inner.pack_group if self._in_lists else self.outer.pack_group

    @property
    def _in_lists(self) -> bool:
        """Whether the inner structure is finer than the panels of the packed layout."""
        return self.inner.pack_height < 32

    def to_dict(self) -> dict[str, Any]:
        return {"type": "Within", "outer": self.outer.to_dict(), "inner": self.inner.to_dict()}

    def _small_shape(self, shape: tuple[int, int], density: float) -> tuple[int, int]:
        return self.outer.compact_shape(shape, self.outer.densities(shape).count(density))


def _pair(density: Density) -> tuple[float, float]:
    if isinstance(density, tuple):
        if len(density) != 2:
            raise ConfigError(f"density of Within must be a pair (outer, inner), not {density}")
        return check_density(density[0]), check_density(density[1])
    root = check_density(density) ** 0.5
    return root, root
