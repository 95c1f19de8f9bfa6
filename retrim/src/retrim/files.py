"""Files that are whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from retrim.errors import RetrimError

_MOST_OF_NAME = 50  # characters, that a long name leaves room for more


@contextmanager
def replacing(target: Path, what: str, error: type[RetrimError]) -> Iterator[Path]:
    """Give a file beside `target`, empty where the folder is there; what was written there takes its place in the end.

    A process that is killed leaves the old file or the new one, never half of one.  Each call has a file of its
    own, so threads and processes may write to one place: the last one stays.  A link stays one: what it leads
    to is replaced.

    Parameters
    ----------
    target : Path
        In a folder that exists, or is made before the file is written.
    what : str
        What the file is, for messages.
    error : type
        Raised where the file cannot be written.
    """
    if target.name in ("", "..") or "\0" in str(target):
        raise error(f"{what} must be written to a file that has a name, not to {str(target)!r}: name one")
    place = Path(os.path.realpath(target))
    if _is_special(place):
        raise error(f"{what} {str(target)!r} must be a file, but is a device or a pipe: name a file")
    beside = place.with_name(f".{place.name[:_MOST_OF_NAME]}.{os.getpid()}.{secrets.token_hex(8)}")
    try:
        with suppress(FileNotFoundError, NotADirectoryError):  # who writes may make the folder first
            os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield beside
        os.replace(beside, place)
    except OSError as failed:
        _discard(beside)
        raise error(
            f"{what} {str(target)!r} cannot be written: {failed.strerror or failed}; free some space or choose "
            "another folder"
        ) from failed
    except BaseException:
        _discard(beside)
        raise


def _is_special(place: Path) -> bool:
    """Whether there is something that is neither a file nor a folder."""
    try:
        mode = place.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _discard(beside: Path) -> None:
    with suppress(
        OSError
    ):  # the folder is what could not be written to: the first error is the one to report
        beside.unlink(missing_ok=True)
