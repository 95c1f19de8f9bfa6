"""The result file: one HDF5 file, written beside and renamed, refused when damaged.

The first 512 bytes are an HDF5 user block (HDF5 tools skip it): one line of JSON
with the format, its version, and the SHA-256 of version and all bytes after the
block.  It is checked before HDF5 sees the file, because the HDF5 library may hang
or crash on a damaged one.

Layout, format ``conebeam-result`` version 1:

====================================  ==========================================
``/metadata``                         JSON: scene (TOML), seed, plan, batches
                                      done, histories, CPU seconds, versions,
                                      processors, names scored
``/scored/<name>``                    attributes quantity, unit, per, magnitude
``/scored/<name>/value``, ``sigma``   float64; σ relative
``/scored/<name>/factor``             float64, scalar or broadcastable
``/scored/<name>/words``              int64, (4, …): the exact sums
``/scored/<name>/axis0 …``            edges (float64) or labels; attributes name,
                                      unit
====================================  ==========================================
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from conebeam.batches import BatchPlan, BatchSet
from conebeam.errors import ConebeamError, ConfigError, ResultError
from conebeam.result import Axis, Provenance, Quantity, Result, Scored
from conebeam.tally import Tally

FORMAT = "conebeam-result"
VERSION = 1
_COMPRESS_FROM = 4096
_ROWS = 4_000_000
_BLOCK = 512
_MAGIC = b'{"format": "conebeam-result"'


def save(result: Result, path: str | Path) -> None:
    """Write a result; the file is either the old one or the whole new one.

    Raises
    ------
    ResultError
        If the file cannot be written (no folder, no permission, disk full).
    """

    def write(name: Path) -> None:
        with name.open("w+b", buffering=0) as raw:
            guarded = _Guarded(raw)
            with h5py.File(guarded, "w", userblock_size=_BLOCK) as file:
                _write(result, file)
            if guarded.error is not None:
                raise guarded.error
        _seal(name)

    _replace(Path(path), write)


def load(path: str | Path) -> Result:
    """Read a result.

    Raises
    ------
    ResultError
        If the file is missing, damaged, foreign or newer than this version.
    """
    path = Path(path)
    if not path.is_file():
        raise ResultError(f"result file '{path}' must exist; run the scene first")
    try:
        _check_seal(path)
        with h5py.File(path, "r") as file:
            return _read(file)
    except ConebeamError:
        raise
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ResultError(_damaged(path)) from error


def write_curve(quantity: Quantity, path: str | Path) -> None:
    """Write a one-dimensional quantity as CSV; units are in the column names.

    Columns: low and high edge and centre of the bin (or the label), value, relative
    σ.  ``per`` is in the name of the value's column.

    Raises
    ------
    ResultError
        If the quantity has more than one axis, or the file cannot be written.
    """
    if len(quantity.axes) != 1:
        raise ResultError(
            f"'{quantity.name}' must have one axis to be written as a curve, not {len(quantity.axes)}"
        )
    axis = quantity.axes[0]
    column = f"{_word(quantity.quantity)}_{_word(quantity.unit)}_per_{_word(quantity.per)}"
    lines = []
    if axis.edges is not None:
        stem, unit = _word(axis.name), _word(axis.unit)
        lines.append(f"{stem}_low_{unit},{stem}_high_{unit},{stem}_{unit},{column},sigma_relative")
        keys = [
            f"{low!r},{high!r},{centre!r}"
            for low, high, centre in zip(
                axis.edges[:-1].tolist(), axis.edges[1:].tolist(), axis.centres().tolist(),
                strict=True,
            )
        ]  # fmt: skip
    else:
        lines.append(f"{_word(axis.name)},{column},sigma_relative")
        keys = list(axis.labels or ())
    for key, value, sigma in zip(keys, quantity.values.tolist(), quantity.sigma.tolist(), strict=True):
        lines.append(f"{key},{value!r},{sigma!r}")
    write_text("\n".join(lines) + "\n", path)


def write_text(text: str, path: str | Path) -> None:
    """Write a text file beside and rename it."""
    write_bytes(text.encode(), path)


def check_writable(path: str | Path) -> None:
    """Refuse a place that cannot be written to, before hours of work.

    Raises
    ------
    ResultError
        If there is no such folder, or no file can be made in it.
    """
    path = Path(path)
    if path.is_dir():
        raise ResultError(f"'{path}' must be a file, and is a folder")
    _replace(path, lambda name: None, keep=True)


def check_places(*paths: Path | None) -> None:
    """Refuse places that cannot be written to, or are one and the same; None is no place.

    Raises
    ------
    ResultError
    """
    given = [path for path in paths if path is not None]
    for number, path in enumerate(given):
        if any(path.resolve() == other.resolve() for other in given[:number]):
            raise ResultError(f"'{path}' must be one output's file, and is named for two; choose another")
        check_writable(path)


def check_picture(path: Path | None) -> None:
    """Refuse endings that no picture is drawn for, before hours of work.

    Raises
    ------
    ConfigError
    """
    if path is not None and path.suffix.lower().lstrip(".") not in ("png", "pdf", "svg"):
        raise ConfigError(f"a picture must be named .png, .pdf or .svg, not '{path.name}'")


def write_bytes(content: bytes, path: str | Path) -> None:
    """Write a file beside and rename it.

    Raises
    ------
    ResultError
        If it cannot be written.
    """

    def write(name: Path) -> None:
        with name.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    _replace(Path(path), write)


def _replace(path: Path, write: Callable[[Path], None], *, keep: bool = False) -> None:
    beside: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        beside = Path(name)
        write(beside)
        beside.chmod(0o644)
        if not keep:
            beside.replace(path)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ResultError(f"'{path}' must be writable, and is not: {reason}") from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


class _Guarded(io.RawIOBase):
    """A file that keeps its first error to itself until HDF5 is done with it.

    The HDF5 library does not survive a failing write (it crashes when the file is
    closed), so on a full disk it is told that all is well, and the error is raised
    afterwards.
    """

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__()
        self.raw = raw
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += self.raw.write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = self.raw.readinto(view) or 0
        # What could not be written reads as zeros.
        view[done:] = bytes(len(view) - done)
        return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self.raw.seek(offset, whence)

    def tell(self) -> int:
        return self.raw.tell()

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                self.raw.truncate(size)
        except OSError as error:
            self.error = error
        return size or 0

    def flush(self) -> None:
        self.raw.flush()


def _seal(path: Path) -> None:
    with path.open("r+b") as file:
        head = {"format": FORMAT, "version": VERSION, "sha256": _digest(file, VERSION)}
        block = json.dumps(head).encode() + b"\n"
        file.seek(0)
        file.write(block.ljust(_BLOCK, b"\0"))
        file.flush()
        os.fsync(file.fileno())


def _check_seal(path: Path) -> None:
    with path.open("rb") as file:
        block = file.read(_BLOCK)
        if not block.startswith(_MAGIC):
            raise ResultError(f"'{path}' must be a conebeam result, not another kind of file")
        line, _, padding = block.partition(b"\n")
        head = json.loads(line)
        version = int(head["version"])
        if version > VERSION:
            raise ResultError(
                f"'{path}' must have format version {VERSION} or older, not {version}; upgrade conebeam"
            )
        if padding.strip(b"\0") or head["sha256"] != _digest(file, version):
            raise ResultError(_damaged(path))


def _digest(file: BinaryIO, version: int) -> str:
    digest = hashlib.sha256(f"{FORMAT} {version}\n".encode())
    file.seek(_BLOCK)
    while chunk := file.read(1 << 22):
        digest.update(chunk)
    return digest.hexdigest()


def _write(result: Result, file: h5py.File) -> None:
    metadata = json.dumps(_metadata(result), sort_keys=True)
    file.create_dataset("metadata", data=metadata, dtype=h5py.string_dtype())
    group = file.create_group("scored", track_order=True)
    for scored in result.scored:
        _write_scored(result, scored, group.create_group(scored.name))


def _write_scored(result: Result, scored: Scored, group: h5py.Group) -> None:
    group.attrs["quantity"] = scored.quantity
    group.attrs["unit"] = scored.unit
    group.attrs["per"] = scored.per
    group.attrs["magnitude"] = scored.magnitude
    for number, axis in enumerate(scored.axes):
        data = axis.edges if axis.edges is not None else list(axis.labels or ())
        kind = np.float64 if axis.edges is not None else h5py.string_dtype()
        dataset = group.create_dataset(f"axis{number}", data=data, dtype=kind)
        dataset.attrs["name"] = axis.name
        dataset.attrs["unit"] = axis.unit
    _write_array(group, "words", result.tallies[scored.name].words)
    _write_array(group, "factor", np.asarray(scored.factor))
    if result.histories:
        for name in ("value", "sigma"):
            dataset = group.create_dataset(name, scored.shape, np.float64, **_packing(scored.shape))
            for number, axis in enumerate(scored.axes):
                dataset.dims[number].label = axis.name
            _write_by_rows(dataset, result, scored, name)


def _write_by_rows(dataset: h5py.Dataset, result: Result, scored: Scored, name: str) -> None:
    # Row by row, so that a large grid is not held a second time.
    tally = result.tallies[scored.name]
    factor = np.broadcast_to(scored.factor, scored.shape)
    count = max(1, _ROWS * scored.shape[0] // max(1, math.prod(scored.shape)))
    for first in range(0, scored.shape[0], count):
        rows = slice(first, first + count)
        if name == "sigma":
            dataset[rows] = tally.sigma(rows)
        else:
            dataset[rows] = tally.total(rows) * factor[rows] / result.histories


def _write_array(group: h5py.Group, name: str, array: NDArray[Any]) -> h5py.Dataset:
    return group.create_dataset(name, data=array, **_packing(array.shape))


def _packing(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"compression": "lzf", "shuffle": True} if math.prod(shape) >= _COMPRESS_FROM else {}


def _metadata(result: Result) -> dict[str, Any]:
    return {
        "scene": result.provenance.scene,
        "seed": result.provenance.seed,
        "versions": dict(result.provenance.versions),
        "processors": list(result.provenance.processors),
        "plan": {"histories": result.plan.histories, "batches": result.plan.batches},
        "batches_done": [list(r) for r in result.done.ranges],
        "histories": result.histories,
        "cpu_seconds": result.cpu_seconds,
        "scored": list(result.names),
    }


def _read(file: h5py.File) -> Result:
    metadata = json.loads(file["metadata"].asstr()[()])
    done = BatchSet(ranges=tuple((int(a), int(b)) for a, b in metadata["batches_done"]))
    scored = tuple(_read_scored(file["scored"][name], name) for name in metadata["scored"])
    return Result(
        provenance=Provenance(
            scene=metadata["scene"],
            seed=metadata["seed"],
            versions=metadata["versions"],
            processors=tuple(metadata["processors"]),
        ),
        plan=BatchPlan(**metadata["plan"]),
        scored=scored,
        done=done,
        histories=metadata["histories"],
        cpu_seconds=metadata["cpu_seconds"],
        tallies={s.name: _read_tally(file["scored"][s.name], s, len(done)) for s in scored},
    )


def _read_scored(group: h5py.Group, name: str) -> Scored:
    axes: list[Axis] = []
    while f"axis{len(axes)}" in group:
        axes.append(_read_axis(group[f"axis{len(axes)}"]))
    return Scored(
        name=name,
        axes=tuple(axes),
        quantity=str(group.attrs["quantity"]),
        unit=str(group.attrs["unit"]),
        per=str(group.attrs["per"]),
        factor=np.asarray(group["factor"]),
        magnitude=float(group.attrs["magnitude"]),
    )


def _read_tally(group: h5py.Group, scored: Scored, batches: int) -> Tally:
    tally = Tally(scored.shape, scored.magnitude)
    words = np.asarray(group["words"], dtype=np.int64)
    if words.shape != tally.words.shape:
        raise ValueError("the exact sums must have the shape of what was scored")
    tally.words, tally.batches = words, batches
    return tally


def _read_axis(dataset: h5py.Dataset) -> Axis:
    name, unit = str(dataset.attrs["name"]), str(dataset.attrs["unit"])
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return Axis(name=name, unit=unit, labels=tuple(dataset.asstr()[()].tolist()))
    return Axis(name=name, unit=unit, edges=np.asarray(dataset, dtype=np.float64))


def _damaged(path: Path) -> str:
    return f"result file '{path}' must be whole, and is damaged or cut short; run it again"


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "value"
