"""A job: batches run one after another into a result that survives interruption.

The runner computes batches in any order on any number of threads; the job adds
them, writes a checkpoint beside the result now and then, resumes from it, and stops
at a target uncertainty.  A job that has a target takes batches in order of their
number and stops after a number that depends on the batches alone, so the result
does not depend on which thread was faster.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from conebeam.batches import BatchPlan, BatchSet
from conebeam.errors import ConfigError, ResultError
from conebeam.result import BatchSums, Provenance, Result, Scored, merge
from conebeam.result_file import check_writable, load, save

MIN_BATCHES = 30


class Runner(Protocol):
    """Whatever turns histories into batch sums."""

    @property
    def scored(self) -> tuple[Scored, ...]:
        """What each batch yields."""
        ...

    def batches(self, tasks: Iterable[tuple[int, int, int]]) -> Iterator[BatchSums]:
        """Run tasks (batch, first history, stop history), yield sums in any order.

        Tasks are taken from the iterable as threads become free.  Closing the
        iterator ends the threads.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """Stop when a named quantity is known well enough.

    Parameters
    ----------
    uncertainty : float
        Relative standard deviation (0.005 = 0.5 %).
    region : str
        Name of something scored, or ``name.label`` for one entry of it.  Of an
        array, every element must reach the target.
    """

    uncertainty: float
    region: str

    def __post_init__(self) -> None:
        if not 0.0 < self.uncertainty < 1.0:
            raise ConfigError(
                f"the target uncertainty must lie between 0 and 1 (0.005 is 0.5 %), not {self.uncertainty}"
            )

    def check(self, scored: tuple[Scored, ...]) -> None:
        """Refuse a region that nothing scores.

        Raises
        ------
        ConfigError
            Names the regions there are.
        """
        known = [name for s in scored for name in _region_names(s)]
        if self.region not in known:
            raise ConfigError(
                f"the region of the target must be one of {', '.join(known)}, not '{self.region}'"
            )

    def reached(self, result: Result) -> bool:
        """Whether the result is as certain as asked, by at least 30 batches."""
        if len(result.done) < MIN_BATCHES:
            return False
        worst = uncertainty(result, self.region)
        return worst is not None and worst <= self.uncertainty


def uncertainty(result: Result, region: str) -> float | None:
    """Largest relative σ in a region; None while it is unknown."""
    name, _, label = region.partition(".")
    if len(result.done) < 2:
        return None
    quantity = result[name]
    sigma = quantity.sigma
    if label:
        sigma = sigma[(quantity.axes[0].labels or ()).index(label)]
    worst = float(np.max(sigma))
    return worst if np.isfinite(worst) else None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run of some batches of a plan.

    Parameters
    ----------
    runner : Runner
    provenance : Provenance
    plan : BatchPlan
    batches : tuple of int, optional
        (A, B): only batches A up to but not including B.
    target : Target, optional
    path : Path, optional
        Result file; also the checkpoint.  An unfinished one is resumed.
    checkpoint_seconds : float
        Least time between two checkpoints; longer where one takes long to write.
    """

    runner: Runner
    provenance: Provenance
    plan: BatchPlan
    batches: tuple[int, int] | None = None
    target: Target | None = None
    path: Path | None = None
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.batches is not None:
            first, stop = self.batches
            if not 0 <= first < stop <= self.plan.batches:
                raise ConfigError(f"batches A:B must lie in 0:{self.plan.batches}, not {first}:{stop}")
            if self.target is not None:
                raise ConfigError(
                    "a target uncertainty must stand alone, not beside batches A:B; leave one out"
                )
        if self.target is not None:
            self.target.check(self.runner.scored)
            if self.plan.batches < MIN_BATCHES:
                raise ConfigError(
                    f"a target uncertainty must have at least {MIN_BATCHES} batches to be "
                    f"judged by, not {self.plan.batches}; ask for more batches"
                )

    def start(self) -> Result:
        """An empty result, or what the checkpoint holds.

        Raises
        ------
        ResultError
            If the file at ``path`` is damaged or belongs to another run.
        """
        empty = Result(provenance=self.provenance, plan=self.plan, scored=self.runner.scored)
        if self.path is None or not self.path.exists():
            return empty
        found = load(self.path)
        try:
            return merge((empty, found))
        except ResultError as error:
            raise ResultError(
                f"'{self.path}' must be a part of this run to be resumed: {error}; or choose another --out"
            ) from error

    def run(self, progress: Callable[[Result], None] | None = None) -> Result:
        """Do what is left to do.

        Parameters
        ----------
        progress : callable, optional
            Called with the result after every batch.

        Returns
        -------
        Result
            Saved at ``path``, if one was given.  On KeyboardInterrupt, and on any
            error, what is done is saved before the exception goes on.
        """
        result = self.start()
        if self.path is not None and not self.path.exists():
            # Hours of work must not end in a folder that cannot be written to.
            check_writable(self.path)
        due, dirty = time.monotonic() + self.checkpoint_seconds, False
        try:
            with closing(self._ordered(result)) as stream:
                for sums in stream:
                    with held_interrupts():
                        result.add(sums)
                        dirty = True
                    del sums
                    if progress is not None:
                        progress(result)
                    if self.target is not None and self.target.reached(result):
                        break
                    if time.monotonic() > due:
                        due, dirty = self._checkpoint(result), False
        finally:
            if dirty:
                self._save(result)
        return result

    def left(self, result: Result) -> BatchSet:
        """Batches this job asks for that are not done."""
        first, stop = self.batches or (0, self.plan.batches)
        if self.target is not None and self.target.reached(result):
            return BatchSet()
        return BatchSet.of(b for b in range(first, stop) if b not in result.done)

    def _ordered(self, result: Result) -> Generator[BatchSums]:
        left = self.left(result)
        if not len(left):
            return
        stream = self.runner.batches(self.plan.tasks(left))
        try:
            if self.target is None:
                yield from stream
                return
            waiting: dict[int, BatchSums] = {}
            queue = iter(left)
            due = next(queue)
            for sums in stream:
                waiting[sums.batch] = sums
                del sums
                while due in waiting:
                    yield waiting.pop(due)
                    due = next(queue, -1)
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()

    def _checkpoint(self, result: Result) -> float:
        """Save, and say when the next one is due: writing takes a tenth of the time at most."""
        started = time.monotonic()
        self._save(result)
        ended = time.monotonic()
        return ended + max(self.checkpoint_seconds, 9.0 * (ended - started))

    def _save(self, result: Result) -> None:
        if self.path is not None:
            with held_interrupts():
                save(result, self.path)


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done: half-added batches must not be saved."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def _region_names(scored: Scored) -> list[str]:
    names = [scored.name]
    if len(scored.axes) == 1 and scored.axes[0].labels is not None:
        names.extend(f"{scored.name}.{label}" for label in scored.axes[0].labels)
    return names
