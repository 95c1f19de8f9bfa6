"""Tables kept on disk: built once, keyed by everything they follow from.

A damaged or unreadable file is built anew; a folder that cannot be written to costs
time, never an error.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import cache_root

Arrays = dict[str, NDArray[Any]]


def stored(kind: str, key: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
    """Arrays of a table, from disk or built.

    Parameters
    ----------
    kind : str
        What it is; part of the file's name.
    key : mapping
        Everything the table follows from, versions included; plain values.
    build : callable
        Makes the arrays.
    """
    text = json.dumps(key, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:24]
    path = cache_root() / "tables" / f"{kind}-{name}.npz"
    found = _read(path, text)
    if found is None:
        found = build()
        _write(path, text, found)
    return found


def _read(path: Path, text: str) -> Arrays | None:
    try:
        # From memory: NumPy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if str(arrays.pop("key", "")) != text:
        return None
    return arrays


def _write(path: Path, text: str, arrays: Arrays) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, key=np.array(text), **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(buffer.getvalue())
            os.replace(beside, path)
        except OSError:
            Path(beside).unlink(missing_ok=True)
    except OSError:
        return
