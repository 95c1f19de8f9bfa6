"""Reading small files of the system: one number or one word each, under any root folder."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from retrim.errors import DeviceError

T = TypeVar("T")


class SilentError(DeviceError):
    """A file is there, but its driver has nothing to say in it now: a core or sensor is switched off."""


_SILENCE = (
    *(errno.EAGAIN, errno.EBUSY, errno.EINVAL, errno.EIO),
    *(errno.ENODATA, errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT),
)


def text(path: Path) -> str:
    """What a file says.

    Raises
    ------
    DeviceError
        If it cannot be read, or is empty; `SilentError` where that may pass.
    """
    try:
        found = path.read_text("utf-8", errors="replace").strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        kind = SilentError if error.errno in _SILENCE else DeviceError
        remedy = "; run as root, or let root make it readable" if isinstance(error, PermissionError) else ""
        raise kind(f"file {str(path)!r} must be one that can be read: {reason}{remedy}") from None
    if not found:
        raise DeviceError(f"file {str(path)!r} must say something, but is empty")
    return found


def number(path: Path, *, least: float, most: float, what: str) -> float:
    """The number that a file holds.

    Parameters
    ----------
    least, most : float
        Beyond them it is absurd.
    what : str
        What it is, with its unit, for messages.

    Raises
    ------
    DeviceError
        If the file cannot be read, holds no number, or one that is absurd.
    """
    found = text(path)
    try:
        value = float(found)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise DeviceError(
            f"file {str(path)!r} must hold {what} from {least:g} to {most:g}, not {found[:40]!r}: the driver is "
            "at fault, or the file is another one"
        )
    return value


def optional(path: Path, *, least: float, most: float, what: str) -> float | None:
    """As `number`; None where there is no such file, or its driver has nothing to say.

    Raises
    ------
    DeviceError
        If there is one that does not hold what it must.
    """
    if not path.exists():
        return None
    try:
        return number(path, least=least, most=most, what=what)
    except SilentError:
        return None


def heard(read: Callable[[Path], T], paths: Iterable[Path]) -> list[T]:
    """What is read of each folder, without those whose drivers have nothing to say now."""
    found = []
    for path in paths:
        with suppress(SilentError):
            found.append(read(path))
    return found


def folders(parent: Path, pattern: str) -> list[Path]:
    """Folders of a folder by name, numbers in their order; none where there is no such folder."""
    try:
        found = [path for path in parent.glob(pattern) if path.is_dir()]
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))
