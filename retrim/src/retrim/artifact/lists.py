"""The packed layout of row groups: a list of columns for every few output rows.

Where `retrim.artifact.layout` has blocks of 32 rows and more, here each group of
1, 2, 4 or 8 neighbouring rows has a list of its own, as pattern sets leave them.
A list may be cut into segments: those of the first s alone are the weight of
level s.  One array of bytes, little endian, every section on a multiple of 64::

    header   64 bytes, see below
    ends     int32[lists][segments]   lanes of all lists up to the end of each segment
    columns  uint16[lanes * width]    kept columns, ascending within a segment; what is
             (int32 with flag 1)      left of its last lane repeats the last of them
    scales   float32[packed rows]     weight = scale * value; only in int8
    values   [lanes][height] of 32 bits

    header:  0  8 bytes  magic "RTRIMRG1"
             8  uint32   precision (0: float32, 1: bfloat16, 2: int8)
            12  uint32   height of a group: 1, 2, 4 or 8
            16  uint32   outputs
            20  uint32   inputs
            24  uint32   packed rows: outputs rounded up to a multiple of 32
            28  uint32   lists = packed rows / height
            32  uint32   segments, 1 to 8
            36  uint32   flags (1: columns are int32, just where inputs exceed 65,536)
            40  24 bytes zero

A lane is as in the other layout: 1, 2 or 4 kept columns (the width) of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from retrim.artifact.bfloat16 import from_bits, to_bits
from retrim.artifact.int8 import quantize_rows
from retrim.artifact.list_sections import (
    HEIGHTS,
    MOST_SEGMENTS,
    ListPlan,
    ListView,
    cell_of_lanes,
    real_places,
)
from retrim.artifact.sections import PANEL, PRECISIONS, aligned, lane_width
from retrim.errors import ConfigError, ShapeError

_MOST_LANES = 2**31 - 1


def pack_lists(
    weight: np.ndarray,
    masks: np.ndarray | Sequence[np.ndarray],
    height: int,
    precision: str = "fp32",
) -> np.ndarray:
    """Pack what masks keep of `weight`, level by level.

    A group stores every column that any of its rows keeps.

    Parameters
    ----------
    weight : ndarray of float32, shape (out, in)
    masks : ndarray of bool, shape (out, in), or a sequence of 1 to 8
        The masks of levels, the sparsest first, each with all that the one before it keeps.
    height : {1, 2, 4, 8}
        Rows of a group.
    precision : {"fp32", "bf16", "int8"}
        As for `retrim.artifact.layout.pack_rows`; scales are those of the last level.

    Returns
    -------
    ndarray of uint8, shape (n,), n and its address multiples of 64

    Raises
    ------
    ConfigError, ShapeError
    WeightError
        If a weight in int8 is not finite.
    """
    levels = [masks] if isinstance(masks, np.ndarray) else list(masks)
    _check_request(weight, levels, height, precision)
    packed = -(-weight.shape[0] // PANEL) * PANEL
    stored = np.zeros((packed, weight.shape[1]), np.float32)
    stored[: len(weight)] = np.where(levels[-1], weight, np.float32(0))
    lists, segments, columns, counts = _cells(levels, height, packed)
    width = lane_width(precision)
    lanes = -(-counts // width)
    ends = np.cumsum(lanes).reshape(lanes.shape)
    if ends.size and int(ends[-1, -1]) > _MOST_LANES:
        raise ConfigError("a pack of row groups must have fewer than 2^31 lanes: split the weight")
    plan = ListPlan(
        (weight.shape[0], weight.shape[1]), height, (len(lanes), len(levels)), int(lanes.sum()), precision
    )
    pack = aligned(plan.nbytes)
    view = plan.begin(pack)
    view.ends[:] = ends
    if view.scales is not None:
        stored, view.scales[:] = quantize_rows(stored)
    elif precision == "bf16":
        stored = to_bits(stored)
    places = _places(lists, segments, counts, lanes, width)
    _fill_columns(view.columns, places, columns, counts, lanes * width)
    by_group = stored.reshape(-1, height, weight.shape[1])
    values = view.values.reshape(-1, height, width)
    values[places // width, :, places % width] = by_group[lists, :, columns]
    return pack


def groups(weight: np.ndarray, mask: np.ndarray, height: int) -> np.ndarray:
    """A mask whose rows agree in each group, by group.

    Returns
    -------
    ndarray of bool, shape (packed rows / height, in)

    Raises
    ------
    ConfigError
        If rows of a group differ, or a group cannot be so high.
    ShapeError
    """
    _check_request(weight, [mask], height, "fp32")
    outputs, inputs = mask.shape
    rows = np.zeros((-(-outputs // PANEL) * PANEL, inputs), bool)
    rows[:outputs] = mask
    found: np.ndarray = np.maximum.reduce(rows.reshape(-1, height, inputs), axis=1)
    if np.any(np.repeat(found, height, axis=0)[:outputs] != mask):
        raise ConfigError(f"a mask must be alike in each {height} neighbouring rows to share lists")
    return found


def _check_request(weight: np.ndarray, levels: list[np.ndarray], height: int, precision: str) -> None:
    if height not in HEIGHTS:
        raise ConfigError(f"height of a row group must be 1, 2, 4 or 8, not {height!r}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if not 1 <= len(levels) <= MOST_SEGMENTS:
        raise ConfigError(f"a pack must hold 1 to {MOST_SEGMENTS} levels, not {len(levels)}")
    for mask in levels:
        if weight.ndim != 2 or weight.shape != mask.shape or 0 in weight.shape:
            raise ShapeError(
                f"a packed weight and its mask must share one non-empty matrix shape, not {weight.shape} "
                f"and {mask.shape}"
            )
    for sparser, denser in pairwise(levels):
        if np.any(sparser & ~denser):
            raise ConfigError("masks of levels must be nested: each keeps all that the one before it keeps")


def _cells(
    levels: list[np.ndarray], height: int, packed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """List, segment and column of all that is stored, in order, and how many each segment of each list has."""
    outputs, inputs = levels[0].shape
    first = np.full((packed // height, inputs), len(levels), np.int8)  # the level that a column comes in with
    for level in reversed(range(len(levels))):
        rows = np.zeros((packed, inputs), bool)
        rows[:outputs] = levels[level]
        first[rows.reshape(-1, height, inputs).any(axis=1)] = level
    found = []
    for level in range(len(levels)):
        lists, columns = np.nonzero(first == level)
        found.append((lists, np.full(len(lists), level), columns))
    lists, segments, columns = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((segments, lists))  # stable: columns stay ascending
    counts = np.zeros((packed // height, len(levels)), np.int64)
    np.add.at(counts, (lists, segments), 1)
    return lists[order], segments[order], columns[order], counts


def _places(
    lists: np.ndarray, segments: np.ndarray, counts: np.ndarray, lanes: np.ndarray, width: int
) -> np.ndarray:
    """Where each entry goes among the columns: segments start on whole lanes."""
    cell = lists * counts.shape[1] + segments
    before = np.cumsum(counts.reshape(-1)) - counts.reshape(-1)
    room = np.cumsum(lanes.reshape(-1)) - lanes.reshape(-1)
    found: np.ndarray = room[cell] * width + np.arange(len(cell)) - before[cell]
    return found


def _fill_columns(
    to: np.ndarray, places: np.ndarray, columns: np.ndarray, counts: np.ndarray, room: np.ndarray
) -> None:
    """Columns in their places; the last of each segment fills what is left of its last lane."""
    last = np.cumsum(counts.reshape(-1)) - 1
    used = counts.reshape(-1) > 0
    to[:] = np.repeat(columns[last[used]], room.reshape(-1)[used])
    to[places] = columns


def unpack(view: ListView, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The weight of a pack, float32 (out, in), and which of its entries are stored, bool (out, in).

    Parameters
    ----------
    levels : int, optional
        Only the first so many segments of each list; default: all.

    Raises
    ------
    ConfigError
        If the pack does not have so many.
    """
    count = check_level(view, levels)
    width = lane_width(view.precision)
    cells = cell_of_lanes(view.ends)
    real = real_places(view, cells).reshape(-1, width) & (cells % view.segments < count)[:, None]
    lane, part = np.nonzero(real)
    lists = cells[lane] // view.segments
    columns = view.columns.reshape(-1, width)[lane, part].astype(np.int64)
    values = view.values.reshape(-1, view.height, width)[lane, :, part]
    shape = (view.packed_rows // view.height, view.height, view.inputs)
    weight, stored = np.zeros(shape, np.float32), np.zeros(shape, bool)
    weight[lists, :, columns] = from_bits(values) if view.precision == "bf16" else values
    stored[lists, :, columns] = True
    dense = weight.reshape(-1, view.inputs)
    if view.scales is not None:
        dense *= view.scales[:, None]
    return dense[: view.outputs], stored.reshape(-1, view.inputs)[: view.outputs]


def check_level(view: ListView, levels: int | None) -> int:
    """Number of segments that a level has, after checking that there are so many.

    Raises
    ------
    ConfigError
    """
    if levels is None:
        return view.segments
    if type(levels) is not int or not 1 <= levels <= view.segments:
        raise ConfigError(
            f"level must be a whole number from 1 to the pack's {view.segments}, not {levels!r}"
        )
    return levels
