"""Packing is exact, and nothing damaged gets past `parse`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrim.artifact.bfloat16 import from_bits, to_bits
from retrim.artifact.int8 import quantize_rows
from retrim.artifact.layout import (
    ALIGNMENT,
    GROUPS,
    PANEL,
    PRECISIONS,
    PackView,
    lane_width,
    pack_rows,
    parse,
    unpack,
)
from retrim.errors import ArtifactError, ConfigError, ShapeError, WeightError

# where the fields of the header lie
PRECISION, HEIGHT, OUTPUTS, INPUTS, PACKED, BLOCKS, SEGMENTS, FLAGS, GROUP_SHIFT = range(8, 44, 4)

HEADER = "a pack's header must describe whole blocks: the file is damaged"
STARTS = "a pack's column lists must follow each other: the file is damaged"


@st.composite
def masked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """A weight, what is kept of it, and a block height."""
    outputs, inputs = draw(st.integers(1, 200)), 4 * draw(st.integers(1, 12))
    height = draw(st.sampled_from([32, 64, 128]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    mask = rng.random((outputs, inputs)) < draw(st.sampled_from([0.0, 0.02, 0.3, 1.0]))
    if draw(st.booleans()):  # whole blocks alike, as block columns leave them
        mask = np.repeat(mask[::height], height, axis=0)[:outputs]
    if draw(st.booleans()):  # some rows, perhaps whole blocks of them, keep nothing
        mask[rng.random(outputs) < draw(st.sampled_from([0.3, 0.9]))] = False
    if draw(st.booleans()):
        mask[: draw(st.integers(0, outputs))] = False
    return weight, mask, height


def sparse(
    outputs: int = 96, height: int = 32, idle: int = 0, precision: str = "fp32", group: int = 1
) -> np.ndarray:
    """A pack of 20 inputs that may be written to; `idle` rows here and there keep nothing."""
    rng = np.random.default_rng(0)
    mask = np.tile(rng.random(20) < 0.5, (outputs, 1))
    mask[rng.permutation(outputs)[:idle]] = False
    weight = rng.standard_normal((outputs, 20)).astype(np.float32)
    return pack_rows(weight, mask, height, precision, group)


def rounded(weight: np.ndarray, precision: str) -> np.ndarray:
    """What a pack of a precision holds of a weight."""
    if precision == "bf16":
        return from_bits(to_bits(weight))
    if precision == "int8":
        q, scales = quantize_rows(weight)
        return q * scales[:, None]
    return weight


def put(pack: np.ndarray, byte: int, value: int) -> np.ndarray:
    pack[byte : byte + 4].view("<u4")[0] = value & 0xFFFFFFFF
    return pack


def offset(pack: np.ndarray, section: np.ndarray | None) -> int:
    """Where a section of a view of `pack` starts in it."""
    assert section is not None
    return section.ctypes.data - pack.ctypes.data


def refused(pack: np.ndarray, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=f"^{re.escape(sentence)}$"):
        parse(pack)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("precision", PRECISIONS)
@given(case=masked())
@settings(deadline=None, max_examples=60)
def test_unpack_gives_back_every_bit(
    precision: str, group: int, case: tuple[np.ndarray, np.ndarray, int]
) -> None:
    weight, mask, height = case
    weight[0, 0] = -0.0
    pack = pack_rows(weight, mask, height, precision, group)
    back, stored = unpack(pack)
    kept = rounded(np.where(mask, weight, np.float32(0)), precision)
    assert (back.tobytes() == kept.tobytes()) if precision != "int8" else (back == kept).all()
    assert (stored | ~mask).all()
    assert back.dtype == np.float32
    assert stored.dtype == bool


@pytest.mark.parametrize("group", GROUPS)
@given(case=masked())
@settings(deadline=None, max_examples=60)
def test_a_block_stores_the_groups_any_of_its_rows_keeps(
    group: int, case: tuple[np.ndarray, np.ndarray, int]
) -> None:
    weight, mask, height = case
    view = parse(pack_rows(weight, mask, height, group=group))
    assert view.group == group
    rows = np.arange(len(mask)) if view.rows is None else view.rows
    for block in range(len(view.starts) - 1):
        members = rows[block * height : (block + 1) * height]
        members = members[(members >= 0) & (members < len(mask))]
        found = view.columns[view.starts[block] : view.starts[block + 1]]
        kept = np.unique(np.flatnonzero(mask[members].any(axis=0)) // group)
        assert found.tolist() == [g * group + i for g in kept for i in range(group)]


@given(case=masked())
@settings(deadline=None, max_examples=60)
def test_packs_of_one_weight_differ_in_their_values_only(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    weight, mask, height = case
    exact, *others = (parse(pack_rows(weight, mask, height, precision)) for precision in PRECISIONS)
    for view in others:
        assert view.starts.tolist() == exact.starts.tolist()
        assert view.columns.tolist() == exact.columns.tolist()
        np.testing.assert_array_equal(view.rows, exact.rows)


@pytest.mark.parametrize("precision", PRECISIONS)
@given(case=masked())
@settings(deadline=None, max_examples=60)
def test_panels_lie_where_the_view_says(precision: str, case: tuple[np.ndarray, np.ndarray, int]) -> None:
    weight, mask, height = case
    view = parse(pack_rows(weight, mask, height, precision))
    width = lane_width(precision)
    stored, _ = unpack(pack_rows(weight, mask, height, precision))
    padded = np.zeros((view.packed_rows, weight.shape[1]), np.float32)
    real = np.arange(len(weight)) if view.rows is None else view.rows[view.rows >= 0]
    padded[: len(real)] = stored[real]
    starts = view.panel_starts
    assert starts.dtype == np.int64
    assert (starts[0], starts[-1], len(starts)) == (0, view.values.size, view.packed_rows // PANEL + 1)
    for panel in range(len(starts) - 1):
        block = panel * PANEL // height
        kept = view.columns[view.starts[block] : view.starts[block + 1]]
        for lane, row, part in np.ndindex(-(-len(kept) // width), PANEL, width):
            value = view.values[starts[panel] + (lane * PANEL + row) * width + part]
            value = from_bits(np.array(value)) if precision == "bf16" else np.float32(value)
            value *= 1 if view.scales is None else view.scales[panel * PANEL + row]
            at = lane * width + part
            wanted = padded[panel * PANEL + row, kept[at]] if at < len(kept) else 0
            assert value == wanted


def test_the_bytes_are_as_the_layout_says() -> None:
    weight = np.zeros((33, 5), np.float32)
    weight[:, 1], weight[:32, 4], weight[32, 0] = 2.0, np.arange(32), 7.0
    pack = pack_rows(weight, weight != 0)
    header = pack[:64]
    assert header[:8].tobytes() == b"RTRIMBC1"
    assert header[8:44].view("<u4").tolist() == [0, 32, 33, 5, 64, 2, 1, 0, 0]
    assert not header[44:].any()
    assert pack[64:76].view("<i4").tolist() == [0, 2, 4]
    assert pack[128:144].view("<i4").tolist() == [1, 4, 0, 1]
    values = pack[192:].view("<f4").reshape(4, PANEL)
    assert (values[0] == 2).all()
    assert values[1].tolist() == list(range(32))
    assert values[2].tolist() == [7.0] + [0.0] * 31
    assert values[3].tolist() == [2.0] + [0.0] * 31
    assert len(pack) == 192 + 4 * PANEL * 4


def test_the_bytes_of_two_columns_in_a_lane() -> None:
    weight = np.zeros((32, 6), np.float32)
    weight[:, 1], weight[:, 2], weight[:, 5] = 1.0, -2.0, np.arange(32)
    pack = pack_rows(weight, weight != 0, precision="bf16")
    assert pack[8:44].view("<u4").tolist() == [1, 32, 32, 6, 32, 1, 1, 0, 0]
    assert pack[128:140].view("<i4").tolist() == [1, 2, 5]
    lanes = pack[192:].view("<u2").reshape(2, PANEL, 2)
    assert (lanes[0] == [0x3F80, 0xC000]).all()
    assert lanes[1, :4].tolist() == [[0, 0], [0x3F80, 0], [0x4000, 0], [0x4040, 0]]
    assert len(pack) == 192 + 2 * PANEL * 4


def test_the_bytes_of_four_columns_in_a_lane() -> None:
    weight = np.zeros((32, 8), np.float32)
    weight[:, 2], weight[:, 7], weight[5] = 127.0, -3.0, 0.0
    pack = pack_rows(weight, weight != 0, precision="int8", group=2)
    assert pack[8:44].view("<u4").tolist() == [2, 32, 32, 8, 32, 1, 1, 0, 1]
    assert pack[128:144].view("<i4").tolist() == [2, 3, 6, 7]
    assert (pack[192:320].view("<f4") == 1).all()
    lanes = pack[320:].view("i1").reshape(1, PANEL, 4)
    assert lanes[0, 5].tolist() == [0, 0, 0, 0]
    assert (np.delete(lanes[0], 5, axis=0) == [127, 0, 0, -3]).all()
    assert len(pack) == 320 + PANEL * 4


def test_the_example_in_the_documentation() -> None:
    """Every line ``byte  content  meaning`` on blocks, and that the first pack has no more than them."""
    weight = np.array([[0, 1, 0, 0, 2, -3], [0, 0.5, 0, 0, 0, 1.5], [0, -1, 0, 0, 4, 0.25]], np.float32)
    mask = np.repeat([[False, True, False, False, True, True]], 3, axis=0)
    page = (Path(__file__).parents[3] / "docs/retrim/layout.md").read_text("utf-8")
    blocks = page.partition("## Row groups")[0]
    dumps = re.findall(r"```text\n(.*?)```", blocks, re.DOTALL)
    kinds = [("fp32", 1, 576), ("bf16", 1, 448), ("int8", 1, 448), ("int8", 2, 448)]
    for dump, (precision, group, size) in zip(dumps, kinds, strict=True):
        pack = pack_rows(weight, mask, 32, precision, group)
        assert len(pack) == size
        rest = pack.copy()
        for line in dump.splitlines():
            at, content = int(line[:3]), bytes.fromhex(line[5:28])
            assert pack[at : at + len(content)].tobytes() == content, line
            rest[at : at + len(content)] = 0
        assert precision != "fp32" or not rest.any()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sections_start_at_multiples_of_64(precision: str) -> None:
    pack = sparse(idle=40, precision=precision)
    view = parse(pack)
    assert view.rows is not None
    assert (view.scales is None) == (precision != "int8")
    for section in (view.starts, view.columns, view.rows, view.scales, view.values):
        if section is not None:
            assert offset(pack, section) % ALIGNMENT == 0
    assert len(pack) % ALIGNMENT == 0
    assert view.nbytes == len(pack)


def test_idle_rows_are_left_out_where_that_is_smaller() -> None:
    few = parse(pack := sparse(96, idle=65))
    assert few.rows is not None
    assert few.packed_rows == 32
    assert few.rows[:31].tolist() == np.flatnonzero(unpack(pack)[1].any(axis=1)).tolist()
    assert few.rows[31] == -1
    none_saved = parse(sparse(96, idle=1))
    assert none_saved.rows is None
    assert none_saved.packed_rows == 96


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_kept_is_a_pack_of_no_values(precision: str) -> None:
    pack = pack_rows(np.ones((70, 9), np.float32), np.zeros((70, 9), bool), precision=precision)
    view = parse(pack)
    assert view.values.size == 0
    assert view.stored_density == 0
    weight, stored = unpack(pack)
    assert weight.shape == stored.shape == (70, 9)
    assert not weight.any()
    assert not stored.any()


def test_stored_density_counts_what_is_stored() -> None:
    mask = np.zeros((64, 8), bool)
    mask[:, :2] = True
    assert parse(pack_rows(np.ones((64, 8), np.float32), mask)).stored_density == 0.25


def test_a_block_height_is_whole_panels() -> None:
    weight = np.ones((4, 4), np.float32)
    for rows in (0, 16, 48, -32):
        sentence = f"rows of a packed block must be a multiple of 32, not {rows}"
        with pytest.raises(ConfigError, match=f"^{sentence}$"):
            pack_rows(weight, weight > 0, rows)


def test_precisions_and_groups_that_there_are_not() -> None:
    weight = np.ones((4, 6), np.float32)
    for group in (0, 3, 8):
        with pytest.raises(ConfigError, match=f"^group of a pack must be 1, 2 or 4, not {group}$"):
            pack_rows(weight, weight > 0, group=group)
    with pytest.raises(ConfigError, match=r"^precision must be one of fp32, bf16, int8, not 'fp16'$"):
        pack_rows(weight, weight > 0, precision="fp16")
    sentence = "group of a pack must divide the weight's 6 inputs, not be 4: choose 1 or 2"
    with pytest.raises(ShapeError, match=f"^{sentence}$"):
        pack_rows(weight, weight > 0, group=4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_int8_takes_finite_weights_only(value: float) -> None:
    weight = np.ones((4, 6), np.float32)
    weight[2, 3] = value
    sentence = (
        "a weight must be finite to be packed in int8, but holds NaN or infinity: "
        "go back to a checkpoint from before training diverged"
    )
    with pytest.raises(WeightError, match=f"^{sentence}$"):
        pack_rows(weight, np.ones((4, 6), bool), precision="int8")
    pack_rows(weight, np.isfinite(weight), precision="int8")  # what is pruned may be anything
    for precision in ("fp32", "bf16"):
        back, _ = unpack(pack_rows(weight, np.ones((4, 6), bool), precision=precision))
        np.testing.assert_array_equal(back, weight)


@pytest.mark.parametrize(
    ("weight", "mask"), [((4, 4), (4, 5)), ((4,), (4,)), ((0, 4), (0, 4)), ((2, 2, 2), (2, 2, 2))]
)
def test_weight_and_mask_share_a_matrix_shape(weight: tuple[int, ...], mask: tuple[int, ...]) -> None:
    sentence = f"a packed weight and its mask must share one non-empty matrix shape, not {weight} and {mask}"
    with pytest.raises(ShapeError, match=f"^{re.escape(sentence)}$"):
        pack_rows(np.ones(weight, np.float32), np.ones(mask, bool))


def test_too_short_or_of_another_kind() -> None:
    sentence = "a pack must be an array of at least 64 bytes: the file is damaged"
    refused(sparse()[:63], sentence)
    refused(np.zeros(0, np.uint8), sentence)
    refused(sparse().reshape(1, -1), sentence)
    refused(sparse().view(np.int8), sentence)


def test_memory_the_kernels_cannot_read_in_place() -> None:
    sentence = "a pack must be contiguous and start at a multiple of 4 bytes: copy it"
    pack = sparse()
    shifted = np.empty(len(pack) + 1, np.uint8)
    shifted[1:] = pack
    refused(shifted[1:] if shifted.ctypes.data % 4 == 0 else shifted[: len(pack)], sentence)
    refused(np.repeat(pack, 2)[::2], sentence)


def test_foreign_magic() -> None:
    pack = sparse()
    pack[7] = ord("2")
    refused(pack, "a pack must start with RTRIMBC1: the file is damaged or newer")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        (PRECISION, 3, (3, 1, 0, 0)),
        (SEGMENTS, 2, (0, 2, 0, 0)),
        (SEGMENTS, 0, (0, 0, 0, 0)),
        (FLAGS, 2, (0, 1, 0, 2)),
        (GROUP_SHIFT, 3, (0, 1, 3, 0)),
    ],
)
def test_what_a_newer_version_may_write(field: int, value: int, named: tuple[int, int, int, int]) -> None:
    precision, segments, shift, flags = named
    refused(
        put(sparse(), field, value),
        "a pack must be of precision 0 to 2 with 1 segment and group shift 0 to 2, not of precision "
        f"{precision} with {segments} segments, group shift {shift} and flags {flags}: upgrade retrim",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (HEIGHT, 0),
        (HEIGHT, 33),
        (HEIGHT, 64),
        (OUTPUTS, 0),
        (INPUTS, 0),
        (PACKED, 95),
        (PACKED, 128),
        (BLOCKS, 2),
        (BLOCKS, 0xFFFFFFFF),
        (44, 1),
        (60, 1 << 31),
    ],
)
def test_a_header_that_does_not_hold_together(field: int, value: int) -> None:
    refused(put(sparse(), field, value), HEADER)


@pytest.mark.parametrize("outputs", [64, 97, 0xFFFFFFFF])
def test_without_a_row_list_all_rows_are_there(outputs: int) -> None:
    refused(
        put(sparse(), OUTPUTS, outputs), "a pack without a row list must hold all rows: the file is damaged"
    )


def test_starts_must_rise_from_zero() -> None:
    refused(put(sparse(), 64, 1), STARTS)
    refused(put(sparse(), 68, 1000), STARTS)
    refused(put(sparse(), 72, -1), STARTS)


def test_starts_whose_differences_overflow() -> None:
    pack = sparse(outputs=128)
    last = int(parse(pack).starts[-1])
    pack[64:84].view("<i4")[:] = [0, 2**31 - 1, -(2**31), -1, last]
    refused(pack, STARTS)


def test_columns_must_rise_and_exist() -> None:
    sentence = "a pack's columns must rise within a block and lie below 20: the file is damaged"
    at = offset(pack := sparse(), (view := parse(pack)).columns)
    first, seam = view.columns.tolist(), int(view.starts[1])
    for index, value in [(0, -1), (seam - 1, 20), (1, first[0]), (0, first[1]), (seam, first[seam + 1])]:
        refused(put(sparse(), at + 4 * index, value), sentence)


@pytest.mark.parametrize("group", [2, 4])
def test_columns_must_come_in_whole_groups(group: int) -> None:
    sentence = (
        f"a pack's columns must come in whole groups of {group}, each from a multiple of {group} on: "
        "the file is damaged"
    )
    mask = np.zeros((64, 20), bool)
    mask[:, [1, 8]] = True
    for shift in (1, -1, 7):  # of the last column of the first group, then of a whole group
        pack = pack_rows(np.ones((64, 20), np.float32), mask, group=group)
        columns = parse(pack).columns
        assert columns[: 2 * group].tolist() == [*range(group), *range(8, 8 + group)]
        columns[(group - 1 if shift == 1 else group) : (group if shift == 1 else 2 * group)] += shift
        refused(pack, sentence)
    refused(put(sparse(precision="int8"), GROUP_SHIFT, GROUPS.index(group)), sentence)
    mask[:32, 8] = mask[32:, 1] = False  # the seam between two lists moves into a group
    pack = pack_rows(np.ones((64, 20), np.float32), mask, group=group)
    refused(put(pack, 68, group - 1), sentence)


def test_groups_divide_the_inputs() -> None:
    refused(put(sparse(group=4), INPUTS, 22), HEADER)


def test_rows_must_exist_once() -> None:
    sentence = "a pack's row list must name each of 96 outputs once at most: the file is damaged"
    rows = parse(pack := sparse(idle=40)).rows
    assert rows is not None
    at = offset(pack, rows)
    for value in (-2, 96, int(rows[1]), 2**31 - 1):
        refused(put(sparse(idle=40), at, value), sentence)
    assert parse(put(sparse(idle=40), at, -1)).rows is not None


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, -np.inf, -0.0])
def test_scales_are_finite_and_above_zero(value: float) -> None:
    pack = sparse(precision="int8")
    scales = parse(pack).scales
    assert scales is not None
    for at in (0, 50, 95):
        kept, scales[at] = scales[at], value
        refused(pack, "a pack's scales must be finite and above zero: the file is damaged")
        scales[at] = kept
    scales[:] = np.float32(1e-45)
    parse(pack)


def test_the_least_of_int8_is_refused() -> None:
    pack = sparse(precision="int8")
    parse(pack).values[33] = -128
    refused(pack, "a pack's int8 values must lie within 127 of zero: the file is damaged")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_values_past_the_end_of_a_list_are_zero(precision: str) -> None:
    rng = np.random.default_rng(0)
    mask = np.repeat(rng.random((4, 23)) < 0.4, 64, axis=0)[:224]  # the last block is lower
    pack = pack_rows(rng.standard_normal(mask.shape).astype(np.float32), mask, 64, precision)
    view, width = parse(pack), lane_width(precision)
    assert (np.diff(view.starts) % width).any()
    for panel, end in enumerate(view.panel_starts[1:]):
        kept = int(np.diff(view.starts)[panel * PANEL // 64])
        for row in (0, 13, 31):
            for part in range(width):
                where = end + (row - PANEL) * width + part
                before, view.values[where] = view.values[where], 1
                if 0 < kept % width <= part:
                    refused(
                        pack,
                        "a pack's values past the end of a column list must be zero: the file is damaged",
                    )
                else:
                    parse(pack)
                view.values[where] = before


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("idle", [0, 40])
def test_truncated_in_every_section(idle: int, precision: str) -> None:
    pack = sparse(idle=idle, precision=precision)
    view = parse(pack)
    sections = [("starts", view.starts), ("columns", view.columns), ("rows", view.rows)]
    for name, section in [*sections, ("scales", view.scales), ("values", view.values)]:
        if section is not None:
            sentence = f"a pack must hold all its {name}, but ends early: the file is damaged"
            refused(pack[: offset(pack, section)], sentence)
            refused(pack[: offset(pack, section) + 60], sentence)
    refused(pack[:-1], "a pack must hold all its values, but ends early: the file is damaged")


def test_bytes_behind_the_end() -> None:
    pack = np.concatenate([sparse(), np.zeros(64, np.uint8)])
    refused(pack, "a pack must end after its values, not 64 bytes later")


@given(
    idle=st.sampled_from([0, 1, 40, 96]),
    precision=st.sampled_from(PRECISIONS),
    group=st.sampled_from(GROUPS),
    flips=st.lists(st.tuples(st.integers(0, 511), st.integers(1, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=400)
def test_flipped_bytes_are_refused_or_harmless(
    in_range: Callable[[PackView], bool],
    idle: int,
    precision: str,
    group: int,
    flips: list[tuple[int, int]],
    cut: int,
) -> None:
    pack = sparse(idle=idle, precision=precision, group=group)
    for byte, bits in flips:  # the values, behind the rest, may be anything
        pack[byte % len(pack)] ^= bits
    pack = pack[: cut if cut < len(pack) else None]
    try:
        view = parse(pack)
    except ArtifactError:
        return
    assert in_range(view)
