"""Sentences or pairs of sentences with their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrim.errors import DataError


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled text, in the order of the file.

    Attributes
    ----------
    first : list of n str
    second : list of n str, or None
        None where examples are single sentences.
    labels : ndarray, shape (n,)
        int64 classes, or float32 scores from 0 to 5 (STS-B).

    Raises
    ------
    DataError
        If lengths differ.
    """

    first: list[str]
    second: list[str] | None
    labels: np.ndarray

    def __post_init__(self) -> None:
        second = self.first if self.second is None else self.second
        if len(second) != len(self.first) or self.labels.shape != (len(self.first),):
            raise DataError(
                f"examples must have as many second sentences and labels as first ones, {len(self.first)}, not "
                f"{len(second)} and {self.labels.shape}"
            )

    def __len__(self) -> int:
        return len(self.first)
