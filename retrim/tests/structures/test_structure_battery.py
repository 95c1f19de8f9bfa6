"""The battery that every structure passes, on NumPy and on torch arrays."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from retrim.artifact.layout import parse
from retrim.errors import ConfigError, DensityError, RetrimError, ShapeError, WeightError
from retrim.structures import (
    BlockColumns,
    BlockRows,
    Channels,
    Density,
    Elements,
    Filters,
    Grouped,
    Mask,
    PatternSet,
    Structure,
    Within,
    from_dict,
)

few = settings(max_examples=12, deadline=None, derandomize=True)
multiples = st.tuples(st.integers(1, 4), st.integers(1, 5))


def reachable(structure: Structure, shape: tuple[int, int], data: st.DataObject) -> Density:
    """Draw a density that `structure` reaches on a matrix of `shape`."""
    if isinstance(structure, Grouped):
        steps = structure.densities(shape).steps
        return data.draw(st.integers(1, steps), label=f"kept of {steps}") / steps
    if isinstance(structure, PatternSet):
        return structure.density
    assert isinstance(structure, Within)
    steps = structure.outer.densities(shape).steps
    fitting = [kept for kept in range(1, steps + 1) if fits(structure, shape, kept)]
    assume(fitting)
    kept = data.draw(st.sampled_from(fitting), label=f"kept of {steps}")
    small = structure.outer.compact_shape(shape, kept)
    inner = reachable(structure.inner, small, data)
    assert isinstance(inner, float)
    return (kept / steps, inner)


def fits(structure: Within, shape: tuple[int, int], kept: int) -> bool:
    """Whether what the outer structure keeps can take the inner form."""
    try:
        structure.inner.check(structure.outer.compact_shape(shape, kept))
    except ShapeError:
        return False
    return True


def draw_case(structure: Structure, data: st.DataObject) -> tuple[np.ndarray, Density]:
    """A matrix of a drawn shape (multiples of 8) and a density for it."""
    high, wide = data.draw(multiples, label="shape / 8")
    shape = (8 * high, 8 * wide)
    matrix = np.random.default_rng([high, wide]).standard_normal(shape).astype(np.float32)
    return matrix, reachable(structure, shape, data)


MIXING = (Within(BlockRows(4), BlockColumns(2)), Within(Channels(), BlockRows(2, "global")))
"""Forms whose inner structure cuts across the outer groups: see the notes of `Within`."""


def keeps_every_group(structure: Structure, mask: np.ndarray, density: Density) -> bool:
    """Whether the inner structure left something of every group that the outer one kept."""
    assert isinstance(structure, Within)
    shape = (mask.shape[0], mask.shape[1])
    outer = density[0] if isinstance(density, tuple) else math.sqrt(density)
    kept = structure.outer.densities(shape).count(outer)
    left = np.count_nonzero(structure.outer.energies(mask.astype(np.float32)), axis=1)
    return bool((left == kept).all())


def values(array: Any) -> np.ndarray:
    return array.numpy() if isinstance(array, torch.Tensor) else array


@few
@given(data=st.data())
def test_projection_is_idempotent(structure: Structure, array: Any, data: st.DataObject) -> None:
    matrix, density = draw_case(structure, data)
    once, support = structure.project(array(matrix), density)
    if structure in MIXING:
        assume(keeps_every_group(structure, values(support.mask), density))
    twice, again = structure.project(once, density)
    np.testing.assert_array_equal(values(twice), values(once))
    np.testing.assert_array_equal(values(again.mask), values(support.mask))


@few
@given(data=st.data())
def test_projection_keeps_values_and_their_kind(
    structure: Structure, array: Any, data: st.DataObject
) -> None:
    matrix, density = draw_case(structure, data)
    given_array = array(matrix)
    before = values(given_array).copy()
    projected, support = structure.project(given_array, density)
    assert type(projected) is type(given_array)
    assert projected.dtype == given_array.dtype
    np.testing.assert_array_equal(values(given_array), before)  # the input is not written to
    np.testing.assert_array_equal(values(projected), np.where(values(support.mask), matrix, 0))


@few
@given(data=st.data())
def test_density_reached_is_the_supports(structure: Structure, array: Any, data: st.DataObject) -> None:
    matrix, density = draw_case(structure, data)
    _, support = structure.project(array(matrix), density)
    wanted = math.prod(density) if isinstance(density, tuple) else density
    assert support.density == pytest.approx(wanted, rel=1e-12)
    assert structure.reached(matrix.shape, density) == pytest.approx(wanted, rel=1e-12)
    assert np.count_nonzero(values(support.mask)) == round(wanted * matrix.size)


@few
@given(data=st.data())
def test_support_is_an_orthogonal_projection(structure: Structure, array: Any, data: st.DataObject) -> None:
    matrix, density = draw_case(structure, data)
    _, support = structure.project(array(matrix), density)
    rng = np.random.default_rng(1)
    first, second = (rng.standard_normal(matrix.shape) for _ in range(2))
    held, other = (values(support.apply(array(one))) for one in (first, second))
    np.testing.assert_array_equal(values(support.apply(array(held))), held)
    # symmetric: <P a, b> = <a, P b>, and so the rest stands at right angles to what is kept
    assert np.vdot(held, second) == pytest.approx(np.vdot(first, other), abs=1e-9)
    assert np.vdot(held, first - held) == pytest.approx(0, abs=1e-9)
    linear = values(support.apply(array(2 * first - 3 * second)))
    np.testing.assert_allclose(linear, 2 * held - 3 * other, atol=1e-12)


def test_support_drops_infinite_values(structure: Structure, array: Any) -> None:
    _, support = structure.project(array(np.ones((16, 16), np.float32)), 0.25)
    held = values(support.apply(array(np.full((16, 16), np.inf, np.float32))))
    assert not np.isnan(held).any()
    assert np.isinf(held).mean() == support.density


@few
@given(data=st.data())
def test_ties_go_to_the_lower_index_in_every_library(structure: Structure, data: st.DataObject) -> None:
    matrix, density = draw_case(structure, data)
    # few different values: sums of their squares are exact, most groups tie
    matrix = np.sign(matrix).astype(np.float32)
    masks = [structure.project(make(matrix), density)[1] for make in (np.asarray, torch.tensor)]
    np.testing.assert_array_equal(values(masks[0].mask), values(masks[1].mask))
    flipped = structure.project(-matrix, density)[1]
    np.testing.assert_array_equal(flipped.mask, masks[0].mask)


@few
@given(data=st.data())
def test_libraries_agree(structure: Structure, data: st.DataObject) -> None:
    matrix, density = draw_case(structure, data)
    in_numpy, _ = structure.project(matrix, density)
    for stored in (torch.tensor(matrix), torch.tensor(matrix.T.copy()).T):
        np.testing.assert_array_equal(values(structure.project(stored, density)[0]), in_numpy)


@few
@given(data=st.data())
def test_groups_partition_the_matrix(structure: Structure, array: Any, data: st.DataObject) -> None:
    matrix, _ = draw_case(structure, data)
    groups = structure.groups(array(matrix))
    if isinstance(structure, PatternSet):  # patterns overlap: penalties take the distance to the set
        assert groups is None
        return
    assert groups is not None
    ids = values(groups.ids)
    count = int(ids.max()) + 1
    sizes = np.bincount(ids.reshape(-1), minlength=count)
    assert ids.shape == matrix.shape
    assert ids.min() == 0
    assert (sizes == matrix.size // count).all()  # none is empty, all are alike
    norms = values(groups.norms(array(matrix)))
    expected = np.sqrt(np.bincount(ids.reshape(-1), (matrix.astype(np.float64) ** 2).reshape(-1)))
    np.testing.assert_allclose(norms, expected, rtol=1e-5)
    marks = np.arange(count, dtype=np.float32) + 0.5
    np.testing.assert_array_equal(values(groups.spread(array(marks))), marks[ids])
    contest = values(groups.contest)
    outer = structure.outer if isinstance(structure, Within) else structure
    if isinstance(outer, Grouped) and outer.balanced:
        blocks, each = outer.grid((matrix.shape[0], matrix.shape[1]))
        np.testing.assert_array_equal(contest, np.repeat(np.arange(blocks), each))
    else:
        np.testing.assert_array_equal(contest, np.zeros(count))


@few
@given(data=st.data())
def test_projection_keeps_or_drops_whole_groups(structure: Structure, data: st.DataObject) -> None:
    matrix, density = draw_case(structure, data)
    mask = structure.project(matrix, density)[1].mask
    groups = structure.groups(matrix)
    if groups is None:
        return
    ids = groups.ids.reshape(-1)
    shares = np.bincount(ids, mask.reshape(-1)) / np.bincount(ids)
    if isinstance(structure, Grouped):
        assert set(shares) <= {0.0, 1.0}
    else:  # what the outer structure drops stays dropped
        outer = density[0] if isinstance(density, tuple) else math.sqrt(density)
        assert np.count_nonzero(shares) <= round(outer * len(shares))


@few
@given(data=st.data())
def test_pack_and_unpack_are_exact(structure: Structure, array: Any, data: st.DataObject) -> None:
    matrix, density = draw_case(structure, data)
    projected, support = structure.project(array(matrix), density)
    assert isinstance(support, Mask)
    pack = structure.pack(projected, support)
    assert pack.dtype == np.uint8
    assert pack.size % 64 == 0
    unpacked, stored = structure.unpack(pack)
    np.testing.assert_array_equal(unpacked, values(projected))
    assert unpacked.dtype == np.float32
    assert not (values(support.mask) & ~stored.mask).any()


@few
@given(data=st.data())
def test_packs_of_less_precision_are_near(structure: Structure, array: Any, data: st.DataObject) -> None:
    matrix, density = draw_case(structure, data)
    projected, support = structure.project(array(matrix), density)
    expected = values(projected)
    exact = structure.unpack(structure.pack(projected, support))[1].mask
    for precision, room in (("bf16", 2.0**-8), ("int8", 0.51 / 127)):
        unpacked, stored = structure.unpack(structure.pack(projected, support, precision))
        scale = np.abs(expected) if precision == "bf16" else np.abs(expected).max(axis=1, keepdims=True)
        assert (np.abs(unpacked - expected) <= room * scale).all()
        np.testing.assert_array_equal(stored.mask, exact)


@few
@given(data=st.data())
def test_packs_are_of_the_structures_blocks_and_groups(structure: Structure, data: st.DataObject) -> None:
    matrix, density = draw_case(structure, data)
    projected, support = structure.project(matrix, density)
    view = parse(structure.pack(projected, support))
    assert (view.height, view.group) == (structure.pack_height, structure.pack_group)


def test_a_pack_in_kernel_blocks_stores_what_is_kept_only() -> None:
    matrix = np.random.default_rng(0).standard_normal((128, 40)).astype(np.float32)
    kept = (BlockColumns(32), BlockColumns(64), Channels(), BlockColumns(32, "global"))
    for structure in (*kept, BlockColumns(32, group=2), BlockColumns(64, "global", group=4)):
        projected, support = structure.project(matrix, 0.25)
        unpacked, stored = structure.unpack(structure.pack(projected, support))
        np.testing.assert_array_equal(stored.mask, support.mask)
        np.testing.assert_array_equal(unpacked, projected)


def test_half_precision_is_projected_and_packed(structure: Structure) -> None:
    matrix = torch.tensor(np.random.default_rng(0).standard_normal((16, 16))).to(torch.bfloat16)
    projected, support = structure.project(matrix, 0.25)
    assert projected.dtype == torch.bfloat16
    unpacked, _ = structure.unpack(structure.pack(projected, support))
    np.testing.assert_array_equal(unpacked, projected.float().numpy())


def test_pack_refuses_another_precision(structure: Structure) -> None:
    matrix = np.ones((16, 16), np.float32)
    projected, support = structure.project(matrix, 0.25)
    with pytest.raises(ConfigError) as caught:
        structure.pack(projected, support, "fp16")
    assert str(caught.value) == "precision must be one of fp32, bf16, int8, not 'fp16'"


@pytest.mark.parametrize(
    ("kind", "shape"), [("linear", (16, 24)), ("conv1d", (24, 16)), ("conv2d", (8, 16, 3, 2))]
)
def test_view_and_unview_round_trip(structure: Structure, array: Any, kind: Any, shape: Any) -> None:
    weight = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    matrix = structure.view(array(weight), kind)
    assert tuple(matrix.shape) == structure.view_shape(shape, kind)
    assert sorted(values(matrix).reshape(-1).tolist()) == list(range(weight.size))
    np.testing.assert_array_equal(values(structure.unview(matrix, shape, kind)), weight)
    projected, _ = structure.project(matrix, 0.25)
    restored = values(structure.unview(projected, shape, kind))
    assert restored.shape == shape
    kept = restored != 0
    np.testing.assert_array_equal(restored[kept], weight[kept])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(structure: Structure, array: Any, value: float) -> None:
    matrix = np.ones((16, 16), np.float32)
    matrix[3, 5] = matrix[9, 0] = value
    with pytest.raises(WeightError) as caught:
        structure.project(array(matrix), 0.25)
    assert str(caught.value) == (
        "a weight must be finite before it is projected, but 2 of its 256 values are NaN or infinite: "
        "go back to a checkpoint from before training diverged"
    )


@pytest.mark.parametrize(
    ("density", "quoted"),
    [
        (0, "0"),
        (0.0, "0.0"),
        (-0.5, "-0.5"),
        (1.5, "1.5"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (True, "True"),
        ("half", "'half'"),
        (None, "None"),
    ],
)
def test_what_is_no_density_is_refused(structure: Structure, array: Any, density: Any, quoted: str) -> None:
    matrix = array(np.ones((16, 16), np.float32))
    sentence = f"density must be a number with 0 < density <= 1, not {quoted}"
    for attempt in (
        lambda: structure.project(matrix, density),
        lambda: structure.reached((16, 16), density),
    ):
        with pytest.raises(DensityError) as caught:
            attempt()
        assert str(caught.value) == sentence


def test_density_out_of_reach_is_refused(structure: Structure, array: Any) -> None:
    matrix = array(np.ones((8, 8), np.float32))
    with pytest.raises(DensityError) as caught:
        structure.project(matrix, 1e-6)
    assert "density must be within 10% of one that the structure reaches here, not" in str(caught.value)
    with pytest.raises(DensityError):
        structure.reached((8, 8), 1e-6)


def test_full_density_changes_nothing(structure: Structure, array: Any) -> None:
    matrix = np.random.default_rng(0).standard_normal((16, 24)).astype(np.float32)
    if structure.densest((16, 24)) < 1:
        with pytest.raises(DensityError):
            structure.project(array(matrix), 1.0)
        return
    projected, support = structure.project(array(matrix), 1.0)
    np.testing.assert_array_equal(values(projected), matrix)
    assert support.density == 1.0 == structure.reached((16, 24), 1)


@pytest.mark.parametrize("shape", [(0, 8), (8, 0), (8,), (8, 8, 8)])
def test_what_is_no_matrix_is_refused(structure: Structure, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        structure.check(shape)
    assert str(caught.value) == f"a weight matrix must have two non-empty dimensions, not {shape}"


def test_dictionaries_round_trip(structure: Structure) -> None:
    spec = structure.to_dict()
    assert spec["type"] == type(structure).__name__
    assert from_dict(spec) == structure
    assert from_dict(spec).to_dict() == spec


def test_unknown_fields_are_refused(structure: Structure) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict({**structure.to_dict(), "size": 4})
    name = type(structure).__name__
    known = ", ".join(sorted(field.name for field in fields(structure))) or "none"
    assert str(caught.value) == f"{name} must have no field 'size': its fields are {known}"


def test_structures_are_values(structure: Structure) -> None:
    assert hash(structure) == hash(from_dict(structure.to_dict()))
    with pytest.raises(AttributeError):
        structure.rows = 3


@pytest.mark.parametrize(
    ("structure", "shape", "sentence"),
    [
        (
            BlockColumns(4),
            (10, 8),
            "rows of BlockColumns(rows=4, budget='balanced') must divide the weight's 10 outputs: "
            "choose one of 1, 2, 5, 10",
        ),
        (
            BlockColumns(48, "global"),
            (256, 8),
            "rows of BlockColumns(rows=48, budget='global') must divide the weight's 256 outputs: "
            "choose one of 32, 64, 128, 256",
        ),
        (
            BlockColumns(4, group=4),
            (8, 10),
            "group of BlockColumns(rows=4, budget='balanced', group=4) must divide the weight's 10 inputs: "
            "choose 1 or 2",
        ),
        (
            BlockColumns(4, "global", group=2),
            (8, 15),
            "group of BlockColumns(rows=4, budget='global', group=2) must divide the weight's 15 inputs: "
            "choose 1",
        ),
        (
            BlockRows(4),
            (8, 10),
            "cols of BlockRows(cols=4, budget='balanced') must divide the weight's 10 inputs: "
            "choose one of 1, 2, 5, 10",
        ),
        (
            Within(BlockColumns(4), Elements()),
            (10, 8),
            "rows of BlockColumns(rows=4, budget='balanced') must divide the weight's 10 outputs: "
            "choose one of 1, 2, 5, 10",
        ),
        (
            Within(Channels(), BlockRows(4)),
            (8, 12),
            "cols of BlockRows(cols=4, budget='balanced') must divide the weight's 6 inputs: "
            "choose one of 1, 2, 3, 6",
        ),
    ],
    ids=str,
)
def test_shapes_that_do_not_divide_are_refused(
    structure: Structure, shape: tuple[int, int], sentence: str
) -> None:
    density = (0.5, 0.5) if isinstance(structure, Within) else 0.5
    matrix = np.ones(shape, np.float32)
    for attempt in (
        lambda: structure.reached(shape, density),
        lambda: structure.project(matrix, density),
        lambda: structure.project(torch.tensor(matrix), density),
    ):
        with pytest.raises(ShapeError) as caught:
            attempt()
        assert str(caught.value) == sentence


def test_fields_out_of_range_are_refused() -> None:
    cases: list[tuple[Any, str]] = [
        (lambda: BlockColumns(0), "rows of BlockColumns must be a whole number >= 1, not 0"),
        (lambda: BlockColumns(True), "rows of BlockColumns must be a whole number >= 1, not True"),
        (lambda: BlockColumns(4, group=3), "group of BlockColumns must be 1, 2 or 4, not 3"),
        (lambda: BlockColumns(4, group=True), "group of BlockColumns must be 1, 2 or 4, not True"),
        (lambda: BlockColumns(4, group="2"), "group of BlockColumns must be 1, 2 or 4, not '2'"),
        (lambda: BlockColumns(4, group=2.0), "group of BlockColumns must be 1, 2 or 4, not 2.0"),
        (lambda: BlockRows(2.0), "cols of BlockRows must be a whole number >= 1, not 2.0"),
        (lambda: BlockRows(4, "even"), "budget must be 'balanced' or 'global', not 'even'"),
        (
            lambda: Within(BlockColumns(4, "global"), Elements()),
            "the outer structure of Within must keep whole rows or columns with a balanced budget, not "
            "BlockColumns(rows=4, budget='global'): take Filters, Channels, BlockColumns or BlockRows",
        ),
        (
            lambda: Within(Elements(), Filters()),
            "the outer structure of Within must keep whole rows or columns with a balanced budget, not "
            "Elements(): take Filters, Channels, BlockColumns or BlockRows",
        ),
        (
            lambda: Filters().project(np.ones((8, 8)), (0.5, 0.5)),
            "density must be one number for Filters(), not (0.5, 0.5): "
            "only Within takes one for each of its parts",
        ),
        (
            lambda: Within(Filters(), Elements()).reached((8, 8), (0.5, 0.5, 0.5)),
            "density of Within must be a pair (outer, inner), not (0.5, 0.5, 0.5)",
        ),
    ]
    for attempt, sentence in cases:
        with pytest.raises(RetrimError) as caught:
            attempt()
        assert type(caught.value) is ConfigError
        assert str(caught.value) == sentence
