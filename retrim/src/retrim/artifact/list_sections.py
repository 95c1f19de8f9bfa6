"""The sections of a pack of row groups, found and checked.  What they mean: `retrim.artifact.lists`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrim.artifact.int8 import LARGEST
from retrim.artifact.sections import ALIGNMENT, PANEL, PRECISIONS, VALUES, Sections, lane_width
from retrim.errors import ArtifactError

MAGIC = b"RTRIMRG1"
HEIGHTS = (1, 2, 4, 8)
MOST_SEGMENTS = 8
WIDE = 1
NARROW_INPUTS = 1 << 16
HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("precision", "<u4"),
        ("height", "<u4"),
        ("outputs", "<u4"),
        ("inputs", "<u4"),
        ("packed_rows", "<u4"),
        ("lists", "<u4"),
        ("segments", "<u4"),
        ("flags", "<u4"),
        ("zero", "V24"),
    ]
)


@dataclass(frozen=True, eq=False)
class ListView:
    """A validated pack of row groups, section by section, without a copy.

    Attributes
    ----------
    precision : {"fp32", "bf16", "int8"}
    outputs, inputs : int
        Shape of the weight.
    height : {1, 2, 4, 8}
        Rows that share a list.
    ends : ndarray of int32, shape (lists, segments)
        Lanes of all lists up to the end of each segment.
    columns : ndarray of uint16 or int32, shape (lanes * width,)
    scales : ndarray of float32, shape (packed_rows,), or None
        In int8 only.
    values : ndarray of float32, uint16 (the bits of bfloat16) or int8
        In the order of the bytes: [lanes][height][columns of a lane].
    packed_rows : int
        Row i is output i; those beyond the outputs are padding.
    nbytes : int
    """

    precision: str
    outputs: int
    inputs: int
    height: int
    ends: np.ndarray
    columns: np.ndarray
    scales: np.ndarray | None
    values: np.ndarray
    packed_rows: int
    nbytes: int

    @property
    def group(self) -> int:
        """Columns are kept one by one."""
        return 1

    @property
    def segments(self) -> int:
        """Segments of a list: levels that the pack holds."""
        return int(self.ends.shape[1])

    @property
    def stored_density(self) -> float:
        """Stored values, padding among them, over the size of the weight."""
        return self.values.size / (self.outputs * self.inputs)


@dataclass(frozen=True)
class ListPlan:
    """Sizes of a pack of row groups that is to be written.

    Attributes
    ----------
    shape : (int, int)
        Of the weight.
    height : {1, 2, 4, 8}
    lists : (int, int)
        Lists, and segments of each.
    lanes : int
        Of all lists.
    precision : {"fp32", "bf16", "int8"}
    """

    shape: tuple[int, int]
    height: int
    lists: tuple[int, int]
    lanes: int
    precision: str

    @property
    def nbytes(self) -> int:
        """Of the pack."""
        sizes = [count * np.dtype(dtype).itemsize for dtype, count in self._sections]
        return HEADER.itemsize + sum(size + -size % ALIGNMENT for size in sizes)

    @property
    def _sections(self) -> list[tuple[str, int]]:
        width = lane_width(self.precision)
        return [
            ("<i4", self.lists[0] * self.lists[1]),
            ("<i4" if self.shape[1] > NARROW_INPUTS else "<u2", self.lanes * width),
            ("<f4", self.lists[0] * self.height if self.precision == "int8" else 0),
            (VALUES[self.precision].str, self.lanes * self.height * width),
        ]

    def begin(self, pack: np.ndarray) -> ListView:
        """Write all but the sections, of which what is returned has views to be filled.

        Parameters
        ----------
        pack : ndarray of uint8, shape (nbytes,)
        """
        header = np.zeros((), HEADER)
        header["magic"] = MAGIC
        header["precision"] = PRECISIONS.index(self.precision)
        header["height"], header["packed_rows"] = self.height, self.lists[0] * self.height
        header["outputs"], header["inputs"] = self.shape
        header["lists"], header["segments"] = self.lists
        header["flags"] = WIDE if self.shape[1] > NARROW_INPUTS else 0
        pack[: HEADER.itemsize] = np.frombuffer(header.tobytes(), np.uint8)
        take, found = Sections(pack), []
        for dtype, count in self._sections:
            first = take.end
            found.append(take(dtype, count, "values"))
            pack[first + found[-1].nbytes : take.end] = 0
        ends, columns, scales, values = found
        return ListView(
            self.precision, *self.shape, self.height, ends.reshape(self.lists), columns,
            scales if self.precision == "int8" else None, values, self.lists[0] * self.height, pack.nbytes,
        )  # fmt: skip


def parse(pack: np.ndarray) -> ListView:
    """Take a pack of row groups apart, after checking everything that a kernel relies on.

    Parameters
    ----------
    pack : ndarray of uint8, shape (n,)
        Contiguous, of 64 bytes and more, that start with the magic.

    Raises
    ------
    ArtifactError
        If any of it is wrong: a file can never make a kernel read out of bounds.
    """
    header = pack[: HEADER.itemsize].view(HEADER)[0]
    _check_header(header)
    precision = PRECISIONS[header["precision"]]
    outputs, inputs, height, packed, lists, segments = (
        int(header[k]) for k in ("outputs", "inputs", "height", "packed_rows", "lists", "segments")
    )
    width = lane_width(precision)
    take = Sections(pack)
    ends = take("<i4", lists * segments, "ends")
    if ends[0] < 0 or np.any(ends[1:] < ends[:-1]):  # differences might overflow
        raise ArtifactError("a pack's ends of segments must not fall: the file is damaged")
    lanes = int(ends[-1])
    columns = take("<i4" if header["flags"] & WIDE else "<u2", lanes * width, "columns")
    scales = take("<f4", packed, "scales") if precision == "int8" else None
    if scales is not None and not ((scales > 0) & np.isfinite(scales)).all():
        raise ArtifactError("a pack's scales must be finite and above zero: the file is damaged")
    values = take(VALUES[precision].str, lanes * height * width, "values")
    if take.end != len(pack):
        raise ArtifactError(f"a pack must end after its values, not {len(pack) - take.end} bytes later")
    ends = ends.reshape(lists, segments)
    view = ListView(precision, outputs, inputs, height, ends, columns, scales, values, packed, pack.nbytes)
    cells = cell_of_lanes(ends)
    _check_columns(view, cells)
    _check_values(view, cells)
    return view


def _check_header(header: np.void) -> None:
    known = header["precision"] < len(PRECISIONS) and header["flags"] <= WIDE
    if not known or not 1 <= header["segments"] <= MOST_SEGMENTS:
        raise ArtifactError(
            f"a pack of row groups must be of precision 0 to 2 with 1 to {MOST_SEGMENTS} segments and flags 0 or 1, "
            f"not of precision {header['precision']} with {header['segments']} segments and flags "
            f"{header['flags']}: upgrade retrim"
        )
    height, outputs, inputs = (int(header[k]) for k in ("height", "outputs", "inputs"))
    packed = -(-outputs // PANEL) * PANEL
    sane = height in HEIGHTS and outputs > 0 and 0 < inputs < 2**31
    sane = sane and header["packed_rows"] == packed and int(header["lists"]) * height == packed
    sane = sane and bool(header["flags"] & WIDE) == (inputs > NARROW_INPUTS)
    if not sane or header["zero"].tobytes() != bytes(24):
        raise ArtifactError("a pack's header must describe whole row groups: the file is damaged")


def cell_of_lanes(ends: np.ndarray) -> np.ndarray:
    """Which segment of which list each lane is of: list * segments + segment."""
    flat = ends.reshape(-1)
    return np.repeat(np.arange(flat.size), np.diff(flat, prepend=np.int32(0)))


def real_places(view: ListView, cells: np.ndarray) -> np.ndarray:
    """Places that hold a column of their own, bool, shape (lanes * width,): no repetition."""
    width = lane_width(view.precision)
    real = np.ones(view.columns.size, bool)
    if width > 1:
        real[1:] = view.columns[1:] != view.columns[:-1]
        real[::width] = True
    return real


def _check_columns(view: ListView, cells: np.ndarray) -> None:
    columns, width = view.columns, lane_width(view.precision)
    if not columns.size:
        return
    first = np.ones(len(cells), bool)  # lanes that start a segment, and such as end one
    first[1:] = cells[1:] != cells[:-1]
    last = np.roll(first, -1)
    real = real_places(view, cells).reshape(-1, width)
    rising = np.ones(columns.size, bool)
    rising[1:] = columns[1:] >= columns[:-1]
    rising[::width] |= first
    rising[width::width] &= (columns[width::width] != columns[width - 1 : -1 : width]) | first[1:]
    sound = rising.all() and columns.min() >= 0 and columns.max() < view.inputs
    # a repetition fills the rest of a segment's last lane
    sound = sound and bool((real | last[:, None]).all()) and not np.any(real[:, 1:] & ~real[:, :-1])
    if not sound:
        raise ArtifactError(
            f"a pack's columns must rise within a segment and lie below {view.inputs}: the file is damaged"
        )
    if view.segments > 1:
        lists = np.repeat(cells // view.segments, width).astype(np.int64)
        found = (lists * view.inputs + columns)[real.reshape(-1)]
        if len(np.unique(found)) != len(found):
            raise ArtifactError("a pack's segments must not share a column of a list: the file is damaged")


def _check_values(view: ListView, cells: np.ndarray) -> None:
    width = lane_width(view.precision)
    if view.precision == "int8" and view.values.min(initial=0) < -LARGEST:
        raise ArtifactError(f"a pack's int8 values must lie within {LARGEST} of zero: the file is damaged")
    if width == 1:
        return
    lane, part = np.nonzero(~real_places(view, cells).reshape(-1, width))
    if np.any(view.values.reshape(-1, view.height, width)[lane, :, part]):
        raise ArtifactError("a pack's values past the end of a segment must be zero: the file is damaged")
