"""Curves to compare: out of a result, or out of a CSV file of anybody's.

A CSV has a header line; a column of positions, one of values, and perhaps one of
standard deviations, relative (``sigma…``) or in percent (a name with ``pct`` or
``percent`` in it).  Lines that begin with ``#`` are skipped.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import DataError, ResultError
from conebeam.result import Quantity

_EDGE = re.compile(r"(^|_)(lo|hi|low|high)(_|$)")
_SIGMA = re.compile(r"^(u|sigma|uncertainty)(_|$)|pct|percent")


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Values at rising positions with relative standard deviations.

    Parameters
    ----------
    position, value, sigma : arrays, shape (n,)
        ``sigma`` is relative: zero of exact values, NaN where it is not known.
    name : str
        For messages and legends.
    """

    position: NDArray[np.float64]
    value: NDArray[np.float64]
    sigma: NDArray[np.float64]
    name: str

    def at(self, position: float) -> tuple[float, float]:
        """Value and relative σ at a position, linear between points.

        Raises
        ------
        DataError
            If the position lies outside the curve.
        """
        if not self.position[0] <= position <= self.position[-1]:
            raise DataError(
                f"the position must lie on curve '{self.name}', between "
                f"{self.position[0]:g} and {self.position[-1]:g}, not at {position:g}"
            )
        value = float(np.interp(position, self.position, self.value))
        return value, float(np.interp(position, self.position, self.sigma))


def curve_of(quantity: Quantity) -> Curve:
    """A one-dimensional quantity at its bin centres.

    Raises
    ------
    ResultError
        If it has more than one axis, or an axis of names.
    """
    if len(quantity.axes) != 1 or quantity.axes[0].edges is None:
        raise ResultError(
            f"'{quantity.name}' must have one axis with bins to be compared, "
            f"not {len(quantity.axes)} axes; choose a curve"
        )
    return Curve(
        position=quantity.axes[0].centres(),
        value=quantity.values,
        sigma=np.where(np.isfinite(quantity.sigma), quantity.sigma, math.nan),
        name=quantity.name,
    )


def read_curve(
    path: str | Path,
    *,
    position: str | None = None,
    value: str | None = None,
    sigma: str | None = None,
    where: tuple[str, float] | None = None,
    steps: bool = False,
) -> Curve:
    """Read a curve from CSV.

    Parameters
    ----------
    position, value, sigma : str, optional
        Column names.  Left out: the first column that is no bin edge (one named
        …mid… if there is one), the next one, and the one after that if its name
        says it is an uncertainty.
    where : tuple, optional
        (column, number): only the rows where the column has that value.
    steps : bool
        Two rows may stand at one position, one from below and one from above, as at an absorption edge.

    Raises
    ------
    DataError
        If the file is missing or no such table, a column is missing, a number
        cannot be read, or positions do not rise.
    """
    path = Path(path)
    names, rows = _table(path)
    if where is not None:
        selector = _column(path, names, where[0])
        rows = [r for r in rows if math.isclose(r[selector], where[1], abs_tol=1e-9)]
    if not rows:
        raise DataError(f"'{path}' must have rows to compare with, and has none")
    x = _column(path, names, position) if position else _guess_position(path, names)
    y = _column(path, names, value) if value else _guess_value(path, names, x)
    s = _column(path, names, sigma) if sigma else _guess_sigma(names, y)
    table = np.array(rows)
    rises = np.diff(table[:, x])
    if np.any(rises < 0.0) or (not steps and np.any(rises == 0.0)):
        raise DataError(
            f"the positions in column '{names[x]}' of '{path}' must rise; "
            "choose one curve of several with where"
        )
    percent = s is not None and re.search(r"pct|percent|%", names[s]) is not None
    relative = np.zeros(len(table)) if s is None else table[:, s] * (0.01 if percent else 1.0)
    wrong = ~np.isfinite(table[:, [x, y]]).all(axis=1) | (relative < 0.0) | np.isinf(relative)
    if wrong.any():
        raise DataError(
            f"row {int(np.argmax(wrong)) + 1} of '{path}' must hold finite numbers and "
            "no negative uncertainty"
        )
    return Curve(position=table[:, x], value=table[:, y], sigma=relative, name=names[y])


def _table(path: Path) -> tuple[list[str], list[list[float]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if line and not line[0].startswith("#")]
    except OSError as error:
        raise DataError(
            f"reference '{path}' must be readable, and is not: {error.strerror or error}"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"reference '{path}' must be a CSV file, not another kind of file") from error
    if len(lines) < 2:
        raise DataError(f"reference '{path}' must have a header and at least one row")
    names = _whole_names(lines[0])
    rows = []
    for number, line in enumerate(lines[1:], start=1):
        try:
            row = [float(cell) for cell in line]
        except ValueError:
            raise DataError(f"row {number} of '{path}' must hold numbers, not {line}") from None
        if len(row) != len(names):
            raise DataError(f"row {number} of '{path}' must have {len(names)} columns, not {len(row)}")
        rows.append(row)
    return names, rows


def _whole_names(cells: Sequence[str]) -> list[str]:
    # People write "D(x, y)" into headers without quoting it: a comma inside
    # parentheses does not end a name.
    names: list[str] = []
    for cell in cells:
        if names and names[-1].count("(") > names[-1].count(")"):
            names[-1] += "," + cell
        else:
            names.append(cell)
    return [name.strip() for name in names]


def _column(path: Path, names: Sequence[str], name: str) -> int:
    if name not in names:
        raise DataError(f"'{path}' must have a column '{name}'; it has {', '.join(names)}")
    return list(names).index(name)


def _guess_position(path: Path, names: Sequence[str]) -> int:
    # A profile file names its depth first and the position later: the last of the
    # columns called mid is the position.
    middles = [i for i, name in enumerate(names) if "mid" in name]
    if middles:
        return middles[-1]
    plain = [i for i, name in enumerate(names) if not _EDGE.search(name)]
    if not plain:
        raise DataError(f"'{path}' must have a column of positions; name it")
    return plain[0]


def _guess_value(path: Path, names: Sequence[str], position: int) -> int:
    later = [
        i for i in range(position + 1, len(names))
        if not _EDGE.search(names[i]) and not _SIGMA.search(names[i].lower())
    ]  # fmt: skip
    if not later:
        raise DataError(f"'{path}' must have a column of values after '{names[position]}'")
    return later[0]


def _guess_sigma(names: Sequence[str], value: int) -> int | None:
    after = value + 1
    if after < len(names) and _SIGMA.search(names[after].lower()):
        return after
    return None
