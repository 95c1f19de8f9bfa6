"""Projections against an oracle that tries every admissible support of a small matrix."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrim.structures import (
    BlockColumns,
    BlockRows,
    Channels,
    Density,
    Elements,
    Filters,
    PatternSet,
    Structure,
    Within,
)

PATTERNS = PatternSet(("81", "42", "24", "18", "c0"), (4, 4), 2)

CASES: list[tuple[Structure, tuple[int, int], Density]] = [
    (Elements(), (3, 3), 4 / 9),
    (Elements(), (2, 5), 0.3),
    (Filters(), (6, 3), 0.5),
    (Channels(), (3, 6), 1 / 3),
    (BlockColumns(4), (8, 5), 2 / 5),
    (BlockColumns(2), (6, 4), 0.5),
    (BlockColumns(8, "global"), (16, 4), 3 / 8),
    (BlockColumns(2, "global"), (6, 4), 1 / 3),
    (BlockColumns(4, group=2), (8, 8), 0.5),
    (BlockColumns(2, group=4), (6, 12), 1 / 3),
    (BlockColumns(2, "global", group=2), (6, 6), 4 / 9),
    (BlockRows(4), (5, 8), 3 / 5),
    (BlockRows(3), (4, 9), 0.25),
    (BlockRows(4, "global"), (5, 8), 0.4),
    (Within(BlockColumns(4), Elements()), (4, 4), (0.5, 0.5)),
    (Within(BlockColumns(4), BlockColumns(2)), (8, 6), (2 / 3, 0.25)),
    (Within(BlockColumns(4, group=2), BlockColumns(2, group=2)), (8, 8), (0.5, 0.5)),
    (Within(BlockColumns(4, group=2), BlockColumns(2)), (8, 6), (2 / 3, 0.25)),
    (Within(BlockRows(4), BlockColumns(2)), (6, 8), (2 / 3, 3 / 8)),
    (Within(Filters(), Elements()), (6, 3), (0.5, 4 / 9)),
    (Within(Channels(), BlockRows(2, "global")), (4, 6), (2 / 3, 0.25)),
    (Within(BlockRows(2), Within(BlockColumns(2), Elements())), (4, 8), (0.5, 0.25)),
    (PATTERNS, (8, 12), 0.25),
    (PatternSet(("a5a5", "5a5a", "ff00", "00ff"), (4, 4), 1), (12, 4), 0.5),
    (Within(BlockColumns(4), PATTERNS), (8, 8), (0.5, 0.25)),
]

Group = tuple[tuple[int, int], ...]


def blocks_of(structure: Structure, rows: int, cols: int) -> list[list[Group]]:
    """Groups of every block that a budget is counted over, from the definition."""
    match structure:
        case Elements():
            return [[((r, c),) for r in range(rows) for c in range(cols)]]
        case Filters():
            return [[tuple((r, c) for c in range(cols)) for r in range(rows)]]
        case Channels():
            return [[tuple((r, c) for r in range(rows)) for c in range(cols)]]
        case BlockColumns(rows=high, group=wide):
            blocks = [
                [
                    tuple((r, c) for r in range(top, top + high) for c in range(left, left + wide))
                    for left in range(0, cols, wide)
                ]
                for top in range(0, rows, high)
            ]
        case BlockRows(cols=wide):
            blocks = [
                [tuple((r, c) for c in range(left, left + wide)) for r in range(rows)]
                for left in range(0, cols, wide)
            ]
        case _:
            raise AssertionError(structure)
    return blocks if structure.budget == "balanced" else [list(itertools.chain(*blocks))]


def choices(blocks: list[list[Group]], density: float) -> Iterator[tuple[tuple[Group, ...], ...]]:
    """Every admissible choice of groups, first those of low index."""
    kept = round(density * len(blocks[0]))
    return itertools.product(*(itertools.combinations(block, kept) for block in blocks))


def best(structure: Structure, matrix: np.ndarray, density: float) -> list[list[Group]]:
    """Kept groups of every block that leave the least behind; the first of equals."""
    energy = matrix.astype(np.float64) ** 2

    def kept_energy(choice: tuple[tuple[Group, ...], ...]) -> float:
        return sum(energy[entry] for block in choice for group in block for entry in group)

    found = max(choices(blocks_of(structure, *matrix.shape), density), key=kept_energy)
    return [list(block) for block in found]


def oracle(structure: Structure, matrix: np.ndarray, density: Density) -> np.ndarray:
    """Support of the nearest matrix; of a composed structure, stage by stage."""
    mask = np.zeros(matrix.shape, bool)
    if isinstance(structure, PatternSet):
        return best_patterns(structure, matrix)
    if not isinstance(structure, Within):
        assert isinstance(density, float)
        for block in best(structure, matrix, density):
            for group in block:
                for entry in group:
                    mask[entry] = True
        return mask
    outer, inner = density if isinstance(density, tuple) else (math.sqrt(density),) * 2
    kept = best(structure.outer, matrix, outer)
    entries = moved_together(structure.outer, kept)
    small = np.array([[matrix[entry] for entry in row] for row in entries])
    for row, column in zip(*np.nonzero(oracle(structure.inner, small, inner)), strict=True):
        mask[entries[row][column]] = True
    return mask


def best_patterns(structure: PatternSet, matrix: np.ndarray) -> np.ndarray:
    """Every pattern tried in every tile; the first of those that keep most."""
    high, wide = structure.tile
    energy = matrix.astype(np.float64) ** 2
    mask = np.zeros(matrix.shape, bool)
    for top in range(0, matrix.shape[0], high):
        for left in range(0, matrix.shape[1], wide):
            tile = energy[top : top + high, left : left + wide]
            kept = [sum(tile[entry] for entry in zip(*np.nonzero(m), strict=True)) for m in structure.masks]
            mask[top : top + high, left : left + wide] = structure.masks[kept.index(max(kept))]
    return mask


def moved_together(outer: Structure, kept: list[list[Group]]) -> list[list[tuple[int, int]]]:
    """Entries of the smaller matrix that the kept groups make, row by row."""
    if isinstance(outer, Filters):
        return [list(group) for group in kept[0]]
    if isinstance(outer, BlockRows):  # beside each other: row i of every block
        return [[e for group in row for e in group] for row in zip(*kept, strict=True)]
    rows = outer.rows if isinstance(outer, BlockColumns) else None
    return [row for block in kept for row in beside(block, rows)]  # blocks below each other


def beside(block: list[Group], rows: int | None) -> list[list[tuple[int, int]]]:
    """Rows of the matrix that the groups of a block make side by side; a group lists its entries row by row."""
    high = len(block[0]) if rows is None else rows
    wide = len(block[0]) // high
    return [[e for group in block for e in group[r * wide : (r + 1) * wide]] for r in range(high)]


def case_name(case: object) -> str:
    return repr(case).replace(" ", "")


@pytest.mark.parametrize(("structure", "shape", "density"), CASES, ids=case_name)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_projection_is_nearest(
    structure: Structure, shape: tuple[int, int], density: Density, data: st.DataObject
) -> None:
    # whole numbers: all sums are exact and ties are frequent, so the very support is known
    matrix = data.draw(arrays.arrays(np.float32, shape, elements=st.integers(-3, 3)))
    expected = oracle(structure, matrix, density)
    for stored in (matrix, torch.tensor(matrix)):
        projected, support = structure.project(stored, density)
        np.testing.assert_array_equal(np.asarray(support.mask), expected)
        np.testing.assert_array_equal(np.asarray(projected), np.where(expected, matrix, 0))


@pytest.mark.parametrize(("structure", "shape", "density"), CASES, ids=case_name)
@pytest.mark.parametrize("seed", range(3))
def test_projection_of_reals_is_nearest(
    structure: Structure, shape: tuple[int, int], density: Density, seed: int
) -> None:
    matrix = np.random.default_rng(seed).standard_normal(shape)
    least = np.where(oracle(structure, matrix, density), 0, matrix)
    for stored in (matrix, torch.tensor(matrix), torch.tensor(matrix, dtype=torch.float32)):
        projected = np.asarray(structure.project(stored, density)[0])
        assert np.linalg.norm(matrix - projected) == pytest.approx(np.linalg.norm(least), rel=1e-6)


def test_equal_groups_keep_the_first_in_a_large_matrix() -> None:
    """Sums of many squares must come out alike for groups that are alike."""
    column = np.random.default_rng(0).standard_normal((96, 1)).astype(np.float32)
    matrix = np.repeat(column, 37, axis=1)
    expected = np.repeat((np.arange(37) < 12)[None], 96, axis=0)
    for stored in (matrix, np.asfortranarray(matrix), torch.tensor(matrix), torch.tensor(matrix.T.copy()).T):
        for structure in (Channels(), BlockColumns(32), BlockColumns(96)):
            mask = structure.project(stored, 12 / 37)[1].mask
            np.testing.assert_array_equal(np.asarray(mask), expected)
        kept = BlockRows(3).project(stored.T, 12 / 37)[1].mask
        np.testing.assert_array_equal(np.asarray(kept), expected.T)
