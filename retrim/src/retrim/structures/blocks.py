"""Columns of row blocks, rows of column blocks: the forms that dense hardware runs fast.

Block-structured pruning as in arXiv 2009.08065, section 3.1: the matrix is cut
into blocks, and inside each whole columns (or rows) are pruned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from array_api_compat import array_namespace

from retrim.errors import ConfigError, ShapeError
from retrim.structures.base import Grouped, energy
from retrim.structures.view import Array

Budget = Literal["balanced", "global"]


def _check_fields(structure: BlockColumns | BlockRows, extent: int, name: str) -> None:
    if isinstance(extent, bool) or not isinstance(extent, int) or extent < 1:
        raise ConfigError(f"{name} of {type(structure).__name__} must be a whole number >= 1, not {extent!r}")
    if structure.budget not in ("balanced", "global"):
        raise ConfigError(f"budget must be 'balanced' or 'global', not {structure.budget!r}")


@dataclass(frozen=True)
class BlockColumns(Grouped):
    """Each block of `rows` rows keeps whole columns of itself.

    Parameters
    ----------
    rows : int
        Height of a block; a multiple of 32 suits the kernels.
    budget : {"balanced", "global"}
        Balanced: every block keeps the same number of columns.  Global: the
        best of the layer, the paper's percentile.
    group : {1, 2, 4}
        Columns are kept or dropped in groups of so many neighbours, the first
        of which is a multiple of it: 2 suits kernels in bf16, 4 those in int8.
    """

    rows: int
    budget: Budget = "balanced"
    group: int = 1

    def __post_init__(self) -> None:
        _check_fields(self, self.rows, "rows")
        if type(self.group) is not int or self.group not in (1, 2, 4):
            raise ConfigError(f"group of BlockColumns must be 1, 2 or 4, not {self.group!r}")

    def __repr__(self) -> str:
        # checkpoints compare it: those from before there were groups must stay equal
        group = "" if self.group == 1 else f", group={self.group}"
        return f"BlockColumns(rows={self.rows}, budget={self.budget!r}{group})"

    def to_dict(self) -> dict[str, Any]:
        spec = super().to_dict()
        if self.group == 1:  # then files are those that were written before there were groups
            del spec["group"]
        return spec

    @property
    def balanced(self) -> bool:
        return self.budget == "balanced"

    @property
    def pack_height(self) -> int:
        return self.rows if self.rows % 32 == 0 else 32

    @property
    def pack_group(self) -> int:
        return self.group

    def check(self, shape: tuple[int, int]) -> None:
        super().check(shape)
        if shape[0] % self.rows:
            raise ShapeError(
                f"rows of {self} must divide the weight's {shape[0]} outputs: "
                f"choose one of {_divisors(shape[0])}"
            )
        if shape[1] % self.group:
            raise ShapeError(
                f"group of {self} must divide the weight's {shape[1]} inputs: "
                f"choose {'1 or 2' if shape[1] % 2 == 0 else 1}"
            )

    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        return shape[0] // self.rows, shape[1] // self.group

    def energies(self, matrix: Array) -> Array:
        xp = array_namespace(matrix)
        columns = xp.permute_dims(self._split(matrix), (0, 1, 3, 2))
        shape = self.grid((matrix.shape[0], matrix.shape[1]))
        return energy(xp.reshape(columns, (shape[0], self.rows * self.group, shape[1])), axis=1)

    def expand(self, values: Array, shape: tuple[int, int]) -> Array:
        xp = array_namespace(values)
        blocks, groups = self.grid(shape)
        spread = xp.broadcast_to(values[:, None, :, None], (blocks, self.rows, groups, self.group))
        return xp.reshape(spread, shape)

    def compact(self, matrix: Array, keep: Array) -> Array:
        xp = array_namespace(matrix)
        groups = xp.permute_dims(self._split(matrix), (0, 2, 1, 3))[keep]  # (kept in all blocks, rows, group)
        small = xp.reshape(groups, (keep.shape[0], -1, self.rows, self.group))
        return xp.reshape(xp.permute_dims(small, (0, 2, 1, 3)), (matrix.shape[0], -1))

    def compact_shape(self, shape: tuple[int, int], kept: int) -> tuple[int, int]:
        return shape[0], kept * self.group

    def scatter(self, small: Array, keep: Array, shape: tuple[int, int]) -> Array:
        xp = array_namespace(small)
        blocks, groups = self.grid(shape)
        full = xp.zeros((blocks, groups, self.rows, self.group), dtype=small.dtype, device=small.device)
        packed = xp.permute_dims(self._split(small), (0, 2, 1, 3))
        full[keep] = xp.reshape(packed, (-1, self.rows, self.group))
        return xp.reshape(xp.permute_dims(full, (0, 2, 1, 3)), shape)

    def _split(self, matrix: Array) -> Array:
        """Shape (blocks, rows, groups, group)."""
        xp = array_namespace(matrix)
        blocks, groups = self.grid((matrix.shape[0], matrix.shape[1]))
        return xp.reshape(matrix, (blocks, self.rows, groups, self.group))


@dataclass(frozen=True)
class BlockRows(Grouped):
    """Each block of `cols` columns keeps whole rows of itself.

    Parameters
    ----------
    cols : int
        Width of a block.
    budget : {"balanced", "global"}
        As for `BlockColumns`.
    """

    cols: int
    budget: Budget = "balanced"

    def __post_init__(self) -> None:
        _check_fields(self, self.cols, "cols")

    @property
    def balanced(self) -> bool:
        return self.budget == "balanced"

    def check(self, shape: tuple[int, int]) -> None:
        super().check(shape)
        if shape[1] % self.cols:
            raise ShapeError(
                f"cols of {self} must divide the weight's {shape[1]} inputs: "
                f"choose one of {_divisors(shape[1])}"
            )

    def grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        return shape[1] // self.cols, shape[0]

    def energies(self, matrix: Array) -> Array:
        xp = array_namespace(matrix)
        return energy(xp.reshape(matrix, (matrix.shape[0], -1, self.cols)), axis=2).T

    def expand(self, values: Array, shape: tuple[int, int]) -> Array:
        xp = array_namespace(values)
        blocks, rows = self.grid(shape)
        spread = xp.broadcast_to(values.T[:, :, None], (rows, blocks, self.cols))
        return xp.reshape(spread, shape)

    def compact(self, matrix: Array, keep: Array) -> Array:
        xp = array_namespace(matrix)
        blocks = xp.permute_dims(xp.reshape(matrix, (matrix.shape[0], -1, self.cols)), (1, 0, 2))
        small = xp.reshape(blocks[keep], (keep.shape[0], -1, self.cols))
        return xp.reshape(xp.permute_dims(small, (1, 0, 2)), (-1, matrix.shape[1]))

    def compact_shape(self, shape: tuple[int, int], kept: int) -> tuple[int, int]:
        return kept, shape[1]

    def scatter(self, small: Array, keep: Array, shape: tuple[int, int]) -> Array:
        xp = array_namespace(small)
        blocks, rows = self.grid(shape)
        full = xp.zeros((blocks, rows, self.cols), dtype=small.dtype, device=small.device)
        packed = xp.permute_dims(xp.reshape(small, (-1, blocks, self.cols)), (1, 0, 2))
        full[keep] = xp.reshape(packed, (-1, self.cols))
        return xp.reshape(xp.permute_dims(full, (1, 0, 2)), shape)


def _divisors(extent: int) -> str:
    found = [d for d in range(1, extent + 1) if extent % d == 0]
    good = [d for d in found if d % 32 == 0] or found
    return ", ".join(map(str, good[:12]))
