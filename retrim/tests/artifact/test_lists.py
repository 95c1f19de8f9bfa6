"""Packing row groups is exact, and nothing damaged gets past `parse`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrim.artifact import lists
from retrim.artifact.bfloat16 import from_bits, to_bits
from retrim.artifact.int8 import quantize_rows
from retrim.artifact.layout import ALIGNMENT, PRECISIONS, ListView, lane_width, pack_lists, parse, unpack
from retrim.artifact.list_sections import HEIGHTS
from retrim.errors import ArtifactError, ConfigError, ShapeError

# where the fields of the header lie
PRECISION, HEIGHT, OUTPUTS, INPUTS, PACKED, LISTS, SEGMENTS, FLAGS = range(8, 40, 4)

HEADER = "a pack's header must describe whole row groups: the file is damaged"
ENDS = "a pack's ends of segments must not fall: the file is damaged"
BEYOND = "a pack's values past the end of a segment must be zero: the file is damaged"


def rising(inputs: int) -> str:
    return f"a pack's columns must rise within a segment and lie below {inputs}: the file is damaged"


@st.composite
def nested(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray], int]:
    """A weight, the masks of its levels, and the rows of a group."""
    outputs, inputs = draw(st.integers(1, 70)), draw(st.integers(1, 30))
    height, levels = draw(st.sampled_from(HEIGHTS)), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    level = rng.integers(0, levels + draw(st.sampled_from([0, 1, 3, 20])), (outputs, inputs))
    if draw(st.booleans()):  # as patterns leave it
        level = np.repeat(level[::height], height, axis=0)[:outputs]
    if draw(st.booleans()):
        level[rng.random(outputs) < 0.5] = 99
    return weight, [level <= at for at in range(levels)], height


def stored_by(mask: np.ndarray, height: int) -> np.ndarray:
    """All that a group's list holds: what any of its rows keeps."""
    padded = np.zeros((-(-len(mask) // height) * height, mask.shape[1]), bool)
    padded[: len(mask)] = mask
    shared = padded.reshape(-1, height, mask.shape[1]).any(axis=1)
    return np.repeat(shared, height, axis=0)[: len(mask)]


def sparse(precision: str = "fp32", levels: int = 3, height: int = 4, inputs: int = 21) -> np.ndarray:
    """A pack of 40 outputs that may be written to."""
    rng = np.random.default_rng(0)
    level = np.repeat(rng.integers(0, levels + 2, (-(-40 // height), inputs)), height, axis=0)[:40]
    weight = rng.standard_normal((40, inputs)).astype(np.float32)
    return pack_lists(weight, [level <= at for at in range(levels)], height, precision)


def view_of(pack: np.ndarray) -> ListView:
    view = parse(pack)
    assert isinstance(view, ListView)
    return view


def put(pack: np.ndarray, byte: int, value: int) -> np.ndarray:
    pack[byte : byte + 4].view("<u4")[0] = value & 0xFFFFFFFF
    return pack


def refused(pack: np.ndarray, sentence: str) -> None:
    with pytest.raises(ArtifactError, match=f"^{re.escape(sentence)}$"):
        parse(pack)


@pytest.mark.parametrize("precision", PRECISIONS)
@given(case=nested())
@settings(deadline=None, max_examples=60)
def test_every_level_comes_back_to_the_bit(
    precision: str, case: tuple[np.ndarray, list[np.ndarray], int]
) -> None:
    weight, masks, height = case
    pack = pack_lists(weight, masks, height, precision)
    assert pack.size % ALIGNMENT == pack.ctypes.data % ALIGNMENT == 0
    view = view_of(pack)
    assert (view.segments, view.height) == (len(masks), height)
    kept = np.where(masks[-1], weight, np.float32(0))
    if precision == "bf16":
        kept = from_bits(to_bits(kept))
    elif precision == "int8":
        q, scales = quantize_rows(kept)
        kept = q * scales[:, None]
    for count, mask in enumerate(masks, 1):
        back, stored = lists.unpack(view, count)
        held = stored_by(mask, height)
        np.testing.assert_array_equal(stored, held)
        np.testing.assert_array_equal(back, np.where(held, kept, 0))
    again, all_stored = unpack(pack)
    np.testing.assert_array_equal(again, kept)
    np.testing.assert_array_equal(all_stored, stored_by(masks[-1], height))


def test_the_bytes_are_as_the_layout_says() -> None:
    weight = np.arange(1, 19, dtype=np.float32).reshape(3, 6)
    sparser = np.array([[0, 1, 0, 0, 1, 0]] * 2 + [[0, 0, 0, 0, 0, 1]], bool)
    denser = sparser | np.array([[1, 0, 0, 0, 0, 0]] * 2 + [[0, 0, 1, 0, 0, 0]], bool)
    pack = pack_lists(weight, [sparser, denser], 2)
    assert pack[:8].tobytes() == b"RTRIMRG1"
    assert pack[8:40].view("<u4").tolist() == [0, 2, 3, 6, 32, 16, 2, 0]
    assert not pack[40:64].any()
    assert pack[64:192].view("<i4").tolist() == [2, 3, 4, 5] + 28 * [5]
    assert pack[192:202].view("<u2").tolist() == [1, 4, 0, 5, 2]
    assert pack[256:].view("<f4").tolist()[:10] == [2, 8, 5, 11, 1, 7, 18, 0, 15, 0]
    assert len(pack) == 320
    half = pack_lists(weight, [sparser, denser], 2, "bf16")
    assert half[64:80].view("<i4").tolist() == [1, 2, 3, 4]
    assert half[192:208].view("<u2").tolist() == [1, 4, 0, 0, 5, 5, 2, 2]  # a segment ends with its last lane
    assert from_bits(half[256:288].view("<u2")).tolist() == [
        2,
        5,
        8,
        11,
        1,
        0,
        7,
        0,
        18,
        0,
        0,
        0,
        15,
        0,
        0,
        0,
    ]
    assert len(half) == 320


def test_columns_are_as_wide_as_they_must_be() -> None:
    for inputs, kind in ((65536, np.uint16), (65537, np.int32)):
        weight = np.zeros((4, inputs), np.float32)
        weight[:, [0, inputs - 1]] = [1.0, 2.0]
        pack = pack_lists(weight, weight != 0, 4, "bf16")
        view = view_of(pack)
        assert view.columns.dtype == kind
        assert view.columns.tolist() == [0, inputs - 1]
        np.testing.assert_array_equal(unpack(pack)[0], weight)
        refused(put(pack, FLAGS, 1 if kind == np.uint16 else 0), HEADER)


def test_nothing_kept_is_empty_lists() -> None:
    pack = pack_lists(np.ones((5, 7), np.float32), np.zeros((5, 7), bool), 8, "bf16")
    assert (view_of(pack).values.size, unpack(pack)[1].any()) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ((3,), ConfigError, "height of a row group must be 1, 2, 4 or 8, not 3"),
        ((4, "fp16"), ConfigError, "precision must be one of fp32, bf16, int8, not 'fp16'"),
    ],
)
def test_what_is_not_packed(arguments: tuple[object, ...], kind: type[Exception], sentence: str) -> None:
    weight = np.ones((4, 4), np.float32)
    with pytest.raises(kind, match=f"^{re.escape(sentence)}$"):
        pack_lists(weight, weight > 0, *arguments)


def test_masks_that_are_not_levels() -> None:
    weight, all_, none = np.ones((4, 4), np.float32), np.ones((4, 4), bool), np.zeros((4, 4), bool)
    cases: list[tuple[list[np.ndarray], type[Exception], str]] = [
        ([], ConfigError, "a pack must hold 1 to 8 levels, not 0"),
        ([all_] * 9, ConfigError, "a pack must hold 1 to 8 levels, not 9"),
        (
            [all_, none],
            ConfigError,
            "masks of levels must be nested: each keeps all that the one before it keeps",
        ),
        (
            [none, all_[:3]],
            ShapeError,
            "a packed weight and its mask must share one non-empty matrix shape, not (4, 4) and (3, 4)",
        ),
    ]
    for masks, kind, sentence in cases:
        with pytest.raises(kind, match=f"^{re.escape(sentence)}$"):
            pack_lists(weight, masks, 4)
    with pytest.raises(ConfigError, match=r"^level must be a whole number from 1 to the pack's 3, not 4$"):
        lists.unpack(view_of(sparse()), 4)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        (PRECISION, 3, (3, 3, 0)),
        (SEGMENTS, 0, (0, 0, 0)),
        (SEGMENTS, 9, (0, 9, 0)),
        (FLAGS, 2, (0, 3, 2)),
    ],
)
def test_headers_of_another_time(field: int, value: int, named: tuple[int, int, int]) -> None:
    precision, segments, flags = named
    refused(
        put(sparse(), field, value),
        "a pack of row groups must be of precision 0 to 2 with 1 to 8 segments and flags 0 or 1, not of precision "
        f"{precision} with {segments} segments and flags {flags}: upgrade retrim",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (HEIGHT, 0),
        (HEIGHT, 3),
        (HEIGHT, 8),
        (OUTPUTS, 0),
        (OUTPUTS, 32),
        (OUTPUTS, 65),
        (INPUTS, 0),
        (INPUTS, 2**31),
        (PACKED, 32),
        (LISTS, 15),
        (LISTS, 2**31),
        (FLAGS, 1),
        (40, 1),
        (60, 1 << 31),
    ],
)
def test_a_header_that_does_not_hold_together(field: int, value: int) -> None:
    refused(put(sparse(), field, value), HEADER)


def test_ends_must_not_fall() -> None:
    view = view_of(pack := sparse())
    for index, value in ((0, -1), (0, int(view.ends[0, 1]) + 1), (5, 0), (5, 2**31 - 1)):
        refused(put(pack.copy(), 64 + 4 * index, value), ENDS)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_columns_must_rise_within_segments(precision: str) -> None:
    view = view_of(pack := sparse(precision))
    width, flat = lane_width(precision), view.ends.reshape(-1)
    columns = view.columns
    for segment in range(flat.size):
        first, last = int(flat[segment - 1]) if segment else 0, int(flat[segment])
        for at in range(first * width, last * width):
            before = int(columns[at])
            for new in (21, 65535):
                columns[at] = new
                refused(pack, rising(21))
            low = int(columns[at - 1]) if at > first * width else 0
            if low > 0:
                columns[at] = low - 1
                refused(pack, rising(21))
            columns[at] = before
    parse(pack)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_repetition_is_the_end_of_a_segment(precision: str) -> None:
    width = lane_width(precision)
    weight = np.ones((4, 3 * width), np.float32)
    pack = pack_lists(weight, weight > 0, 4, precision)
    columns = view_of(pack).columns
    columns[1] = columns[0]  # in a lane that others follow
    refused(pack, rising(3 * width))
    columns[1] = 1
    columns[width] = columns[width - 1]  # across lanes
    refused(pack, rising(3 * width))


def test_a_repetition_goes_on_to_the_end() -> None:
    weight = np.ones((4, 4), np.float32)
    pack = pack_lists(weight, weight > 0, 4, "int8")
    view_of(pack).columns[:] = [0, 0, 1, 2]
    refused(pack, rising(4))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_segments_must_not_share_columns(precision: str) -> None:
    width = lane_width(precision)
    level = np.repeat([[0] * width + [1] * width], 4, axis=0)
    pack = pack_lists(np.ones(level.shape, np.float32), [level < 1, level < 2], 4, precision)
    view_of(pack).columns[width:] = range(width)
    refused(pack, "a pack's segments must not share a column of a list: the file is damaged")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_values_past_the_end_of_a_segment_are_zero(precision: str) -> None:
    pack = sparse(precision)
    view, width = view_of(pack), lane_width(precision)
    cells = view.columns.reshape(-1, width)
    values = view.values.reshape(-1, view.height, width)
    repeated = 0
    for lane, part in np.ndindex(cells.shape):
        if part and cells[lane, part] == cells[lane, part - 1]:
            values[lane, 2, part] = 1
            refused(pack, BEYOND)
            values[lane, 2, part] = 0
            repeated += 1
    assert repeated
    parse(pack)


def test_int8_and_its_scales() -> None:
    pack = sparse("int8")
    view = view_of(pack)
    assert view.scales is not None
    view.values[0] = -128
    refused(pack, "a pack's int8 values must lie within 127 of zero: the file is damaged")
    view.values[0] = 1
    for value in (0.0, -1.0, np.nan, np.inf):
        view.scales[63] = value
        refused(pack, "a pack's scales must be finite and above zero: the file is damaged")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_truncated_in_every_section(precision: str) -> None:
    pack = sparse(precision)
    view = view_of(pack)
    for name in ("ends", "columns", "scales", "values"):
        section = getattr(view, name)
        if section is not None:
            at = section.ctypes.data - pack.ctypes.data
            for end in (at, at + 60):
                refused(pack[:end], f"a pack must hold all its {name}, but ends early: the file is damaged")
    longer = np.concatenate([pack, np.zeros(64, np.uint8)])
    refused(longer, "a pack must end after its values, not 64 bytes later")


def test_the_example_in_the_documentation() -> None:
    """Every line ``byte  content  meaning`` of the page's second part, and that the pack has no more than them."""
    weight = np.array([[0, 1, 0, 0, 2, -3], [0, 0.5, 0, 0, 0, 1.5], [0, 0, 4, 0, 0, 0.25]], np.float32)
    sparser = np.array([[0, 1, 0, 0, 0, 0]] * 2 + [[0, 0, 0, 0, 0, 1]], bool)
    denser = sparser | np.array([[0, 0, 0, 0, 1, 1]] * 2 + [[0, 0, 1, 0, 0, 0]], bool)
    page = (Path(__file__).parents[3] / "docs/retrim/layout.md").read_text(encoding="utf-8")
    told = page[page.index("## Row groups") :]
    blocks = re.findall(r"```text\n(.*?)```", told, re.DOTALL)
    assert len(blocks) == 2
    for block, precision in zip(blocks, ("fp32", "bf16"), strict=True):
        pack = pack_lists(weight, [sparser, denser], 2, precision)
        told_bytes = np.zeros_like(pack)
        for line in block.splitlines():
            found = re.match(r" *(\d+)  ((?:[0-9a-f]{2} )*[0-9a-f]{2})  ", line)
            assert found, line
            content = bytes.fromhex(found[2])
            told_bytes[int(found[1]) : int(found[1]) + len(content)] = np.frombuffer(content, np.uint8)
        if precision == "bf16":  # told are the bytes that differ
            told_bytes[:8], told_bytes[12:64] = pack[:8], pack[12:64]
        ends = slice(64 + 4 * 4, 64 + 4 * 32)  # of lists that hold padding alone
        told_bytes[ends] = pack[ends]
        np.testing.assert_array_equal(told_bytes, pack)
        assert f"{len(pack)} bytes" in told
