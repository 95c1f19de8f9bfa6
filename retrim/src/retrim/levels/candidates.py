"""Candidate patterns from the backbone's own weights: importance maps over sampled tiles (arXiv 2102.06336)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrim.errors import ConfigError, DensityError, ShapeError


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How matrices are cut.

    Parameters
    ----------
    height, width : int
        Of a tile.
    group : int
        Neighbouring rows that share a row of the mask; divides the height.
    """

    height: int
    width: int
    group: int = 1

    def __post_init__(self) -> None:
        if not (4 <= self.height <= 128 and 4 <= self.width <= 128):
            raise ConfigError(f"a tile must be 4 x 4 to 128 x 128, not {self.height} x {self.width}")
        if self.group not in (1, 2, 4, 8) or self.height % self.group:
            raise ConfigError(
                f"group of a tile must be 1, 2, 4 or 8 and divide its height {self.height}, not {self.group}"
            )

    @property
    def cells(self) -> int:
        """Decisions in a tile: columns of each group of rows."""
        return self.height // self.group * self.width

    def kept(self, density: float) -> int:
        """Cells that a pattern of a density keeps, at least one.

        Raises
        ------
        DensityError
        """
        return count_kept(density, self.cells)

    def reached(self, density: float) -> float:
        """The density that a request for one gives."""
        return self.kept(density) / self.cells

    def energies(self, matrix: np.ndarray) -> np.ndarray:
        """Energy of every cell of every tile.

        Parameters
        ----------
        matrix : ndarray, shape (out, in)

        Returns
        -------
        ndarray of float64, shape (tiles down, tiles across, cells)

        Raises
        ------
        ShapeError
            If tiles do not fill the matrix.
        """
        rows, columns = matrix.shape
        if rows % self.height or columns % self.width:
            raise ShapeError(
                f"tiles of {self.height} x {self.width} must fill the weight, not one of shape {rows} x {columns}"
            )
        groups = self.height // self.group
        cut = np.square(matrix, dtype=np.float64).reshape(
            rows // self.height, groups, self.group, columns // self.width, self.width
        )
        found: np.ndarray = cut.sum(axis=2).transpose(0, 2, 1, 3)
        return found.reshape(len(cut), -1, self.cells)

    def spread(self, kept: np.ndarray) -> np.ndarray:
        """Cells of tiles as a matrix.

        Parameters
        ----------
        kept : ndarray, shape (tiles down, tiles across, cells)

        Returns
        -------
        ndarray, shape (out, in)
        """
        down, across, _ = kept.shape
        cut = kept.reshape(down, across, self.height // self.group, 1, self.width)
        full = np.broadcast_to(cut, (*cut.shape[:3], self.group, self.width))
        return full.transpose(0, 2, 3, 1, 4).reshape(down * self.height, across * self.width)


@dataclass(frozen=True, eq=False)
class Families:
    """A set of patterns at every density: the cells of a tile in the order of their importance.

    Attributes
    ----------
    tiling : Tiling
    orders : ndarray of int, shape (families, cells)
        Cells, the most important first.
    """

    tiling: Tiling
    orders: np.ndarray

    def __len__(self) -> int:
        return len(self.orders)

    def patterns(self, density: float) -> np.ndarray:
        """Masks of the cells, bool, shape (families, cells)."""
        found = np.zeros(self.orders.shape, dtype=bool)
        np.put_along_axis(found, self.orders[:, : self.tiling.kept(density)], True, axis=1)
        return found

    def masks(self, density: float) -> np.ndarray:
        """Masks of whole tiles, bool, shape (families, height, width)."""
        return np.stack([self.tiling.spread(pattern[None, None]) for pattern in self.patterns(density)])

    def assigned(self, matrix: np.ndarray, densities: Sequence[float]) -> np.ndarray:
        """For each tile, the family that keeps most of its energy, summed over the densities.

        Returns
        -------
        ndarray of int, shape (tiles down, tiles across)
        """
        energies = self.tiling.energies(matrix)
        return _best(energies, [self.patterns(density) for density in densities])

    def mask(self, families: np.ndarray, density: float) -> np.ndarray:
        """The mask of a matrix whose tiles take these families, bool, shape (out, in)."""
        return self.tiling.spread(self.patterns(density)[families])


def nested_masks(families: Families, matrix: np.ndarray, densities: Sequence[float]) -> list[np.ndarray]:
    """One mask for each density, each inside all denser ones: tiles take one family for all of them."""
    taken = families.assigned(matrix, densities)
    return [families.mask(taken, density) for density in densities]


def free_masks(families: Families, matrix: np.ndarray, densities: Sequence[float]) -> list[np.ndarray]:
    """One mask for each density, every tile with the family that is best there."""
    return [families.mask(families.assigned(matrix, [density]), density) for density in densities]


def list_masks(matrix: np.ndarray, group: int, densities: Sequence[float]) -> list[np.ndarray]:
    """One mask for each density, each inside all denser ones: every group of rows keeps its own strongest columns.

    Parameters
    ----------
    matrix : ndarray, shape (out, in)
    group : int
        Neighbouring rows that share a row of the mask; divides the rows.
    densities : sequence of float

    Returns
    -------
    list of ndarray of bool, shape (out, in)

    Raises
    ------
    DensityError, ShapeError
    """
    rows, columns = matrix.shape
    if rows % group:
        raise ShapeError(f"group must divide the rows of the weight, not {group} those of {rows} x {columns}")
    energies = np.square(matrix, dtype=np.float64).reshape(-1, group, columns).sum(axis=1)
    places = np.argsort(np.argsort(-energies, axis=1, kind="stable"), axis=1)
    return [np.repeat(places < count_kept(density, columns), group, axis=0) for density in densities]


def count_kept(density: float, of: int) -> int:
    """How many of so many cells or columns a density keeps, at least one.

    Raises
    ------
    DensityError
    """
    if not 0 < density <= 1:
        raise DensityError(f"density must be above 0 and at most 1, not {density}")
    return max(1, int(density * of + 0.5))


def draw_families(
    matrices: Sequence[np.ndarray],
    tiling: Tiling,
    count: int,
    *,
    density: float,
    seed: int,
    sample: float = 0.1,
    refinements: int = 4,
) -> Families:
    """Families from the weights of a backbone.

    Parameters
    ----------
    matrices : sequence of ndarray, shape (out, in)
        All weights that share the set.
    tiling : Tiling
    count : int
        Families; fewer where samples agree.
    density : float
        That patterns are compared at while they are refined.
    seed : int
    sample : float
        Share of the tiles that a first map is summed over.
    refinements : int
        Rounds of assigning tiles and summing maps anew.

    Raises
    ------
    ConfigError, DensityError, ShapeError
    """
    if count < 1:
        raise ConfigError(f"a pattern set must have at least one pattern, not {count}")
    if not 0 < sample <= 1:
        raise ConfigError(f"sample must be a share of the tiles, 0 < sample <= 1, not {sample}")
    energies = np.concatenate([tiling.energies(matrix).reshape(-1, tiling.cells) for matrix in matrices])
    draw = np.random.default_rng(seed)
    taken = max(1, round(sample * len(energies)))
    maps = np.stack(
        [energies[draw.choice(len(energies), taken, replace=False)].sum(axis=0) for _ in range(count)]
    )
    families = _families(tiling, maps)
    for _ in range(refinements):
        found = _best(energies[None], [families.patterns(density)])[0]
        maps = np.stack(
            [
                energies[found == number].sum(axis=0) if (found == number).any() else maps[number]
                for number in range(len(families))
            ]
        )
        families = _families(tiling, maps)
        maps = maps[: len(families)]
    return families


def _families(tiling: Tiling, maps: np.ndarray) -> Families:
    """Orders of cells by importance; equal orders once."""
    orders = np.argsort(-maps, axis=1, kind="stable")
    _, first = np.unique(orders, axis=0, return_index=True)
    return Families(tiling, orders[np.sort(first)])


def _best(energies: np.ndarray, patterns: Sequence[np.ndarray]) -> np.ndarray:
    """Number of the pattern that keeps most, summed over sets of patterns; the first of equal ones."""
    kept = sum(energies @ pattern.T.astype(np.float64) for pattern in patterns)
    found: np.ndarray = np.asarray(kept).argmax(axis=-1)
    return found
