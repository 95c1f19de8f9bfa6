"""Whole segments of rows or columns taken away, another structure inside those that stay.

An attention head is such a segment: rows of the query's, key's and value's weights,
and columns of the output's.  Which ones stay is part of the form, and is decided before
(`retrim.prune.heads`): rows of one weight then belong to columns of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, device

from retrim.errors import ConfigError, DensityError, ShapeError
from retrim.structures.base import Density, Groups, Structure, energy
from retrim.structures.densities import REFUSED_BEYOND, check_density
from retrim.structures.support import Mask, Support
from retrim.structures.view import Array, Kind


@dataclass(frozen=True)
class Segments(Structure):
    """Neighbouring rows (or columns) are kept or dropped together; `inner` holds inside what is kept.

    Parameters
    ----------
    inner : Structure
        Of the kept segments, moved together.
    size : int
        Rows or columns of a segment.
    kept : tuple of int
        Segments that stay, ascending, counted from 0.
    axis : {"rows", "columns"}

    Notes
    -----
    A density counts the whole weight, and is at most what the kept segments leave; a tuple of
    densities is `inner`'s own.  With rows, outputs that are dropped are silent: their bias goes too.
    """

    inner: Structure
    size: int
    kept: tuple[int, ...]
    axis: Literal["rows", "columns"] = "rows"

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Structure):
            raise ConfigError(f"the inner structure of Segments must be a structure, not {self.inner!r}")
        if type(self.size) is not int or self.size < 1:
            raise ConfigError(f"size of Segments must be a whole number >= 1, not {self.size!r}")
        if self.axis not in ("rows", "columns"):
            raise ConfigError(f"axis of Segments must be 'rows' or 'columns', not {self.axis!r}")
        kept = self.kept if isinstance(self.kept, tuple | list) else ()
        whole = all(type(place) is int and place >= 0 for place in kept)
        if not kept or not whole or list(kept) != sorted(set(kept)):
            raise ConfigError(
                f"kept of Segments must be one or more whole numbers >= 0 that grow, not {self.kept!r}"
            )
        object.__setattr__(self, "kept", tuple(kept))  # files have lists

    def view(self, weight: Array, kind: Kind) -> Array:
        return self.inner.view(weight, kind)

    def unview(self, matrix: Array, shape: tuple[int, ...], kind: Kind) -> Array:
        return self.inner.unview(matrix, shape, kind)

    def view_shape(self, shape: tuple[int, ...], kind: Kind) -> tuple[int, int]:
        return self.inner.view_shape(shape, kind)

    def check(self, shape: tuple[int, int]) -> None:
        if len(shape) != 2 or 0 in shape:
            raise ShapeError(f"a weight matrix must have two non-empty dimensions, not {shape}")
        extent = shape[self._axis]
        if extent % self.size or self.kept[-1] >= extent // self.size:
            raise ShapeError(
                f"the {self.axis} of a weight must be segments of {self.size}, {self.kept[-1] + 1} or more of them, "
                f"not {extent}"
            )
        self.inner.check(self._small(shape))

    def densest(self, shape: tuple[int, int]) -> float:
        return self._share(shape) * self.inner.densest(self._small(shape))

    def silent(self, shape: tuple[int, int]) -> np.ndarray | None:
        if self.axis == "columns" or len(self.kept) == shape[0] // self.size:
            return None
        return ~self._keep(shape)

    def reached(self, shape: tuple[int, int], density: Density) -> float:
        self.check(shape)
        return self._share(shape) * self.inner.reached(
            self._small(shape), self._inner_density(shape, density)
        )

    def project(self, matrix: Array, density: Density) -> tuple[Array, Support]:
        shape = (matrix.shape[0], matrix.shape[1])
        self.check(shape)
        small, support = self.inner.project(self.take(matrix), self._inner_density(shape, density))
        if not isinstance(support, Mask):
            raise ConfigError(f"the inner structure of Segments must be a mask, not {self.inner}")
        return self.put(small, shape), Mask(self.put(support.mask, shape))

    def groups(self, matrix: Array) -> Groups | None:
        """The inner groups, and each dropped segment as one."""
        inner = self.inner.groups(self.take(matrix))
        return None if inner is None else _SegmentGroups(self, inner, matrix)

    @property
    def pack_height(self) -> int:
        return self.inner.pack_height

    @property
    def pack_group(self) -> int:
        return self.inner.pack_group

    def to_dict(self) -> dict[str, Any]:
        spec = {"type": "Segments", "inner": self.inner.to_dict()}
        return {**spec, "size": self.size, "kept": list(self.kept), "axis": self.axis}

    def take(self, matrix: Array, *, dropped: bool = False) -> Array:
        """The kept segments of a matrix, or the dropped ones, moved together."""
        keep = self._keep_like(matrix)
        keep = ~keep if dropped else keep
        return matrix[keep, :] if self.axis == "rows" else matrix[:, keep]

    def put(self, small: Array, shape: tuple[int, int], dropped: Array | None = None) -> Array:
        """Undo `take`: zero, or `dropped`, where nothing was kept."""
        full = array_namespace(small).zeros(shape, dtype=small.dtype, device=device(small))
        keep = self._keep_like(full)
        for part, where in ((small, keep), (dropped, ~keep)):
            if part is None:
                continue
            if self.axis == "rows":
                full[where, :] = part
            else:
                full[:, where] = part
        return full

    @property
    def _axis(self) -> int:
        return 0 if self.axis == "rows" else 1

    def _share(self, shape: tuple[int, int]) -> float:
        return len(self.kept) * self.size / shape[self._axis]

    def _small(self, shape: tuple[int, int]) -> tuple[int, int]:
        extent = len(self.kept) * self.size
        return (extent, shape[1]) if self.axis == "rows" else (shape[0], extent)

    def _keep(self, shape: tuple[int, int]) -> np.ndarray:
        """Rows or columns that stay, bool."""
        segments = np.zeros(shape[self._axis] // self.size, dtype=bool)
        segments[list(self.kept)] = True
        return np.repeat(segments, self.size)

    def _keep_like(self, matrix: Array) -> Array:
        keep = self._keep((matrix.shape[0], matrix.shape[1]))
        return array_namespace(matrix).asarray(keep, device=device(matrix))

    def _inner_density(self, shape: tuple[int, int], density: Density) -> Density:
        if isinstance(density, tuple):
            return density
        share = self._share(shape)
        if check_density(density) - share > REFUSED_BEYOND * density:
            raise DensityError(
                f"density must be at most {share:g}, which {len(self.kept)} of {shape[self._axis] // self.size} "
                f"segments leave, not {density:g}"
            )
        return min(1.0, density / share)


@dataclass(frozen=True, eq=False)
class _SegmentGroups(Groups):
    """Groups of the inner structure first, then the dropped segments."""

    structure: Segments
    inner: Groups
    like: Array

    @property
    def ids(self) -> Array:
        xp = array_namespace(self.like)
        small = self.inner.ids
        count = int(xp.max(small)) + 1
        dropped = xp.arange(self._dropped, device=device(self.like)) + count
        return self.structure.put(small, self._shape, self._spread(xp.astype(dropped, small.dtype)))

    def norms(self, matrix: Array) -> Array:
        xp = array_namespace(matrix)
        dropped = self.structure.take(matrix, dropped=True)
        lines = dropped if self.structure.axis == "rows" else dropped.T
        if not self._dropped:
            return self.inner.norms(self.structure.take(matrix))
        energies = energy(xp.reshape(lines, (self._dropped, -1)), axis=1)
        return xp.concat([self.inner.norms(self.structure.take(matrix)), xp.sqrt(energies)])

    def spread(self, values: Array) -> Array:
        count = values.shape[0] - self._dropped
        return self.structure.put(
            self.inner.spread(values[:count]), self._shape, self._spread(values[count:])
        )

    @property
    def contest(self) -> Array:
        """Those of the inner structure; a dropped segment competes with none."""
        xp = array_namespace(self.like)
        inner = self.inner.contest
        alone = xp.arange(self._dropped, dtype=inner.dtype, device=device(self.like)) + int(xp.max(inner)) + 1
        return xp.concat([inner, alone])

    @property
    def _shape(self) -> tuple[int, int]:
        return (self.like.shape[0], self.like.shape[1])

    @property
    def _dropped(self) -> int:
        axis = 0 if self.structure.axis == "rows" else 1
        return int(self._shape[axis] // self.structure.size - len(self.structure.kept))

    def _spread(self, values: Array) -> Array:
        """One value per dropped segment, written to a shape that the dropped part of a matrix takes."""
        xp = array_namespace(values)
        lines = xp.reshape(
            xp.broadcast_to(values[:, None], (self._dropped, self.structure.size)),
            (self._dropped * self.structure.size,),
        )
        return lines[:, None] if self.structure.axis == "rows" else lines[None, :]
