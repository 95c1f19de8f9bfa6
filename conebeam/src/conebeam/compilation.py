"""Where compiled kernels are kept: a directory keyed by all kernel sources.

Numba's on-disk cache notices an edit in the file of the function it caches, but not
in the functions which that one calls from other files: the caller would keep the old
machine code, and an edit of a sampler would silently not run.  So the cache directory
carries a hash of every source file with compiled functions and of Numba's version;
any edit leads to a fresh directory.  (Numba itself keys by processor.)

The directory is a setting of Numba's for the whole process; functions of other
packages that are cached after conebeam is imported land there too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

F = TypeVar("F", bound=Callable[..., Any])

_KEPT = 8
# Where compiled functions live, and the constants that are compiled into them.
_SOURCES = (
    "constants.py",
    "compilation.py",
    "data/electrons",
    "tally.py",
    "geometry",
    "histories",
    "scoring",
    "sources",
    "transport",
)


def kernel(function: F) -> F:
    """Compile a function when it is first called; it lets go of the interpreter's lock.

    Machine code is kept on disk.  Division by zero gives infinity, as NumPy has it.
    """
    compiled: F = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


def inlined(function: F) -> F:
    """Like :func:`kernel`, but copied into every function that calls it."""
    compiled: F = numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")(function)
    return compiled


def embedded(function: F) -> F:
    """Like :func:`kernel`, but its machine code is copied into every function that calls it.

    For small functions of many tables, whose passing would cost more than their work.
    """
    compiled: F = numba.njit(cache=True, nogil=True, error_model="numpy", forceinline=True)(function)
    return compiled


@cache
def kernel_key() -> str:
    """Hash over all sources of compiled functions and the version of Numba."""
    return hashlib.sha256((numba.__version__ + source_digest(*_SOURCES)).encode()).hexdigest()[:16]


@cache
def source_digest(*names: str) -> str:
    """Hash over files and folders of this package."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for name in names:
        place = package / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """Folder for everything conebeam keeps on disk: ``CONEBEAM_CACHE`` or the user's cache."""
    chosen = os.environ.get("CONEBEAM_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "conebeam"


def use_keyed_cache() -> None:
    """Point Numba's cache at the directory that belongs to these sources."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    root = Path(given) if given else cache_root()
    folder = root / f"kernels-{kernel_key()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        # A read-only home must not keep anybody from computing: kernels are then
        # compiled anew in every process, in a place that is never reused.
        return
    config.CACHE_DIR = str(folder)
    _prune(root, folder)


def _prune(root: Path, current: Path) -> None:
    folders = [f for f in root.glob("kernels-*") if f != current]
    folders.sort(key=lambda f: f.stat().st_mtime if f.exists() else 0.0)
    for folder in folders[: max(0, len(folders) - _KEPT)]:
        shutil.rmtree(folder, ignore_errors=True)
