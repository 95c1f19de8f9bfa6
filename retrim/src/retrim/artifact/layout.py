"""The packed layout of a linear weight: rows in blocks, kept columns in lists.

A pack is one array of bytes, little endian, every section on a multiple of 64::

    header   64 bytes, see below
    starts   int32[blocks + 1]     where each block's column list starts
    columns  int32[starts[-1]]     kept columns, ascending within a block
    rows     int32[packed rows]    output row of each packed row, -1 for padding;
                                   only with flag 1, else packed row = output row
    values   float32, block after block; in a block one panel after another of
             32 rows: [kept columns][32]

    header:  0  8 bytes  magic "RTRIMBC1"
             8  uint32   precision (0: float32)
            12  uint32   height of a block, a multiple of 32
            16  uint32   outputs
            20  uint32   inputs
            24  uint32   packed rows, a multiple of 32
            28  uint32   blocks
            32  uint32   segments (1)
            36  uint32   flags (1: a row list is there)
            40  24 bytes zero

The last block may be lower than the others.  Outputs that no packed row maps to
hold their bias alone.  Nothing outside this module knows the byte order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrim.errors import ArtifactError, ConfigError, ShapeError

MAGIC = b"RTRIMBC1"
PANEL = 32
ALIGNMENT = 64
FP32 = 0
_HAS_ROWS = 1
_HEADER = np.dtype(
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
        ("zero", "V24"),
    ]
)


@dataclass(frozen=True, eq=False)
class PackView:
    """A validated pack, section by section, without a copy.

    Attributes
    ----------
    outputs, inputs : int
        Shape of the weight.
    height : int
        Rows of a block.
    starts : ndarray of int32, shape (blocks + 1,)
    columns : ndarray of int32, shape (starts[-1],)
    rows : ndarray of int32, shape (packed_rows,), or None
        None means that packed row i is output row i.
    values : ndarray of float32
    packed_rows : int
    nbytes : int
    """

    outputs: int
    inputs: int
    height: int
    starts: np.ndarray
    columns: np.ndarray
    rows: np.ndarray | None
    values: np.ndarray
    packed_rows: int
    nbytes: int

    @property
    def stored_density(self) -> float:
        """Stored values, padding rows among them, over the size of the weight."""
        return self.values.size / (self.outputs * self.inputs)


def pack_rows(weight: np.ndarray, mask: np.ndarray, rows: int = PANEL) -> np.ndarray:
    """Pack what `mask` keeps of `weight`.

    A block stores every column that any of its rows keeps.  Rows that keep
    nothing are left out where that makes the pack smaller.

    Parameters
    ----------
    weight : ndarray of float32, shape (out, in)
    mask : ndarray of bool, shape (out, in)
    rows : int
        Height of a block, a multiple of 32.

    Returns
    -------
    ndarray of uint8, shape (n,), n and its address multiples of 64

    Raises
    ------
    ConfigError, ShapeError
    """
    if rows < PANEL or rows % PANEL:
        raise ConfigError(f"rows of a packed block must be a multiple of {PANEL}, not {rows}")
    if weight.ndim != 2 or weight.shape != mask.shape or 0 in weight.shape:
        raise ShapeError(
            f"a packed weight and its mask must share one non-empty matrix shape, not {weight.shape} "
            f"and {mask.shape}"
        )
    weight = np.where(mask, weight, np.float32(0)).astype(np.float32)
    every = np.arange(weight.shape[0], dtype=np.int32)
    alive = np.flatnonzero(mask.any(axis=1)).astype(np.int32)
    full = _assemble(weight, mask, rows, every)
    if len(alive) == len(every):
        return full
    fewer = _assemble(weight, mask, rows, alive)
    return fewer if fewer.nbytes < full.nbytes else full


def _assemble(weight: np.ndarray, mask: np.ndarray, height: int, kept_rows: np.ndarray) -> np.ndarray:
    outputs, inputs = weight.shape
    packed_rows = -(-len(kept_rows) // PANEL) * PANEL
    padded = np.zeros((packed_rows, inputs), np.float32)
    padded[: len(kept_rows)] = weight[kept_rows]
    stored = np.zeros((packed_rows, inputs), bool)
    stored[: len(kept_rows)] = mask[kept_rows]
    starts, columns, values = [0], [], []
    for first in range(0, packed_rows, height):
        block = padded[first : first + height]
        kept = np.flatnonzero(stored[first : first + height].any(axis=0)).astype("<i4")
        columns.append(kept)
        starts.append(starts[-1] + len(kept))
        panels = block[:, kept].reshape(len(block) // PANEL, PANEL, len(kept)).transpose(0, 2, 1)
        values.append(np.ascontiguousarray(panels, dtype="<f4").reshape(-1))
    identity = len(kept_rows) == outputs
    header = np.zeros((), _HEADER)
    header["magic"] = MAGIC
    header["precision"] = FP32
    header["height"] = height
    header["outputs"], header["inputs"] = outputs, inputs
    header["packed_rows"], header["blocks"] = packed_rows, len(starts) - 1
    header["segments"] = 1
    header["flags"] = 0 if identity else _HAS_ROWS
    sections = [header.tobytes(), np.array(starts, "<i4").tobytes(), _joined(columns, "<i4").tobytes()]
    if not identity:
        rows = np.full(packed_rows, -1, "<i4")
        rows[: len(kept_rows)] = kept_rows
        sections.append(rows.tobytes())
    sections.append(_joined(values, "<f4").tobytes())
    return _aligned(b"".join(part + b"\0" * (-len(part) % ALIGNMENT) for part in sections))


def _aligned(data: bytes) -> np.ndarray:
    """The bytes where a cache line starts: vectors that straddle two are read at half the speed."""
    room = np.empty(len(data) + ALIGNMENT, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    array = room[first : first + len(data)]
    array[:] = np.frombuffer(data, np.uint8)
    return array


def _joined(parts: list[np.ndarray], dtype: str) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def parse(pack: np.ndarray) -> PackView:
    """Take a pack apart, after checking everything that a kernel relies on.

    Raises
    ------
    ArtifactError
        If any of it is wrong: a file can never make a kernel read out of bounds.
    """
    if pack.dtype != np.uint8 or pack.ndim != 1 or len(pack) < _HEADER.itemsize:
        raise ArtifactError("a pack must be an array of at least 64 bytes: the file is damaged")
    if not pack.flags.c_contiguous or pack.ctypes.data % 4:
        raise ArtifactError("a pack must be contiguous and start at a multiple of 4 bytes: copy it")
    header = pack[: _HEADER.itemsize].view(_HEADER)[0]
    if header["magic"] != MAGIC:
        raise ArtifactError(f"a pack must start with {MAGIC.decode()}: the file is damaged or newer")
    if header["precision"] != FP32 or header["segments"] != 1 or header["flags"] > _HAS_ROWS:
        raise ArtifactError(
            "a pack must be of precision 0 with 1 segment, not of precision "
            f"{header['precision']} with {header['segments']} segments and flags {header['flags']}: "
            "upgrade retrim"
        )
    height, packed = int(header["height"]), int(header["packed_rows"])
    outputs, inputs, blocks = (int(header[k]) for k in ("outputs", "inputs", "blocks"))
    sane = height >= PANEL and height % PANEL == 0 and packed % PANEL == 0
    sane = sane and header["zero"].tobytes() == bytes(24)
    if not sane or not outputs or not inputs or blocks != -(-packed // height):
        raise ArtifactError("a pack's header must describe whole blocks: the file is damaged")
    take = _Sections(pack)
    starts = take("<i4", blocks + 1, "starts")
    if starts[0] != 0 or np.any(starts[1:] < starts[:-1]):  # differences might overflow
        raise ArtifactError("a pack's column lists must follow each other: the file is damaged")
    columns = take("<i4", int(starts[-1]), "columns")
    _check_columns(columns, starts, inputs)
    rows = take("<i4", packed, "rows") if header["flags"] & _HAS_ROWS else None
    _check_rows(rows, packed, outputs)
    heights = np.minimum(height, packed - np.arange(blocks, dtype=np.int64) * height)
    values = take("<f4", int((np.diff(starts).astype(np.int64) * heights).sum()), "values")
    if take.end != len(pack):
        raise ArtifactError(f"a pack must end after its values, not {len(pack) - take.end} bytes later")
    return PackView(outputs, inputs, height, starts, columns, rows, values, packed, pack.nbytes)


class _Sections:
    """Hands out the sections of a pack one after another."""

    def __init__(self, pack: np.ndarray) -> None:
        self.pack, self.end = pack, _HEADER.itemsize

    def __call__(self, dtype: str, count: int, name: str) -> np.ndarray:
        first = self.end
        stop = first + count * 4
        self.end = stop + (-stop % ALIGNMENT)
        if self.end > len(self.pack):
            raise ArtifactError(f"a pack must hold all its {name}, but ends early: the file is damaged")
        return self.pack[first:stop].view(dtype)


def _check_columns(columns: np.ndarray, starts: np.ndarray, inputs: int) -> None:
    if not len(columns):
        return
    rising = np.diff(columns.astype(np.int64)) > 0
    seams = starts[1:-1]
    rising[seams[(seams > 0) & (seams < len(columns))] - 1] = True
    if columns.min() < 0 or columns.max() >= inputs or not rising.all():
        raise ArtifactError(
            f"a pack's columns must rise within a block and lie below {inputs}: the file is damaged"
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


def unpack(pack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weight of a pack, float32 (out, in), and which of its entries are stored, bool (out, in)."""
    view = parse(pack)
    weight = np.zeros((view.packed_rows, view.inputs), np.float32)
    stored = np.zeros((view.packed_rows, view.inputs), bool)
    offset = 0
    for block in range(len(view.starts) - 1):
        kept = view.columns[view.starts[block] : view.starts[block + 1]]
        first = block * view.height
        last = min(first + view.height, view.packed_rows)
        size = (last - first) * len(kept)
        panels = view.values[offset : offset + size].reshape((last - first) // PANEL, len(kept), PANEL)
        weight[first:last, kept] = panels.transpose(0, 2, 1).reshape(last - first, len(kept))
        stored[first:last, kept] = True
        offset += size
    if view.rows is None:
        return weight[: view.outputs], stored[: view.outputs]
    full = np.zeros((view.outputs, view.inputs), np.float32)
    mask = np.zeros((view.outputs, view.inputs), bool)
    real = view.rows >= 0
    full[view.rows[real]], mask[view.rows[real]] = weight[real], stored[real]
    return full, mask
