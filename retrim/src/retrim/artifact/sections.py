"""The sections of a pack, found and checked.  What they mean: `retrim.artifact.layout`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrim.artifact.int8 import LARGEST
from retrim.errors import ArtifactError

MAGIC = b"RTRIMBC1"
PANEL = 32
ALIGNMENT = 64
PRECISIONS = ("fp32", "bf16", "int8")
"""In the order of their codes in the header: the most precise first."""
GROUPS = (1, 2, 4)
"""In the order of their shifts in the header."""
VALUES: dict[str, np.dtype[Any]] = {"fp32": np.dtype("<f4"), "bf16": np.dtype("<u2"), "int8": np.dtype("i1")}
LANE = 4
HAS_ROWS = 1
HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("precision", "<u4"),
        ("height", "<u4"),
        ("outputs", "<u4"),
        ("inputs", "<u4"),
        ("packed_rows", "<u4"),
        ("blocks", "<u4"),
        ("segments", "<u4"),
        ("flags", "<u4"),
        ("group_shift", "<u4"),
        ("zero", "V20"),
    ]
)


def lane_width(precision: str) -> int:
    """Kept columns in a lane of 32 bits."""
    return LANE // VALUES[precision].itemsize


@dataclass(frozen=True, eq=False)
class PackView:
    """A validated pack, section by section, without a copy.

    Attributes
    ----------
    precision : {"fp32", "bf16", "int8"}
    outputs, inputs : int
        Shape of the weight.
    height : int
        Rows of a block.
    group : {1, 2, 4}
        Kept columns come in aligned groups of so many.
    starts : ndarray of int32, shape (blocks + 1,)
    columns : ndarray of int32, shape (starts[-1],)
    rows : ndarray of int32, shape (packed_rows,), or None
        None means that packed row i is output row i.
    scales : ndarray of float32, shape (packed_rows,), or None
        In int8 only.
    values : ndarray of float32, uint16 (the bits of bfloat16) or int8
        In the order of the bytes: for each panel [lanes][32][columns of a lane].
    packed_rows : int
    nbytes : int
    """

    precision: str
    outputs: int
    inputs: int
    height: int
    group: int
    starts: np.ndarray
    columns: np.ndarray
    rows: np.ndarray | None
    scales: np.ndarray | None
    values: np.ndarray
    packed_rows: int
    nbytes: int

    @property
    def stored_density(self) -> float:
        """Stored values, padding among them, over the size of the weight."""
        return self.values.size / (self.outputs * self.inputs)

    @property
    def panel_starts(self) -> np.ndarray:
        """Where each panel starts in `values`, and where the last one ends, int64, shape (panels + 1,)."""
        width = lane_width(self.precision)
        lanes = -(-np.diff(self.starts).astype(np.int64) // width)
        of_panels = np.repeat(lanes, self.height // PANEL)[: self.packed_rows // PANEL]
        starts = np.zeros(len(of_panels) + 1, np.int64)
        np.cumsum(of_panels * (PANEL * width), out=starts[1:])
        return starts


def count_values(starts: np.ndarray, height: int, packed_rows: int, width: int) -> int:
    """Length of the values; in whole numbers that cannot overflow, whatever a damaged file says."""
    lanes = -(-np.diff(starts).astype(np.int64) // width)
    if not len(lanes):
        return 0
    last = packed_rows - (len(lanes) - 1) * height
    return (int(lanes[:-1].sum()) * height + int(lanes[-1]) * last) * width


def parse(pack: np.ndarray) -> PackView:
    """Take a pack apart, after checking everything that a kernel relies on.

    Raises
    ------
    ArtifactError
        If any of it is wrong: a file can never make a kernel read out of bounds.
    """
    check_bytes(pack)
    header = pack[: HEADER.itemsize].view(HEADER)[0]
    _check_header(header)
    precision, group = PRECISIONS[header["precision"]], GROUPS[header["group_shift"]]
    height, packed = int(header["height"]), int(header["packed_rows"])
    outputs, inputs, blocks = (int(header[k]) for k in ("outputs", "inputs", "blocks"))
    take = Sections(pack)
    starts = take("<i4", blocks + 1, "starts")
    if starts[0] != 0 or np.any(starts[1:] < starts[:-1]):  # differences might overflow
        raise ArtifactError("a pack's column lists must follow each other: the file is damaged")
    columns = take("<i4", int(starts[-1]), "columns")
    _check_columns(columns, starts, inputs)
    _check_groups(columns, starts, group)
    rows = take("<i4", packed, "rows") if header["flags"] & HAS_ROWS else None
    _check_rows(rows, packed, outputs)
    scales = take("<f4", packed, "scales") if precision == "int8" else None
    if scales is not None and not ((scales > 0) & np.isfinite(scales)).all():
        raise ArtifactError("a pack's scales must be finite and above zero: the file is damaged")
    count = count_values(starts, height, packed, lane_width(precision))
    values = take(VALUES[precision].str, count, "values")
    if take.end != len(pack):
        raise ArtifactError(f"a pack must end after its values, not {len(pack) - take.end} bytes later")
    view = PackView(
        precision, outputs, inputs, height, group, starts, columns, rows, scales, values, packed, pack.nbytes
    )
    _check_values(view)
    return view


def check_bytes(pack: np.ndarray) -> None:
    """Refuse what cannot be a pack of any layout.

    Raises
    ------
    ArtifactError
    """
    if pack.dtype != np.uint8 or pack.ndim != 1 or len(pack) < HEADER.itemsize:
        raise ArtifactError("a pack must be an array of at least 64 bytes: the file is damaged")
    if not pack.flags.c_contiguous or pack.ctypes.data % 4:
        raise ArtifactError("a pack must be contiguous and start at a multiple of 4 bytes: copy it")


def aligned(size: int) -> np.ndarray:
    """Zeros where a cache line starts: vectors that straddle two are read at half the speed."""
    room = np.zeros(size + ALIGNMENT, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    return room[first : first + size]


def _check_header(header: np.void) -> None:
    if header["magic"] != MAGIC:
        raise ArtifactError(f"a pack must start with {MAGIC.decode()}: the file is damaged or newer")
    known = header["precision"] < len(PRECISIONS) and header["group_shift"] < len(GROUPS)
    if not known or header["segments"] != 1 or header["flags"] > HAS_ROWS:
        raise ArtifactError(
            "a pack must be of precision 0 to 2 with 1 segment and group shift 0 to 2, not of precision "
            f"{header['precision']} with {header['segments']} segments, group shift {header['group_shift']} "
            f"and flags {header['flags']}: upgrade retrim"
        )
    height, packed, blocks = (int(header[k]) for k in ("height", "packed_rows", "blocks"))
    sane = height >= PANEL and height % PANEL == 0 and packed % PANEL == 0
    sane = sane and header["zero"].tobytes() == bytes(20)
    sane = sane and header["outputs"] > 0 and header["inputs"] > 0
    if not sane or blocks != -(-packed // height) or header["inputs"] % GROUPS[header["group_shift"]]:
        raise ArtifactError("a pack's header must describe whole blocks: the file is damaged")


class Sections:
    """Hands out the sections of a pack one after another."""

    def __init__(self, pack: np.ndarray) -> None:
        self.pack, self.end = pack, HEADER.itemsize

    def __call__(self, dtype: str, count: int, name: str) -> np.ndarray:
        first = self.end
        stop = first + count * np.dtype(dtype).itemsize
        self.end = stop + (-stop % ALIGNMENT)
        if self.end > len(self.pack):
            raise ArtifactError(f"a pack must hold all its {name}, but ends early: the file is damaged")
        return self.pack[first:stop].view(dtype)


def _check_columns(columns: np.ndarray, starts: np.ndarray, inputs: int) -> None:
    if not len(columns):
        return
    rising = columns[1:] > columns[:-1]
    seams = starts[1:-1]
    rising[seams[(seams > 0) & (seams < len(columns))] - 1] = True
    if columns.min() < 0 or columns.max() >= inputs or not rising.all():
        raise ArtifactError(
            f"a pack's columns must rise within a block and lie below {inputs}: the file is damaged"
        )


def _check_groups(columns: np.ndarray, starts: np.ndarray, group: int) -> None:
    if group == 1:
        return
    whole = not (starts % group).any()
    if whole:  # of columns that are in range and rise
        runs = columns.reshape(-1, group)
        firsts = runs[:, :1]
        whole = not (firsts % group).any() and bool((runs - firsts == np.arange(group)).all())
    if not whole:
        raise ArtifactError(
            f"a pack's columns must come in whole groups of {group}, each from a multiple of {group} on: "
            "the file is damaged"
        )


def _check_rows(rows: np.ndarray | None, packed: int, outputs: int) -> None:
    if rows is None:
        if packed != -(-outputs // PANEL) * PANEL:
            raise ArtifactError("a pack without a row list must hold all rows: the file is damaged")
        return
    used = rows[rows >= 0]
    if rows.size and (rows.min() < -1 or rows.max() >= outputs or len(np.unique(used)) != len(used)):
        raise ArtifactError(
            f"a pack's row list must name each of {outputs} outputs once at most: the file is damaged"
        )


def _check_values(view: PackView) -> None:
    if view.precision == "int8" and view.values.min(initial=0) < -LARGEST:
        raise ArtifactError(f"a pack's int8 values must lie within {LARGEST} of zero: the file is damaged")
    width = lane_width(view.precision)
    if width == 1:
        return
    kept = np.diff(view.starts).astype(np.int64)
    lanes = -(-kept // width)
    before = (np.cumsum(lanes) - lanes) * view.height
    panels = np.minimum(view.height, view.packed_rows - np.arange(len(kept)) * view.height) // PANEL
    panels[kept % width == 0] = 0  # only where a list ends within a lane
    block = np.repeat(np.arange(len(kept)), panels)
    order = np.arange(len(block)) - np.repeat(np.cumsum(panels) - panels, panels)
    last = before[block] + ((order + 1) * lanes[block] - 1) * PANEL
    found = view.values.reshape(-1, width)[last[:, None] + np.arange(PANEL)]
    beyond = np.arange(width) >= (kept[block] % width)[:, None, None]
    if np.any((found != 0) & beyond):
        raise ArtifactError("a pack's values past the end of a column list must be zero: the file is damaged")
