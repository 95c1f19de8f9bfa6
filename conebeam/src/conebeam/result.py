"""A result: what was scored, with axes, units, σ, normalisation and provenance.

It keeps the exact sums of the batches done (see :mod:`conebeam.tally`), so a
checkpoint, a part of a cluster run and a finished result are one kind of thing:
adding batches or merging parts gives the bits that one run would have given.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conebeam.batches import BatchPlan, BatchSet
from conebeam.errors import ResultError
from conebeam.tally import Tally


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """One axis of a scored array: bins by their edges, or named entries.

    Parameters
    ----------
    name : str
        ``x``, ``z``, ``energy``, ``region`` …
    unit : str
        Unit of the edges; empty for names.
    edges : array, shape (n + 1,), optional
    labels : tuple of str, optional
        Exactly one of edges and labels is given.
    """

    name: str
    unit: str = ""
    edges: NDArray[np.float64] | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.edges is None) == (self.labels is None):
            raise ResultError(f"axis '{self.name}' must have either edges or labels")
        if self.edges is not None:
            edges = np.asarray(self.edges, dtype=np.float64)
            if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0.0):
                raise ResultError(f"the edges of axis '{self.name}' must rise from bin to bin")
            object.__setattr__(self, "edges", edges)

    def __len__(self) -> int:
        if self.edges is not None:
            return len(self.edges) - 1
        return len(self.labels or ())

    def centres(self) -> NDArray[np.float64]:
        """Bin centres, shape (n,)."""
        if self.edges is None:
            raise ResultError(f"axis '{self.name}' must have edges to have bin centres")
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def same_as(self, other: Axis) -> bool:
        """Whether two axes are equal in every number."""
        if (self.name, self.unit, self.labels) != (other.name, other.unit, other.labels):
            return False
        if self.edges is None or other.edges is None:
            return self.edges is other.edges
        return np.array_equal(self.edges, other.edges)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What each batch yields under one name, and what turns it into a result.

    value = factor · Σ(batches) / histories, in ``unit`` per ``per``.

    Parameters
    ----------
    name : str
        Unique in a result; used as the name in files and on the command line.
    axes : tuple of Axis
        Their lengths are the array's shape.
    quantity : str
        ``dose``, ``energy``, ``fluence``, ``air kerma``.
    unit, per : str
        ``"Gy cm2"`` per ``"mean surface fluence"``.
    factor : float or array broadcastable to the shape
    magnitude : float
        Bound on one element of one batch; see :class:`~conebeam.tally.Tally`.
    """

    name: str
    axes: tuple[Axis, ...]
    quantity: str
    unit: str
    per: str
    factor: float | NDArray[np.float64]
    magnitude: float

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name != self.name.strip() or "." in self.name:
            raise ResultError(f"a scorer's name must be a word without '/' or '.', not '{self.name}'")
        if not self.axes:
            raise ResultError(f"'{self.name}' must have at least one axis; name its entry")
        factor = np.asarray(self.factor, dtype=np.float64)
        try:
            np.broadcast_to(factor, self.shape)
        except ValueError:
            raise ResultError(
                f"the factor of '{self.name}' must fit the shape {self.shape}, not {factor.shape}"
            ) from None
        if not np.all(np.isfinite(factor)):
            raise ResultError(f"the factor of '{self.name}' must be finite")

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(len(axis) for axis in self.axes)

    def same_as(self, other: Scored) -> bool:
        """Whether two describe the same thing in every number."""
        return (
            (self.name, self.quantity, self.unit, self.per, self.magnitude)
            == (other.name, other.quantity, other.unit, other.per, other.magnitude)
            and len(self.axes) == len(other.axes)
            and all(a.same_as(b) for a, b in zip(self.axes, other.axes, strict=True))
            and np.array_equal(np.asarray(self.factor), np.asarray(other.factor))
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantity:
    """Values with their relative standard deviation (0.01 = 1 %), axes and units."""

    name: str
    values: NDArray[np.float64]
    sigma: NDArray[np.float64]
    axes: tuple[Axis, ...]
    quantity: str
    unit: str
    per: str


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchSums:
    """What one batch scored: plain sums under each scored name."""

    batch: int
    histories: int
    sums: Mapping[str, NDArray[np.float64]]
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a result comes from.

    Parameters
    ----------
    scene : str
        The whole scene as TOML.
    seed : int
    versions : dict of str
        Packages and data tables that decide the numbers.
    processors : tuple of str
        Processors that did batches.
    """

    scene: str
    seed: int
    versions: Mapping[str, str]
    processors: tuple[str, ...] = ()


@dataclass(kw_only=True, eq=False)
class Result:
    """Sums over batches done so far, and the means they stand for."""

    provenance: Provenance
    plan: BatchPlan
    scored: tuple[Scored, ...]
    done: BatchSet = field(default_factory=BatchSet)
    histories: int = 0
    cpu_seconds: float = 0.0
    tallies: dict[str, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        twice = [n for n, count in Counter(s.name for s in self.scored).items() if count > 1]
        if twice:
            raise ResultError(f"scorer names must be unique, not twice '{twice[0]}'")
        for scored in self.scored:
            if scored.name not in self.tallies:
                self.tallies[scored.name] = Tally(scored.shape, scored.magnitude)

    @property
    def is_complete(self) -> bool:
        """Whether every planned batch is done."""
        return len(self.done) == self.plan.batches

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what was scored."""
        return tuple(scored.name for scored in self.scored)

    def add(self, sums: BatchSums) -> None:
        """Add one batch.

        Raises
        ------
        ResultError
            If the batch is in already, or yields other things than planned.
        """
        if sums.batch in self.done:
            raise ResultError(f"batch {sums.batch} must be added once, not again")
        if set(sums.sums) != set(self.names):
            raise ResultError(f"a batch must yield {', '.join(self.names)}, not {', '.join(sums.sums)}")
        for name, values in sums.sums.items():
            self.tallies[name].add(values)
        self.done = self.done | BatchSet.of([sums.batch])
        self.histories += sums.histories
        self.cpu_seconds += sums.cpu_seconds

    def __getitem__(self, name: str) -> Quantity:
        scored = self._scored(name)
        tally = self.tallies[name]
        if self.histories == 0:
            raise ResultError(f"'{name}' must have at least one batch done to have a value")
        # In place: a grid of a full-resolution CT takes half a gigabyte.
        values = tally.total()
        values *= scored.factor
        values /= self.histories
        return Quantity(
            name=name,
            values=values,
            sigma=tally.sigma(),
            axes=scored.axes,
            quantity=scored.quantity,
            unit=scored.unit,
            per=scored.per,
        )

    def quantities(self) -> tuple[Quantity, ...]:
        """All that was scored, in order."""
        return tuple(self[name] for name in self.names)

    def efficiency(self, name: str) -> NDArray[np.float64]:
        """1/(σ²T) with T the CPU seconds of transport, 1/s."""
        if self.cpu_seconds <= 0.0:
            raise ResultError("the CPU seconds of transport must be known to state an efficiency")
        efficiency: NDArray[np.float64] = 1.0 / (self[name].sigma ** 2 * self.cpu_seconds)
        return efficiency

    def digest(self) -> str:
        """SHA-256 over batches done, histories and all exact sums: equal means same bits."""
        h = hashlib.sha256(f"{self.done}|{self.histories}".encode())
        for name in sorted(self.tallies):
            # Joined, not the raw words: two splittings of one number are one number.
            h.update(name.encode())
            h.update(self.tallies[name].total().tobytes())
            h.update(self.tallies[name].squares().tobytes())
        return h.hexdigest()

    def _scored(self, name: str) -> Scored:
        for scored in self.scored:
            if scored.name == name:
                return scored
        raise ResultError(f"'{name}' must be one of what was scored: {', '.join(self.names)}")


def merge(parts: Sequence[Result]) -> Result:
    """One result out of parts of the same run.

    Parameters
    ----------
    parts : sequence of Result
        Same scene, seed, versions and plan; disjoint batches.

    Raises
    ------
    ResultError
        If the parts do not belong together; names what differs.
    """
    if not parts:
        raise ResultError("a merge must have at least one part, not none")
    first = parts[0]
    merged = Result(provenance=first.provenance, plan=first.plan, scored=first.scored)
    for part in parts:
        _check_mergeable(merged, part)
        for name, tally in part.tallies.items():
            merged.tallies[name].merge(tally)
        merged.done = merged.done | part.done
        merged.histories += part.histories
        merged.cpu_seconds = math.fsum((merged.cpu_seconds, part.cpu_seconds))
        processors = (*merged.provenance.processors, *part.provenance.processors)
        merged.provenance = replace(merged.provenance, processors=tuple(sorted(set(processors))))
    return merged


def _check_mergeable(a: Result, b: Result) -> None:
    differing: list[tuple[str, Any, Any]] = [
        ("seed", a.provenance.seed, b.provenance.seed),
        ("batch plan", a.plan, b.plan),
        *(
            (f"version of {key}", a.provenance.versions.get(key), b.provenance.versions.get(key))
            for key in sorted({*a.provenance.versions, *b.provenance.versions})
        ),
    ]
    for what, ours, theirs in differing:
        if ours != theirs:
            raise ResultError(
                f"parts of one run must have the same {what}, not {ours} and {theirs}; run them again alike"
            )
    if a.provenance.scene != b.provenance.scene:
        raise ResultError("parts of one run must have the same scene; run them again alike")
    if len(a.scored) != len(b.scored) or not all(
        x.same_as(y) for x, y in zip(a.scored, b.scored, strict=True)
    ):
        raise ResultError("parts of one run must score the same things; run them again alike")
    common = a.done & b.done
    if len(common):
        raise ResultError(f"parts must have disjoint batches, not batches {common} twice; leave one part out")
