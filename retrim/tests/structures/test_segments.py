"""Segments of rows or columns, and another structure inside those that stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from retrim.artifact.layout import parse
from retrim.errors import ConfigError, DensityError, RetrimError, ShapeError
from retrim.structures import BlockColumns, Elements, Filters, Segments, Structure, Within, from_dict

INNER: list[Structure] = [
    BlockColumns(4),
    BlockColumns(4, "global", group=2),
    Filters(),
    Elements(),
    Within(BlockColumns(4), Elements()),
]
FORMS = [
    Segments(inner=inner, size=8, kept=kept, axis=axis)
    for inner in INNER
    for kept, axis in (((0, 2), "rows"), ((1,), "columns"), ((1, 3), "columns"), ((0, 1, 2, 3), "rows"))
]
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: repr(form).replace(" ", ""))


def drawn(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((32, 32)).astype(np.float32)


def values(array: Any) -> np.ndarray:
    return array.numpy() if isinstance(array, torch.Tensor) else array


def kept_of(form: Segments) -> np.ndarray:
    """Entries in the segments that stay."""
    lines = np.isin(np.arange(32) // 8, form.kept)
    return np.broadcast_to(lines[:, None] if form.axis == "rows" else lines[None, :], (32, 32))


@forms
@pytest.mark.parametrize("array", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_the_inner_projection_inside_what_is_kept(form: Segments, array: Any) -> None:
    matrix = drawn()
    share = len(form.kept) / 4
    projected, support = form.project(array(matrix), share / 2)
    where = kept_of(form)
    small = matrix[where].reshape((-1, 32) if form.axis == "rows" else (32, -1))
    inside, _ = form.inner.project(small, 0.5)
    expected = np.zeros_like(matrix)
    expected[where] = inside.reshape(-1)
    np.testing.assert_array_equal(values(projected), expected)
    assert support.density == pytest.approx(form.reached((32, 32), share / 2), rel=1e-12)
    np.testing.assert_array_equal(values(projected), np.where(values(support.mask), matrix, 0))
    twice, again = form.project(projected, share / 2)
    np.testing.assert_array_equal(values(twice), values(projected))
    np.testing.assert_array_equal(values(again.mask), values(support.mask))


@forms
@pytest.mark.parametrize("array", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_groups_partition_the_matrix(form: Segments, array: Any) -> None:
    matrix = drawn()
    groups = form.groups(array(matrix))
    assert groups is not None
    ids = values(groups.ids)
    sizes = np.bincount(ids.reshape(-1))
    assert (sizes > 0).all()
    norms = np.sqrt(np.bincount(ids.reshape(-1), (matrix.astype(np.float64) ** 2).reshape(-1)))
    np.testing.assert_allclose(values(groups.norms(array(matrix))), norms, rtol=1e-5)
    marks = np.arange(len(sizes), dtype=np.float32) + 0.5
    np.testing.assert_array_equal(values(groups.spread(array(marks))), marks[ids])
    dropped = ids[~kept_of(form)]
    assert not set(dropped) & set(ids[kept_of(form)])
    assert len(set(dropped)) == 4 - len(form.kept)
    contest = values(groups.contest)
    inside = set(contest[sorted(set(ids[kept_of(form)]))])
    alone = contest[sorted(set(dropped))]
    assert len(set(alone)) == len(alone) and not set(alone) & inside


@forms
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_packed_and_unpacked(form: Segments, precision: str) -> None:
    projected, support = form.project(drawn(), len(form.kept) / 8)
    pack = form.pack(projected, support, precision)
    unpacked, stored = form.unpack(pack)
    room = {"fp32": 0.0, "bf16": 2.0**-8, "int8": 0.02}[precision]
    assert np.abs(unpacked - projected).max() <= room * np.abs(projected).max()
    assert not (support.mask & ~stored.mask).any()


def test_a_pack_stores_no_rows_of_dropped_segments() -> None:
    matrix = np.random.default_rng(0).standard_normal((128, 64)).astype(np.float32)
    whole = BlockColumns(32)
    plain = whole.pack(*whole.project(matrix, 0.25))
    rows = Segments(inner=whole, size=32, kept=(0, 2))
    columns = Segments(inner=whole, size=16, kept=(1, 2), axis="columns")
    for form in (rows, columns):
        assert form.pack(*form.project(matrix, 0.25)).size <= plain.size
    starts = parse(rows.pack(*rows.project(matrix, 0.25))).starts
    assert np.diff(starts).tolist() == [32, 0, 32, 0]  # as many columns, in half as many blocks


@forms
def test_the_densest_and_the_silent(form: Segments) -> None:
    share = len(form.kept) / 4
    assert form.densest((32, 32)) == share
    projected, support = form.project(drawn(), share)
    np.testing.assert_array_equal(support.mask, kept_of(form))
    np.testing.assert_array_equal(projected, np.where(kept_of(form), drawn(), 0))
    silent = form.silent((32, 32))
    if form.axis == "columns" or share == 1:
        assert silent is None
    else:
        assert silent is not None
        np.testing.assert_array_equal(silent, ~kept_of(form)[:, 0])


@forms
def test_dictionaries_round_trip(form: Segments) -> None:
    assert from_dict(form.to_dict()) == form
    assert hash(from_dict(form.to_dict())) == hash(form)


def test_a_table() -> None:
    form = Segments(inner=BlockColumns(32), size=64, kept=(0, 2), axis="columns")
    assert form.to_dict() == {
        "type": "Segments",
        "inner": {"type": "BlockColumns", "rows": 32, "budget": "balanced"},
        "size": 64,
        "kept": [0, 2],
        "axis": "columns",
    }


def test_a_tuple_of_densities_is_the_inner_structures() -> None:
    form = Segments(inner=Within(BlockColumns(4), Elements()), size=8, kept=(0, 2))
    assert form.reached((32, 32), (0.5, 0.25)) == 0.0625


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"size": 0}, ConfigError, "size of Segments must be a whole number >= 1, not 0"),
        ({"size": True}, ConfigError, "size of Segments must be a whole number >= 1, not True"),
        (
            {"kept": ()},
            ConfigError,
            "kept of Segments must be one or more whole numbers >= 0 that grow, not ()",
        ),
        (
            {"kept": (2, 1)},
            ConfigError,
            "kept of Segments must be one or more whole numbers >= 0 that grow, not (2, 1)",
        ),
        (
            {"kept": 3},
            ConfigError,
            "kept of Segments must be one or more whole numbers >= 0 that grow, not 3",
        ),
        ({"axis": "both"}, ConfigError, "axis of Segments must be 'rows' or 'columns', not 'both'"),
        ({"inner": 4}, ConfigError, "the inner structure of Segments must be a structure, not 4"),
    ],
)
def test_what_it_must_not_be(change: dict[str, Any], kind: type[RetrimError], sentence: str) -> None:
    with pytest.raises(RetrimError) as caught:
        Segments(**{"inner": Filters(), "size": 8, "kept": (0,), **change})
    assert type(caught.value) is kind and str(caught.value) == sentence


def test_weights_and_densities_that_do_not_fit() -> None:
    form = Segments(inner=BlockColumns(4), size=8, kept=(0, 2))
    for shape, said in (((20, 8), 20), ((16, 8), 16)):
        with pytest.raises(ShapeError) as caught:
            form.check(shape)
        assert str(caught.value) == (
            f"the rows of a weight must be segments of 8, 3 or more of them, not {said}"
        )
    for density in (0.8, 1.0):
        with pytest.raises(DensityError) as caught:
            form.project(drawn(), density)
        assert str(caught.value) == (
            f"density must be at most 0.5, which 2 of 4 segments leave, not {density:g}"
        )
    assert form.reached((32, 32), 0.53) == 0.5  # as near as other structures round
    with pytest.raises(DensityError):
        form.reached((32, 32), 0.0)
