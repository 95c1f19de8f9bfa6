"""What may be chosen: candidates that meet the deadline, for each operating point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from retrim.errors import ConfigError, DeviceError

Choice = tuple[int, ...]
"""For each operating point, the number of a candidate."""

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A sub-model.

    Parameters
    ----------
    density : float
        Kept weights over all.
    patterns : int
        Number of its pattern set.
    cycles : float
        Of one inference.
    """

    density: float
    patterns: int = 0
    cycles: float

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1 or not 0 < self.cycles < float("inf"):
            raise ConfigError(
                f"a candidate must have 0 < density <= 1 and cycles > 0, not {self.density} and {self.cycles}"
            )


@dataclass(frozen=True, kw_only=True)
class Point:
    """An operating point, and what the battery gives it.

    Parameters
    ----------
    mhz, milliwatts : float
        Clock; power while an inference runs.
    millijoules : float
        Energy that is spent there.
    """

    mhz: float
    milliwatts: float
    millijoules: float

    def milliseconds(self, cycles: float) -> float:
        """Latency of an inference."""
        return cycles / (1000 * self.mhz)

    def runs(self, cycles: float) -> float:
        """Inferences that the energy suffices for."""
        return self.millijoules / (self.milliwatts * self.milliseconds(cycles) / 1000)


@dataclass(frozen=True, kw_only=True)
class Space:
    """Choices of one candidate for each operating point.

    Parameters
    ----------
    points : tuple of Point
        The fastest first.
    candidates : tuple of Candidate
    deadline_ms : float
    keep : int or None
        Densities that a point keeps of those that meet the deadline, the densest; None: all.
    shrunk : bool
        False: points keep every candidate, and a choice may miss the deadline.

    Raises
    ------
    ConfigError
        If something is missing or out of order.
    DeviceError
        If a point has no candidate that meets the deadline; says which one would be feasible.
    """

    points: tuple[Point, ...]
    candidates: tuple[Candidate, ...]
    deadline_ms: float
    keep: int | None = None
    shrunk: bool = True

    def __post_init__(self) -> None:
        if not self.points or not self.candidates:
            raise ConfigError("a space must have an operating point and a candidate at least")
        speeds = [point.mhz for point in self.points]
        if speeds != sorted(speeds, reverse=True):
            raise ConfigError(
                f"operating points must come the fastest first, not {', '.join(map(str, speeds))} MHz"
            )
        if self.keep is not None and self.keep < 1:
            raise ConfigError(f"keep must be a whole number >= 1, not {self.keep}")
        slowest, fewest = self.points[-1], min(c.cycles for c in self.candidates)
        least = slowest.milliseconds(fewest)
        if least > self.deadline_ms * (1 + _ROUNDING):
            raise DeviceError(
                f"deadline_ms must be one that the sparsest candidate meets at {slowest.mhz:g} MHz, not "
                f"{self.deadline_ms:g}: {_above(least):g} ms is feasible; or offer sparser candidates, or leave the "
                "slowest points out"
            )

    @cached_property
    def options(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the candidates that each point may take, the densest first."""
        order = sorted(range(len(self.candidates)), key=lambda j: (-self.candidates[j].density, j))
        return tuple(tuple(self._allowed(point, order)) for point in self.points)

    def _allowed(self, point: Point, order: Sequence[int]) -> list[int]:
        if not self.shrunk:
            return list(order)
        found = [j for j in order if self.meets(point, self.candidates[j])]
        densities = sorted({self.candidates[j].density for j in found}, reverse=True)[: self.keep]
        return [j for j in found if self.candidates[j].density in densities]

    def meets(self, point: Point, candidate: Candidate) -> bool:
        """Whether an inference is done in time."""
        return point.milliseconds(candidate.cycles) <= self.deadline_ms * (1 + _ROUNDING)

    def in_time(self, choice: Choice) -> bool:
        """Whether all levels of a choice meet the deadline."""
        return all(self.meets(p, self.candidates[j]) for p, j in zip(self.points, choice, strict=True))

    def runs(self, choice: Choice) -> tuple[float, ...]:
        """Inferences at each point."""
        return tuple(p.runs(self.candidates[j].cycles) for p, j in zip(self.points, choice, strict=True))

    @property
    def most_runs(self) -> float:
        """Inferences with the candidate of fewest cycles everywhere."""
        fewest = min(candidate.cycles for candidate in self.candidates)
        return sum(point.runs(fewest) for point in self.points)

    @property
    def size(self) -> int:
        """Number of choices."""
        count = 1
        for options in self.options:
            count *= len(options)
        return count


def _above(value: float) -> float:
    """`value` in four digits, not below it."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return float(f"{math.ceil(value / step - _ROUNDING) * step:.4g}")
