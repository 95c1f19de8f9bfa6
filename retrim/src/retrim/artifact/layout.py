"""The packed layout of a linear weight: rows in blocks, kept columns in lists.

A pack is one array of bytes, little endian, every section on a multiple of 64::

    header   64 bytes, see below
    starts   int32[blocks + 1]     where each block's column list starts
    columns  int32[starts[-1]]     kept columns, ascending within a block
    rows     int32[packed rows]    output row of each packed row, -1 for padding;
                                   only with flag 1, else packed row = output row
    scales   float32[packed rows]  weight = scale * value; only in int8
    values   block after block; in a block one panel after another of 32 rows:
             [lanes][32] of 32 bits

    header:  0  8 bytes  magic "RTRIMBC1"
             8  uint32   precision (0: float32, 1: bfloat16, 2: int8)
            12  uint32   height of a block, a multiple of 32
            16  uint32   outputs
            20  uint32   inputs
            24  uint32   packed rows, a multiple of 32
            28  uint32   blocks
            32  uint32   segments (1)
            36  uint32   flags (1: a row list is there)
            40  uint32   group shift (0, 1 or 2)
            44  20 bytes zero

A lane holds 1, 2 or 4 kept columns of one row (as many as 32 bits have room
for), the lowest in the lowest bytes; columns past the end of the list are zero.
Kept columns come in runs of 1 << group shift that start at a multiple of it.
The last block may be lower than the others.  Outputs that no packed row maps to
hold their bias alone.  Nothing outside this module and `retrim.artifact.sections` knows the byte order.

Masks that only a few neighbouring rows share have a layout of their own, that of
`retrim.artifact.lists`; `parse` and `unpack` take either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrim.artifact import list_sections, lists, sections
from retrim.artifact.bfloat16 import from_bits, to_bits
from retrim.artifact.int8 import quantize_rows
from retrim.artifact.list_sections import ListView
from retrim.artifact.lists import pack_lists
from retrim.artifact.sections import (
    ALIGNMENT,
    GROUPS,
    HAS_ROWS,
    HEADER,
    LANE,
    MAGIC,
    PANEL,
    PRECISIONS,
    VALUES,
    PackView,
    Sections,
    aligned,
    count_values,
    lane_width,
)
from retrim.errors import ConfigError, ShapeError

__all__ = [
    "ALIGNMENT",
    "GROUPS",
    "PANEL",
    "PRECISIONS",
    "AnyView",
    "ListView",
    "PackView",
    "check_precision",
    "lane_width",
    "pack_lists",
    "pack_rows",
    "parse",
    "unpack",
]

AnyView = PackView | ListView
"""A validated pack, of blocks or of row groups."""


def parse(pack: np.ndarray) -> AnyView:
    """Take a pack of either layout apart, after checking everything that a kernel relies on.

    Raises
    ------
    ArtifactError
        If any of it is wrong: a file can never make a kernel read out of bounds.
    """
    sections.check_bytes(pack)
    return list_sections.parse(pack) if pack[:8].tobytes() == list_sections.MAGIC else sections.parse(pack)


def pack_rows(
    weight: np.ndarray, mask: np.ndarray, rows: int = PANEL, precision: str = "fp32", group: int = 1
) -> np.ndarray:
    """Pack what `mask` keeps of `weight`.

    A block stores every column that any of its rows keeps, and with it all of
    its group.  Rows that keep nothing are left out where that makes the pack in
    fp32 smaller: packs of one weight differ in their values only.

    Parameters
    ----------
    weight : ndarray of float32, shape (out, in)
    mask : ndarray of bool, shape (out, in)
    rows : int
        Height of a block, a multiple of 32.
    precision : {"fp32", "bf16", "int8"}
        bf16: rounded to nearest even.  int8: see `retrim.artifact.int8`.
    group : {1, 2, 4}
        Columns are stored in aligned groups of so many; divides the inputs.

    Returns
    -------
    ndarray of uint8, shape (n,), n and its address multiples of 64

    Raises
    ------
    ConfigError, ShapeError
    WeightError
        If a weight in int8 is not finite.
    """
    if rows < PANEL or rows % PANEL:
        raise ConfigError(f"rows of a packed block must be a multiple of {PANEL}, not {rows}")
    check_precision(precision)
    if group not in GROUPS:
        raise ConfigError(f"group of a pack must be 1, 2 or 4, not {group!r}")
    if weight.ndim != 2 or weight.shape != mask.shape or 0 in weight.shape:
        raise ShapeError(
            f"a packed weight and its mask must share one non-empty matrix shape, not {weight.shape} "
            f"and {mask.shape}"
        )
    if weight.shape[1] % group:
        raise ShapeError(
            f"group of a pack must divide the weight's {weight.shape[1]} inputs, not be {group}: "
            f"choose {' or '.join(str(g) for g in GROUPS if weight.shape[1] % g == 0)}"
        )
    alive = np.flatnonzero(mask.any(axis=1)).astype(np.int32)
    chosen = _Plan.of(mask, rows, group, None)
    if len(alive) < len(mask):
        fewer = _Plan.of(mask, rows, group, alive)
        chosen = fewer if fewer.nbytes("fp32") < chosen.nbytes("fp32") else chosen
    return chosen.assemble(weight, mask, precision)


def check_precision(precision: str) -> None:
    """Refuse a precision that there is not.

    Raises
    ------
    ConfigError
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


