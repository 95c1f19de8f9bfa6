"""Patterns from importance maps, held to loops; nested sets are nested; what makes no sense is refused."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from retrim.errors import ConfigError, DensityError, ShapeError
from retrim.levels import Families, Tiling, draw_families, free_masks, list_masks, nested_masks

TILING = Tiling(height=8, width=4, group=2)


def weights(seed: int = 0, shape: tuple[int, int] = (24, 16)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tile_of(matrix: np.ndarray, down: int, across: int) -> np.ndarray:
    return matrix[8 * down : 8 * down + 8, 4 * across : 4 * across + 4]


def test_energies_of_cells_are_sums_over_their_rows() -> None:
    matrix = weights()
    found = TILING.energies(matrix)
    assert found.shape == (3, 4, 16)
    for down, across, group, column in product(range(3), range(4), range(4), range(4)):
        cell = tile_of(matrix, down, across)[2 * group : 2 * group + 2, column]
        assert found[down, across, 4 * group + column] == pytest.approx(
            float((cell.astype(float) ** 2).sum())
        )
    mark = np.arange(3 * 4 * 16).reshape(3, 4, 16)
    full = TILING.spread(mark)
    for row, column in product(range(24), range(16)):
        assert full[row, column] == mark[row // 8, column // 4, 4 * (row % 8 // 2) + column % 4]


def test_one_family_of_all_tiles_is_the_map_of_all() -> None:
    matrix = weights()
    found = draw_families([matrix], TILING, 1, density=0.25, seed=0, sample=1.0)
    total = sum(
        (tile_of(matrix, down, across).astype(float) ** 2).reshape(4, 2, 4).sum(axis=1)
        for down, across in product(range(3), range(4))
    )
    order = sorted(range(16), key=lambda cell: (-total.reshape(-1)[cell], cell))
    assert found.orders.tolist() == [order]
    assert set(np.flatnonzero(found.patterns(0.25)[0])) == set(order[:4])


def test_tiles_take_the_pattern_that_keeps_most() -> None:
    matrix = weights(1)
    families = draw_families([matrix], TILING, 3, density=0.5, seed=1, sample=0.2)
    mask = free_masks(families, matrix, [0.5])[0]
    masks = families.masks(0.5)
    assert masks.shape == (len(families), 8, 4)
    for down, across in product(range(3), range(4)):
        tile = tile_of(matrix, down, across).astype(float)
        kept = [float((tile**2)[pattern].sum()) for pattern in masks]
        best = max(range(len(kept)), key=lambda n: kept[n])
        assert np.array_equal(tile_of(mask, down, across), masks[best])


def test_nested_masks_lie_inside_each_other_and_keep_the_most_in_sum() -> None:
    matrix, densities = weights(2), [0.5, 0.25, 0.125]
    families = draw_families([matrix], TILING, 4, density=0.25, seed=2, sample=0.2)
    masks = nested_masks(families, matrix, densities)
    assert [mask.mean() for mask in masks] == densities
    for dense, sparse in pairwise(masks):
        assert not (sparse & ~dense).any()
    for down, across in product(range(3), range(4)):
        square = tile_of(matrix, down, across).astype(float) ** 2
        sums = [
            sum(float(square[families.masks(d)[n]].sum()) for d in densities) for n in range(len(families))
        ]
        best = max(range(len(sums)), key=lambda n: sums[n])
        assert all(
            np.array_equal(tile_of(mask, down, across), families.masks(d)[best])
            for mask, d in zip(masks, densities, strict=True)
        )
    # free sets keep at least as much at every density
    for free, nested in zip(free_masks(families, matrix, densities), masks, strict=True):
        assert (matrix[free] ** 2).sum() >= (matrix[nested] ** 2).sum() - 1e-4


def test_lists_keep_each_groups_strongest_columns_and_nest() -> None:
    matrix, densities = weights(6), [1.0, 0.5, 0.3, 0.01]
    matrix[:2, 3] = matrix[:2, 5]  # equal ones: the first stays longer
    masks = list_masks(matrix, 2, densities)
    for density, mask in zip(densities, masks, strict=True):
        count = max(1, round(density * 16))
        for row in range(0, 24, 2):
            energy = (matrix[row : row + 2].astype(float) ** 2).sum(axis=0)
            kept = sorted(range(16), key=lambda column: (-energy[column], column))[:count]
            assert sorted(np.flatnonzero(mask[row])) == sorted(kept)
            assert np.array_equal(mask[row], mask[row + 1])
    assert all(not (sparse & ~dense).any() for dense, sparse in pairwise(masks))
    families = draw_families([matrix], Tiling(height=8, width=4, group=2), 4, density=0.5, seed=0)
    bound = free_masks(families, matrix, [0.5])[0]
    assert (matrix[masks[1]] ** 2).sum() > (matrix[bound] ** 2).sum()


def test_refinement_never_keeps_less() -> None:
    matrices = [weights(3), weights(4, (16, 32))]

    def kept(families: Families) -> float:
        masks = [free_masks(families, matrix, [0.25])[0] for matrix in matrices]
        return sum(float((m[k].astype(float) ** 2).sum()) for m, k in zip(matrices, masks, strict=True))

    found = [
        kept(draw_families(matrices, TILING, 4, density=0.25, seed=5, sample=0.1, refinements=n))
        for n in range(5)
    ]
    assert all(after >= before - 1e-9 for before, after in pairwise(found))
    assert found[-1] > found[0]


def test_equal_families_are_kept_once_and_seeds_decide() -> None:
    alike = draw_families([weights()], TILING, 5, density=0.5, seed=0, sample=1.0)
    assert len(alike) == 1
    one, again, other = (
        draw_families([weights()], TILING, 3, density=0.5, seed=seed, sample=0.2) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.orders, again.orders)
    assert not np.array_equal(one.orders, other.orders)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: Tiling(height=2, width=8), ConfigError, "a tile must be 4 x 4 to 128 x 128, not 2 x 8"),
        (
            lambda: Tiling(height=12, width=8, group=8),
            ConfigError,
            "group of a tile must be 1, 2, 4 or 8 and divide its height 12, not 8",
        ),
        (
            lambda: TILING.energies(np.zeros((12, 8))),
            ShapeError,
            "tiles of 8 x 4 must fill the weight, not one of shape 12 x 8",
        ),
        (
            lambda: draw_families([weights()], TILING, 0, density=0.5, seed=0),
            ConfigError,
            "a pattern set must have at least one pattern, not 0",
        ),
        (
            lambda: draw_families([weights()], TILING, 2, density=0.5, seed=0, sample=0.0),
            ConfigError,
            "sample must be a share of the tiles, 0 < sample <= 1, not 0.0",
        ),
        (
            lambda: draw_families([weights()], TILING, 2, density=1.5, seed=0),
            DensityError,
            "density must be above 0 and at most 1, not 1.5",
        ),
        (
            lambda: list_masks(weights(), 2, [0.0]),
            DensityError,
            "density must be above 0 and at most 1, not 0.0",
        ),
        (
            lambda: list_masks(weights(), 5, [0.5]),
            ShapeError,
            "group must divide the rows of the weight, not 5 those of 24 x 16",
        ),
    ],
)
def test_what_makes_no_sense(make, error, sentence) -> None:
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == sentence
