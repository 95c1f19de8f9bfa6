"""Trials on file: an SQLite table that a killed search goes on from."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from retrim.errors import CheckpointError
from retrim.levels.space import Choice

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS scores (run TEXT, choice TEXT, accuracies TEXT, PRIMARY KEY (run, choice))"
)


class Trials:
    """Accuracies of choices that were scored.

    Parameters
    ----------
    path : Path or None
        None keeps them in memory alone.
    run : str
        What they belong to: a key of everything that decides accuracies.

    Raises
    ------
    CheckpointError
        If the file is none of SQLite's, or cannot be written.
    """

    def __init__(self, path: Path | None, run: str) -> None:
        self._run, self._path = run, path
        try:
            self._file = sqlite3.connect(":memory:" if path is None else path, timeout=60)
            with self._file:
                self._file.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def __enter__(self) -> Trials:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def find(self, choice: Choice) -> tuple[float, ...] | None:
        """Accuracies of a choice, one for each point; None if it was not scored."""
        try:
            row = self._file.execute(
                "SELECT accuracies FROM scores WHERE run = ? AND choice = ?", (self._run, _key(choice))
            ).fetchone()
            return None if row is None else tuple(float(value) for value in json.loads(row[0]))
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._refused(error) from None

    def keep(self, choice: Choice, accuracies: Sequence[float]) -> None:
        """Write down what a choice reached; on disk when this returns."""
        try:
            with self._file:
                self._file.execute(
                    "INSERT OR REPLACE INTO scores VALUES (?, ?, ?)",
                    (self._run, _key(choice), json.dumps(list(accuracies))),
                )
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def __len__(self) -> int:
        """Choices that were scored."""
        (count,) = self._file.execute("SELECT COUNT(*) FROM scores WHERE run = ?", (self._run,)).fetchone()
        return int(count)

    def _refused(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"trials {str(self._path)!r} must be a file of SQLite that can be written ({error}): move it away to start "
            "again"
        )


def _key(choice: Choice) -> str:
    return ",".join(map(str, choice))