@dataclass(frozen=True, eq=False)
class _Plan:
    """What a pack stores, before any value is looked at.

    `rows` are the outputs that are stored, or None for all in their order;
    `kept` says which columns each block stores, bool, shape (blocks, inputs).
    """

    outputs: int
    height: int
    group: int
    rows: np.ndarray | None
    kept: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, height: int, group: int, rows: np.ndarray | None) -> _Plan:
        stored = mask if rows is None else mask[rows]
        if len(stored):
            kept = np.logical_or.reduceat(stored, np.arange(0, len(stored), height), axis=0)
        else:
            kept = np.zeros((0, mask.shape[1]), bool)
        if group > 1:
            kept = np.repeat(
                kept.reshape(len(kept), mask.shape[1] // group, group).any(axis=2), group, axis=1
            )
        return cls(len(mask), height, group, rows, kept)

    @property
    def packed_rows(self) -> int:
        count = self.outputs if self.rows is None else len(self.rows)
        return -(-count // PANEL) * PANEL

    @property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(np.count_nonzero(self.kept, axis=1))])

    def sections(self, precision: str) -> list[tuple[str, int]]:
        """Type and length of every section after the header."""
        starts = self.starts
        values = count_values(starts, self.height, self.packed_rows, lane_width(precision))
        return [
            ("<i4", len(starts)),
            ("<i4", int(starts[-1])),
            ("<i4", 0 if self.rows is None else self.packed_rows),
            ("<f4", self.packed_rows if precision == "int8" else 0),
            (VALUES[precision].str, values),
        ]

    def nbytes(self, precision: str) -> int:
        sizes = (count * np.dtype(dtype).itemsize for dtype, count in self.sections(precision))
        return HEADER.itemsize + sum(size + -size % ALIGNMENT for size in sizes)

    def assemble(self, weight: np.ndarray, mask: np.ndarray, precision: str) -> np.ndarray:
        pack = aligned(self.nbytes(precision))
        pack[: HEADER.itemsize] = np.frombuffer(self._header(precision), np.uint8)
        take = Sections(pack)
        starts, columns, rows, scales, values = (
            take(dtype, count, "values") for dtype, count in self.sections(precision)
        )
        starts[:] = self.starts
        columns[:] = np.nonzero(self.kept)[1]
        if self.rows is not None:
            rows[:] = -1
            rows[: len(self.rows)] = self.rows
            weight, mask = weight[self.rows], mask[self.rows]
        stored = np.where(mask, weight, np.float32(0)).astype(np.float32, copy=False)
        if precision == "int8":
            scales[:] = 1
            stored, scales[: len(stored)] = quantize_rows(stored)
        elif precision == "bf16":
            stored = to_bits(stored)
        self._write(stored, columns, values)
        return pack

    def _header(self, precision: str) -> bytes:
        header = np.zeros((), HEADER)
        header["magic"] = MAGIC
        header["precision"] = PRECISIONS.index(precision)
        header["height"] = self.height
        header["outputs"], header["inputs"] = self.outputs, self.kept.shape[1]
        header["packed_rows"], header["blocks"] = self.packed_rows, len(self.kept)
        header["segments"] = 1
        header["flags"] = 0 if self.rows is None else HAS_ROWS
        header["group_shift"] = GROUPS.index(self.group)
        return header.tobytes()

    def _write(self, stored: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        """Put the stored rows into the panels of `values`, which are zero."""
        width = LANE // values.itemsize
        starts, offset = self.starts, 0
        for block in range(len(self.kept)):
            kept = columns[starts[block] : starts[block + 1]]
            first = block * self.height
            last = min(first + self.height, self.packed_rows)
            lanes = -(-len(kept) // width)
            found = np.zeros((last - first, lanes * width), values.dtype)
            found[: len(stored) - first, : len(kept)] = stored[first:last, kept]
            panels = found.reshape((last - first) // PANEL, PANEL, lanes, width).transpose(0, 2, 1, 3)
            values[offset : offset + found.size].reshape(panels.shape)[:] = panels
            offset += found.size


def unpack(pack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weight of a pack, float32 (out, in), and which of its entries are stored, bool (out, in).

    What was rounded or quantised stays so: the weight is the one that kernels compute with.
    """
    view = parse(pack)
    if isinstance(view, ListView):
        return lists.unpack(view)
    width = lane_width(view.precision)
    weight = np.zeros((view.packed_rows, view.inputs), np.float32)
    stored = np.zeros((view.packed_rows, view.inputs), bool)
    offset = 0
    for block in range(len(view.starts) - 1):
        kept = view.columns[view.starts[block] : view.starts[block + 1]]
        first = block * view.height
        last = min(first + view.height, view.packed_rows)
        lanes = -(-len(kept) // width)
        size = (last - first) * lanes * width
        panels = view.values[offset : offset + size].reshape((last - first) // PANEL, lanes, PANEL, width)
        found = panels.transpose(0, 2, 1, 3).reshape(last - first, lanes * width)[:, : len(kept)]
        weight[first:last, kept] = from_bits(found) if view.precision == "bf16" else found
        stored[first:last, kept] = True
        offset += size
    if view.scales is not None:
        weight *= view.scales[:, None]
    if view.rows is None:
        return weight[: view.outputs], stored[: view.outputs]
    full = np.zeros((view.outputs, view.inputs), np.float32)
    mask = np.zeros((view.outputs, view.inputs), bool)
    real = view.rows >= 0
    full[view.rows[real]], mask[view.rows[real]] = weight[real], stored[real]
    return full, mask
