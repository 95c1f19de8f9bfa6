"""Pattern sets: every tile of the matrix keeps one of a few patterns.

The second level of RT3 (arXiv 2102.06336): a small set of masks of
one size, and for each tile of the weight the mask that keeps most of it.  Rows
of a pattern come in groups of neighbours that share one row of the mask, since
kernels then read each activation once for the whole group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from retrim.errors import ConfigError, ShapeError
from retrim.structures.base import Density, Structure, _single, check_finite, energy, largest, total
from retrim.structures.densities import Densities
from retrim.structures.support import Mask, Support
from retrim.structures.view import Array

GROUPS = (1, 2, 4, 8)
"""Neighbouring rows that may share a row of a mask."""
_LEAST, _MOST = 4, 128  # height and width of a tile
_MOST_PATTERNS = 256


@dataclass(frozen=True)
class PatternSet(Structure):
    """Every tile of the matrix takes the pattern that keeps most of its norm, of equal ones the first.

    Parameters
    ----------
    patterns : tuple of str
        1 to 256 different ones that keep the same number of entries, so that the set has one
        density.  Each is the mask, (tile height / group, tile width) bits row by row, as
        hexadecimal digits, the first bit the highest; what is left of the last digit is zero.
        `of` makes them from arrays and `masks` gives them back.
    tile : (int, int)
        Height and width of a pattern, each 4 to 128.
    group : {1, 2, 4, 8}
        Neighbouring rows that share a row of the mask; divides the tile's height.

    Raises
    ------
    ConfigError
        If a field says something else.

    References
    ----------
    arXiv 2102.06336.
    """

    patterns: tuple[str, ...]
    tile: tuple[int, int]
    group: int = 4

    def __post_init__(self) -> None:
        tile = tuple(self.tile) if isinstance(self.tile, tuple | list) else ()
        if len(tile) != 2 or not all(type(side) is int and _LEAST <= side <= _MOST for side in tile):
            raise ConfigError(
                f"tile of PatternSet must be two whole numbers from {_LEAST} to {_MOST}, not {self.tile!r}"
            )
        if type(self.group) is not int or self.group not in GROUPS or tile[0] % self.group:
            raise ConfigError(
                f"group of PatternSet must be 1, 2, 4 or 8 and divide the tile's {tile[0]} rows, not {self.group!r}"
            )
        if not isinstance(self.patterns, tuple | list) or not 1 <= len(self.patterns) <= _MOST_PATTERNS:
            raise ConfigError(f"a PatternSet must have 1 to {_MOST_PATTERNS} patterns, not {self.patterns!r}")
        object.__setattr__(self, "tile", tile)
        object.__setattr__(self, "patterns", tuple(self.patterns))  # files have lists
        self._check_patterns()

    def __repr__(self) -> str:
        # checkpoints compare it, and errors quote it: a set is told by its size and a digest
        told = hashlib.sha256(" ".join(self.patterns).encode()).hexdigest()[:12]
        return (
            f"PatternSet({len(self.patterns)} of {self.tile[0]}x{self.tile[1]}, group={self.group}, {told})"
        )

    def to_dict(self) -> dict[str, Any]:
        spec = {"type": "PatternSet", "patterns": list(self.patterns)}
        return {**spec, "tile": list(self.tile), "group": self.group}

    def _check_patterns(self) -> None:
        digits = -(-self._bits // 4)
        for pattern in self.patterns:
            if not _is_mask(pattern, digits, self._bits):
                raise ConfigError(
                    f"a pattern must be {digits} hexadecimal digits in lower case for {self._bits} bits, "
                    f"the rest of the last one zero, not {pattern!r}"
                )
        kept = [int(pattern, 16).bit_count() for pattern in self.patterns]
        if len(set(kept)) > 1 or not kept[0]:
            raise ConfigError(
                "patterns of a set must keep one and the same number of entries, at least 1, not "
                f"{', '.join(map(str, sorted(set(kept))))}"
            )
        if len(set(self.patterns)) < len(self.patterns):
            raise ConfigError("patterns of a set must differ, but one of them is there twice")

    @classmethod
    def of(cls, masks: np.ndarray | Sequence[np.ndarray], group: int = 4) -> PatternSet:
        """A set from masks.

        Parameters
        ----------
        masks : array of bool, shape (patterns, tile height, tile width)
            Alike in each `group` of neighbouring rows.
        group : {1, 2, 4, 8}

        Raises
        ------
        ConfigError
            If rows of a group differ, or as the constructor does.
        """
        found = np.asarray(masks)
        if found.ndim != 3 or found.dtype != np.bool_:
            raise ConfigError(
                "masks of a PatternSet must be a bool array of shape (patterns, height, width), not "
                f"{found.dtype} {found.shape}"
            )
        tile = (int(found.shape[1]), int(found.shape[2]))
        if group not in GROUPS or tile[0] % group:
            raise ConfigError(
                f"group of PatternSet must be 1, 2, 4 or 8 and divide the tile's {tile[0]} rows, not {group!r}"
            )
        rows = found[:, ::group]
        if not np.array_equal(np.repeat(rows, group, axis=1), found):
            raise ConfigError(f"masks of a PatternSet must be alike in each {group} neighbouring rows")
        digits = -(-rows[0].size // 4) if len(rows) else 0
        texts = [np.packbits(row.reshape(-1)).tobytes().hex()[:digits] for row in rows]
        return cls(tuple(texts), tile, group)

    @property
    def masks(self) -> np.ndarray:
        """The patterns, bool, shape (patterns, tile height, tile width)."""
        rows = self._rows.reshape(len(self.patterns), -1, self.tile[1])
        found: np.ndarray = np.repeat(rows, self.group, axis=1)
        return found

    @property
    def density(self) -> float:
        """Kept entries over all, the only density that the set reaches."""
        return int(self.patterns[0], 16).bit_count() / self._bits

    @property
    def pack_height(self) -> int:
        return self.group

    def check(self, shape: tuple[int, int]) -> None:
        if len(shape) != 2 or 0 in shape:
            raise ShapeError(f"a weight matrix must have two non-empty dimensions, not {shape}")
        if shape[0] % self.tile[0] or shape[1] % self.tile[1]:
            raise ShapeError(
                f"a weight matrix must be whole tiles of {self.tile[0]} x {self.tile[1]} to take patterns, "
                f"not {shape[0]} x {shape[1]}"
            )

    def reached(self, shape: tuple[int, int], density: Density) -> float:
        self.check(shape)
        return Densities(steps=1, scale=self.density).nearest(_single(self, density))

    def densest(self, shape: tuple[int, int]) -> float:
        return self.density

    def choose(self, matrix: Array) -> Array:
        """Number of the pattern that each tile takes, int, shape (rows of tiles, columns of tiles)."""
        shape = (matrix.shape[0], matrix.shape[1])
        self.check(shape)
        check_finite(matrix)
        xp = array_namespace(matrix)
        energies = self._energies(matrix)
        kept = [
            total(xp.take(energies, xp.asarray(np.flatnonzero(row), device=device(matrix)), axis=1), axis=1)
            for row in self._rows
        ]
        best = largest(xp.stack(kept, axis=1), 1)  # libraries differ in which of equal ones argmax finds
        numbers = xp.argmax(xp.astype(best, xp.int64), axis=1)
        return xp.reshape(numbers, (shape[0] // self.tile[0], shape[1] // self.tile[1]))

    def project(self, matrix: Array, density: Density) -> tuple[Array, Support]:
        self.reached((matrix.shape[0], matrix.shape[1]), density)
        support = Mask(self.expand(self.choose(matrix)))
        return support.apply(matrix), support

    def expand(self, numbers: Array) -> Array:
        """Mask of a matrix whose tiles take these patterns.

        Parameters
        ----------
        numbers : array of int, shape (rows of tiles, columns of tiles)

        Returns
        -------
        array of bool, shape (out, in)
        """
        xp = array_namespace(numbers)
        down, across = numbers.shape
        lines = self.tile[0] // self.group
        rows = xp.asarray(self._rows.copy(), device=device(numbers))
        found = xp.reshape(
            xp.take(rows, xp.reshape(numbers, (-1,)), axis=0), (down, across, lines, self.tile[1])
        )
        found = xp.permute_dims(found, (0, 2, 1, 3))[:, :, None]
        found = xp.broadcast_to(found, (down, lines, self.group, across, self.tile[1]))
        return xp.reshape(found, (down * self.tile[0], across * self.tile[1]))

    @property
    def _bits(self) -> int:
        return self.tile[0] // self.group * self.tile[1]

    @property
    def _rows(self) -> np.ndarray:
        """Bits of each pattern, bool, shape (patterns, bits); read-only."""
        return _unpacked(self.patterns, self._bits)

    def _energies(self, matrix: Array) -> Array:
        """Sums of squares over the rows of a group, tile by tile, shape (tiles, bits of a pattern)."""
        xp = array_namespace(matrix)
        high, wide = self.tile
        down, across = matrix.shape[0] // high, matrix.shape[1] // wide
        lines = energy(
            xp.reshape(matrix, (matrix.shape[0] // self.group, self.group, matrix.shape[1])), axis=1
        )
        tiles = xp.permute_dims(xp.reshape(lines, (down, high // self.group, across, wide)), (0, 2, 1, 3))
        return xp.reshape(tiles, (down * across, self._bits))


def _is_mask(pattern: object, digits: int, bits: int) -> bool:
    if not isinstance(pattern, str) or len(pattern) != digits or not set(pattern) <= set("0123456789abcdef"):
        return False
    return int(pattern, 16) % (1 << (4 * digits - bits)) == 0


@lru_cache(maxsize=64)
def _unpacked(patterns: tuple[str, ...], bits: int) -> np.ndarray:
    whole = [np.frombuffer(bytes.fromhex(text + "0" * (len(text) % 2)), np.uint8) for text in patterns]
    rows = np.unpackbits(np.stack(whole), axis=1, count=bits).astype(bool)
    rows.flags.writeable = False
    return rows
