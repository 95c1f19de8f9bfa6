"""Pattern sets: how they are written, what they refuse, and what the kernels' layout makes of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from retrim.artifact.layout import ListView, parse
from retrim.errors import ConfigError, ShapeError
from retrim.structures import BlockColumns, PatternSet, Segments, Within, from_dict

SET = PatternSet(("81", "42", "24"), (4, 4), 2)


def random_set(tile: tuple[int, int], group: int, density: float, patterns: int, seed: int = 0) -> PatternSet:
    rng = np.random.default_rng(seed)
    bits = tile[0] // group * tile[1]
    rows = np.zeros((patterns, bits), bool)
    for row in rows:
        row[rng.permutation(bits)[: max(1, round(density * bits))]] = True
    return PatternSet.of(np.repeat(rows.reshape(patterns, -1, tile[1]), group, axis=1), group)


def test_a_pattern_is_its_bits_row_by_row() -> None:
    assert SET.masks[0].astype(int).tolist() == [[1, 0, 0, 0]] * 2 + [[0, 0, 0, 1]] * 2
    assert SET.masks[1].astype(int).tolist() == [[0, 1, 0, 0]] * 2 + [[0, 0, 1, 0]] * 2
    assert SET.density == 0.25
    odd = PatternSet.of(np.ones((1, 4, 5), bool), 4)  # five bits are two digits, three bits of them none
    assert odd.patterns == ("f8",)
    assert odd.masks.all()


@pytest.mark.parametrize("group", [1, 2, 4, 8])
@pytest.mark.parametrize("tile", [(8, 4), (8, 7), (128, 128), (16, 33)])
def test_masks_come_back(tile: tuple[int, int], group: int) -> None:
    made = random_set(tile, group, 1 / 3, 2)
    assert PatternSet.of(made.masks, group) == made
    assert made.masks.shape == (2, *tile)
    assert made.masks.mean() == pytest.approx(made.density)
    assert from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_it_is_written_with_its_digits_and_told_by_a_digest() -> None:
    assert SET.to_dict() == {"type": "PatternSet", "patterns": ["81", "42", "24"], "tile": [4, 4], "group": 2}
    assert repr(SET) == "PatternSet(3 of 4x4, group=2, 7b49fe12a6dd)"
    assert repr(SET) != repr(PatternSet(("81", "42", "18"), (4, 4), 2))


def test_of_equal_patterns_the_first_is_taken() -> None:
    for ones in (np.ones((8, 8), np.float32), torch.ones(8, 8)):
        assert not np.asarray(SET.choose(ones)).any()
    matrix = np.zeros((4, 8), np.float32)
    matrix[0, 1] = matrix[3, 6] = (
        2.0  # in the first tile the second pattern, in the other the second and third
    )
    assert SET.choose(matrix).tolist() == [[1, 1]]
    np.testing.assert_array_equal(SET.expand(np.array([[1, 0]]))[:, :4], SET.masks[1])


def test_it_packs_into_row_groups() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
    inner = random_set((16, 12), 4, 0.5, 4)
    for structure, density in (
        (inner, 0.5),
        (Within(BlockColumns(32), inner), (0.5, 0.5)),
        (Segments(inner, 16, (0, 2, 3)), 0.375),
    ):
        projected, support = structure.project(weight, density)
        view = parse(structure.pack(projected, support))
        assert isinstance(view, ListView)
        assert (view.height, view.segments) == (4, 1)
        assert view.stored_density == support.density
        back, stored = structure.unpack(structure.pack(projected, support))
        np.testing.assert_array_equal(back, projected)
        np.testing.assert_array_equal(stored.mask, support.mask)


def test_whole_tiles_are_asked_for() -> None:
    for shape in ((6, 8), (8, 6)):
        with pytest.raises(ShapeError) as caught:
            SET.project(np.ones(shape, np.float32), 0.25)
        assert str(caught.value) == (
            f"a weight matrix must be whole tiles of 4 x 4 to take patterns, not {shape[0]} x {shape[1]}"
        )


TILE = "tile of PatternSet must be two whole numbers from 4 to 128, not "
GROUP = "group of PatternSet must be 1, 2, 4 or 8 and divide the tile's 4 rows, not "
DIGITS = (
    "a pattern must be 2 hexadecimal digits in lower case for 8 bits, the rest of the last one zero, not "
)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ((("81",), (3, 4), 1), TILE + "(3, 4)"),
        ((("81",), (4, 129), 2), TILE + "(4, 129)"),
        ((("81",), (4, 4, 4), 2), TILE + "(4, 4, 4)"),
        ((("81",), 4, 2), TILE + "4"),
        ((("81",), (4.0, 4), 2), TILE + "(4.0, 4)"),
        ((("81",), (4, 4), 3), GROUP + "3"),
        ((("81",), (4, 4), 8), GROUP + "8"),
        ((("81",), (4, 4), True), GROUP + "True"),
        (((), (4, 4), 2), "a PatternSet must have 1 to 256 patterns, not ()"),
        (("81", (4, 4), 2), "a PatternSet must have 1 to 256 patterns, not '81'"),
        ((("811",), (4, 4), 2), DIGITS + "'811'"),
        ((("8G",), (4, 4), 2), DIGITS + "'8G'"),
        ((("8A",), (4, 4), 2), DIGITS + "'8A'"),
        (((129,), (4, 4), 2), DIGITS + "129"),
        (
            (("04",), (4, 5), 4),
            "a pattern must be 2 hexadecimal digits in lower case for 5 bits, the rest of the last one zero, not '04'",
        ),
        (
            (("81", "c1"), (4, 4), 2),
            "patterns of a set must keep one and the same number of entries, at least 1, not 2, 3",
        ),
        (
            (("00",), (4, 4), 2),
            "patterns of a set must keep one and the same number of entries, at least 1, not 0",
        ),
        ((("81", "42", "81"), (4, 4), 2), "patterns of a set must differ, but one of them is there twice"),
    ],
)
def test_fields_out_of_range(fields: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PatternSet(*fields)
    assert str(caught.value) == sentence


def test_masks_out_of_form() -> None:
    cases = [
        (
            np.ones((4, 4), bool),
            4,
            "masks of a PatternSet must be a bool array of shape (patterns, height, width), not bool (4, 4)",
        ),
        (
            np.ones((1, 4, 4)),
            4,
            "masks of a PatternSet must be a bool array of shape (patterns, height, width), not float64 (1, 4, 4)",
        ),
        (np.eye(4, dtype=bool)[None], 2, "masks of a PatternSet must be alike in each 2 neighbouring rows"),
        (np.ones((1, 4, 4), bool), 8, GROUP + "8"),
        (np.ones((0, 4, 4), bool), 4, "a PatternSet must have 1 to 256 patterns, not ()"),
    ]
    for masks, group, sentence in cases:
        with pytest.raises(ConfigError) as caught:
            PatternSet.of(masks, group)
        assert str(caught.value) == sentence
