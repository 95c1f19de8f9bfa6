"""Batches with fixed identities: which histories batch b is, and which batches are done.

A run over batches A:B, a resumed run and a merge all speak of the same batches,
so no history is ever counted twice or left out unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from conebeam.errors import ConfigError

DEFAULT_BATCHES = 64


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How histories are dealt out to batches.

    Parameters
    ----------
    histories : int
        Planned histories; at most this many are run when a target uncertainty
        ends the run earlier.
    batches : int
        Number of batches; batch b holds histories b·N/B (rounded down) up to
        (b + 1)·N/B, so sizes differ by at most one.
    """

    histories: int
    batches: int = DEFAULT_BATCHES

    def __str__(self) -> str:
        return f"{self.histories:,} histories in {self.batches} batches"

    def __post_init__(self) -> None:
        if self.histories < 1:
            raise ConfigError(f"histories must be at least 1, not {self.histories}")
        if not 1 <= self.batches <= self.histories:
            raise ConfigError(f"batches must lie in 1..{self.histories} (the histories), not {self.batches}")

    def bounds(self, batch: int) -> tuple[int, int]:
        """First history of a batch and the one after its last."""
        if not 0 <= batch < self.batches:
            raise ConfigError(f"a batch must lie in 0..{self.batches - 1}, not {batch}")
        return (
            batch * self.histories // self.batches,
            (batch + 1) * self.histories // self.batches,
        )

    def tasks(self, batches: Iterable[int]) -> Iterator[tuple[int, int, int]]:
        """(batch, first history, stop history) of each batch."""
        for batch in batches:
            first, stop = self.bounds(batch)
            yield batch, first, stop


@dataclass(frozen=True, kw_only=True)
class BatchSet:
    """A set of batch numbers as sorted, disjoint, non-touching ranges."""

    ranges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        flat = [edge for first, stop in self.ranges for edge in (first, stop)]
        if any(a >= b for a, b in pairwise(flat)) or any(edge < 0 for edge in flat):
            raise ConfigError(f"batch ranges must be sorted and apart, not {self.ranges}")

    @classmethod
    def of(cls, batches: Iterable[int]) -> BatchSet:
        """The set of the given numbers."""
        ranges: list[tuple[int, int]] = []
        for batch in sorted(set(batches)):
            if ranges and ranges[-1][1] == batch:
                ranges[-1] = (ranges[-1][0], batch + 1)
            else:
                ranges.append((batch, batch + 1))
        return cls(ranges=tuple(ranges))

    def __len__(self) -> int:
        return sum(stop - first for first, stop in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for first, stop in self.ranges:
            yield from range(first, stop)

    def __contains__(self, batch: int) -> bool:
        return any(first <= batch < stop for first, stop in self.ranges)

    def __or__(self, other: BatchSet) -> BatchSet:
        joined: list[tuple[int, int]] = []
        for first, stop in sorted((*self.ranges, *other.ranges)):
            if joined and first <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
            else:
                joined.append((first, stop))
        return BatchSet(ranges=tuple(joined))

    def __and__(self, other: BatchSet) -> BatchSet:
        return BatchSet.of(set(self) & set(other))

    def __str__(self) -> str:
        return ", ".join(f"{first}:{stop}" for first, stop in self.ranges) or "none"


def parse_range(text: str) -> tuple[int, int]:
    """``"A:B"`` as (A, B), batches A up to but not including B.

    Raises
    ------
    ConfigError
        If the text is not of that form or the range is empty.
    """
    first, colon, stop = text.partition(":")
    if not colon or not first.strip().isdigit() or not stop.strip().isdigit():
        raise ConfigError(f"batches must read A:B with whole numbers, not '{text}'")
    if int(first) >= int(stop):
        raise ConfigError(f"batches A:B must have A below B, not '{text}'")
    return int(first), int(stop)
