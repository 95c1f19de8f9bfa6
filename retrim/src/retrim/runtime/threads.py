"""How many threads a packed layer may use."""

from __future__ import annotations

import os

from retrim.errors import ConfigError

VARIABLE = "RETRIM_THREADS"
_MOST = 256


def check(threads: int) -> int:
    """Return `threads` if it is a count of threads.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= _MOST:
        raise ConfigError(f"threads must be a whole number from 1 to {_MOST}, not {threads!r}")
    return threads


def _initial() -> int:
    text = os.environ.get(VARIABLE, "1")
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise ConfigError(f"{VARIABLE} must be a whole number from 1 to {_MOST}, not {text!r}")
    return int(text)


_chosen: int | None = None


def get() -> int:
    """Threads of a call that names none: `set`, else RETRIM_THREADS, else 1."""
    return _initial() if _chosen is None else _chosen


def set(threads: int) -> None:  # noqa: A001 - threads.set(2) says what it does
    """Choose the number of threads for calls that name none."""
    global _chosen
    _chosen = check(threads)
