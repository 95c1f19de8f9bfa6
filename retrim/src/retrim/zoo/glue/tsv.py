"""GLUE's files: columns between tabs, one example a line, quotes are text as any other.

The published QQP holds rows that end before their last column; they are passed
over, as in the copy on the Hugging Face Hub, which gives its number of examples.
Two of its questions are empty and are kept (huggingface/datasets, issue 277).
In all other files a row of that kind is an error.
"""

from __future__ import annotations

import codecs
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrim.errors import DataError
from retrim.zoo.glue.examples import Examples
from retrim.zoo.glue.tasks import MOST_SIMILAR, GlueTask, find_task

_SHOWN = 40  # characters of a value that an error quotes


def read_glue(folder: Path | str, task: GlueTask | str, split: str) -> Examples:
    """One split of a task.

    Parameters
    ----------
    folder : Path
        With all tasks (`RTE/train.tsv`), or that of the task (`train.tsv`).
    task : GlueTask or str
        Or its key, as "rte".
    split : str
        "train" or "dev"; of MNLI "train", "dev_matched" or "dev_mismatched".

    Returns
    -------
    Examples
        All of the file, whatever their number.

    Raises
    ------
    ConfigError
        If there is no such task or split.
    DataError
        If the file is missing or damaged; names file and line.

    Warns
    -----
    UserWarning
        If rows of QQP were cut off and passed over, with their number.
    """
    task = find_task(task) if isinstance(task, str) else task
    path = _find(Path(folder), task, f"{task.split(split).name}.tsv")
    lines = _lines(path)
    table = _Table.of(path, task, lines)
    rows = list(table.rows(lines))
    if not rows:
        raise DataError(
            f"examples {str(path)!r} must hold at least one example, but hold none: copy them again"
        )
    second = [row[1] for row in rows] if task.paired else None
    labels = np.array([row[2] for row in rows], dtype=np.float32 if task.regression else np.int64)
    return Examples([row[0] for row in rows], second, labels)


def _find(folder: Path, task: GlueTask, file: str) -> Path:
    if not folder.is_dir():
        raise DataError(f"data folder {str(folder)!r} must be a folder that exists")
    own = folder / task.folder
    for path in (own / file, folder / file):
        if path.is_file():
            return path
    wanted = f"{task.folder}/{file}" if own.is_dir() else f"{task.folder}/{file} or {file}"
    raise DataError(
        f"data folder {str(folder)!r} must hold {wanted}, but does not: unpack GLUE's {task.folder} there"
    )


def _lines(path: Path) -> list[str]:
    """Lines without their ends; empty ones after the last example are left out."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"examples {str(path)!r} cannot be read: {error.strerror or error}") from error
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"examples {str(path)!r}, line {number}, must be UTF-8 text, but hold the byte "
            f"0x{content[error.start]:02x}: copy the file again, or convert it"
        ) from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]  # splitlines() would cut at U+2028 too
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(
            f"examples {str(path)!r} must hold at least one example, but are empty: copy them again"
        )
    return lines


@dataclass(frozen=True)
class _Table:
    """Where a file keeps what: numbers of the columns of sentences and label, and of columns in all."""

    path: Path
    task: GlueTask
    sentences: tuple[int, ...]
    label: int
    width: int

    @classmethod
    def of(cls, path: Path, task: GlueTask, lines: Sequence[str]) -> _Table:
        header = list(task.header) or lines[0].split("\t")
        wanted = (*task.sentences, task.label)
        absent = [name for name in wanted if name not in header]
        if absent:
            raise DataError(
                f"examples {str(path)!r}, line 1, must name the columns {', '.join(wanted)}, but lack "
                f"{', '.join(absent)}: take {path.name} of GLUE's {task.folder}"
            )
        columns = tuple(header.index(name) for name in task.sentences)
        return cls(path, task, columns, header.index(task.label), len(header))

    def rows(self, lines: Sequence[str]) -> Iterator[tuple[str, str, float]]:
        """Sentences (the second is empty where there is none) and label of each example."""
        torn: list[int] = []
        for number, line in enumerate(lines, 1):
            if number == 1 and not self.task.header:
                continue
            values = line.split("\t")
            if self.task.torn and len(values) < self.width:
                torn.append(number)
                continue
            yield self._row(values, f"examples {str(self.path)!r}, line {number},")
        if torn:
            warnings.warn(
                f"{len(torn)} rows of {str(self.path)!r} (the first in line {torn[0]}) end before their last column and "
                "are passed over",
                stacklevel=3,
            )

    def _row(self, values: list[str], place: str) -> tuple[str, str, float]:
        if len(values) != self.width:
            raise DataError(
                f"{place} must have {self.width} columns between tabs, not {len(values)}: correct or drop the line"
            )
        found = [values[column] for column in self.sentences]
        for name, sentence in zip(self.task.sentences, found, strict=True):
            if not sentence.strip() and not self.task.torn:
                raise DataError(f"{place} must have text in {name!r}, but has none: correct or drop the line")
        label = values[self.label]
        number = _score(label, place) if self.task.regression else self._class(label, place)
        return found[0], found[1] if self.task.paired else "", number

    def _class(self, label: str, place: str) -> int:
        if label not in self.task.values:
            raise DataError(
                f"{place} must have one of {', '.join(self.task.values)} in {self.task.label!r}, not {_shown(label)}: "
                f"correct it, or take the folder of {self.task.folder}"
            )
        return self.task.values.index(label)


def _score(label: str, place: str) -> float:
    try:
        score = float(label)
    except ValueError:
        score = math.nan
    if not 0 <= score <= MOST_SIMILAR:
        raise DataError(
            f"{place} must have a score from 0 to {MOST_SIMILAR:g}, not {_shown(label)}: correct or drop the line"
        )
    return score


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")
