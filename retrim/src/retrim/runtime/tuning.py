"""The profile in use, and matrices whose kernels it chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrim.errors import ProfileError
from retrim.runtime import profile_file
from retrim.runtime import threads as threads_
from retrim.runtime.entry import Request
from retrim.runtime.matrix import PackedMatrix
from retrim.runtime.profile import Profile

_UNSET = object()
_chosen: Any = _UNSET
_found: dict[Path | None, Profile | None] = {}


def use(profile: Profile | None) -> None:
    """Choose the profile for layers that are made from now on; None for none."""
    global _chosen
    _chosen = profile


def current() -> Profile | None:
    """The profile in use: what `use` chose, else that of this machine, read once; None where there is none.

    Raises
    ------
    ProfileError
        If RETRIM_PROFILE names a file that is damaged, newer, or of another
        machine or other kernels.
    """
    if _chosen is not _UNSET:
        found: Profile | None = _chosen
        return found
    path = profile_file.default_path()
    if path not in _found:
        _found[path] = None if path is None else _look(path)
    return _found[path]


def forget() -> None:
    """Read this machine's profile anew where it is next asked for."""
    _found.clear()


def _look(path: Path) -> Profile | None:
    try:
        if not path.exists():
            return None
        return profile_file.read_here(path)
    except (OSError, ProfileError):
        if profile_file.is_named(path):
            raise
        return None


def tune(matrix: PackedMatrix, threads: int | None = None) -> None:
    """Let the profile in use, where there is one, choose a matrix's kernels.

    Parameters
    ----------
    threads : int, optional
        That it will run on; default `retrim.runtime.threads.get()`.

    Raises
    ------
    ProfileError
        As `current`.
    """
    profile = current()
    if profile is None:
        return
    activations = "static" if matrix.input_scale else None
    count = threads_.get() if threads is None else threads
    table = profile.table(Request.of(matrix.view, 1, count, activations))
    if table:
        matrix.tune(table)
