"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from retrim.errors import RetrimError


@contextmanager
def replacing(target: Path, what: str, error: type[RetrimError]) -> Iterator[Path]:
    """Give a path beside `target`; what was written there takes its place in the end.

    A process that is killed leaves the old file or the new one, never half of one.

    Parameters
    ----------
    target : Path
        In a folder that exists.
    what : str
        What the file is, for messages.
    error : type
        Raised where the file cannot be written.
    """
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield beside
        os.replace(beside, target)
    except OSError as failed:
        _discard(beside)
        raise error(
            f"{what} {str(target)!r} cannot be written: {failed.strerror or failed}; free some space or choose "
            "another folder"
        ) from failed
    except BaseException:
        _discard(beside)
        raise


def _discard(beside: Path) -> None:
    with suppress(
        OSError
    ):  # the folder is what could not be written to: the first error is the one to report
        beside.unlink(missing_ok=True)
