"""Names of classes, one a line (`coco.names`)."""

from __future__ import annotations

from pathlib import Path

from retrim.errors import DataError


def read_names(path: Path | str) -> tuple[str, ...]:
    """Names in the order of the classes; empty lines at the end are left out.

    Raises
    ------
    DataError
        If the file cannot be read, is empty, or has an empty line between names.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise DataError(
            f"names {str(path)!r} must be a text file, but cannot be read: {why}; name another"
        ) from error
    names = tuple(line.strip() for line in lines)
    if not names or not all(names):
        empty = f"line {names.index('') + 1} is empty" if names else "there is none"
        raise DataError(f"names {str(path)!r} must be one a line, but {empty}: correct the file")
    return names
