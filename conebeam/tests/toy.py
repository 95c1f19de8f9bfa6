"""A small and honest Monte Carlo: exponential flights into a slab, by NumPy.

Histories are keyed by (seed, history), so it keeps the promises that a job needs,
without any physics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from conebeam.batches import BatchPlan
from conebeam.extracts import curve
from conebeam.job import Job
from conebeam.result import Axis, BatchSums, Provenance, Result, Scored

EDGES = tuple(np.linspace(a, b, n) for a, b, n in ((-2, 2, 5), (-2, 2, 5), (0, 10, 11)))
MU = 0.2
CURVE = curve(name="depth", edges=EDGES, along=2, ranges=((-1.0, 1.0), (-1.0, 1.0), None))  # type: ignore[arg-type]
PROVENANCE = Provenance(scene='name = "toy"\n', seed=3, versions={"toy": "1"}, processors=("Test CPU",))


class ToyRunner:
    """Deposits 1 where a flight ends; ``order`` shuffles the batches as threads do."""

    def __init__(self, *, seed: int = 3, order: int = 0, stop_after: int | None = None) -> None:
        self.seed = seed
        self.order = order
        self.stop_after = stop_after
        self.closed = False
        self.versions = {"toy": "1"}
        axes = tuple(Axis(name=n, unit="cm", edges=e) for n, e in zip("xyz", EDGES, strict=True))
        self.scored = (
            Scored(
                name="dose", axes=axes, quantity="dose", unit="Gy cm2",
                per="mean surface fluence", factor=2e-13, magnitude=1e4,
            ),
            Scored(
                name="depth", axes=(CURVE.axis,), quantity="dose", unit="Gy cm2",
                per="mean surface fluence", factor=2e-13, magnitude=1e4,
            ),
            Scored(
                name="parts", axes=(Axis(name="region", labels=("front", "back")),),
                quantity="energy", unit="keV", per="photon", factor=1.0, magnitude=1e4,
            ),
        )  # fmt: skip

    def batches(self, tasks: Iterable[tuple[int, int, int]]) -> Iterator[BatchSums]:
        try:
            group: list[tuple[int, int, int]] = []
            count = 0
            for task in tasks:
                group.append(task)
                if len(group) <= self.order:
                    continue
                for member in reversed(group):
                    if self.stop_after is not None and count >= self.stop_after:
                        raise KeyboardInterrupt
                    count += 1
                    yield self.one(*member)
                group = []
            for member in reversed(group):
                yield self.one(*member)
        finally:
            self.closed = True

    def one(self, batch: int, first: int, stop: int) -> BatchSums:
        grid = np.zeros((4, 4, 10))
        for history in range(first, stop):
            rng = np.random.default_rng((self.seed, history))
            x, y = rng.uniform(-2.0, 2.0, 2)
            z = rng.exponential(1.0 / MU)
            if z < 10.0:
                grid[int(x + 2), int(y + 2), int(z)] += 1.0
        return BatchSums(
            batch=batch,
            histories=stop - first,
            sums={
                "dose": grid,
                "depth": CURVE.take(grid),
                "parts": np.array([grid[:, :, :5].sum(), grid[:, :, 5:].sum()]),
            },
            cpu_seconds=0.01,
        )


PLAN = BatchPlan(histories=4000, batches=40)


def job(**more: object) -> Job:
    values: dict[str, object] = {"runner": ToyRunner(), "provenance": PROVENANCE, "plan": PLAN}
    return Job(**{**values, **more})  # type: ignore[arg-type]


def result(**more: object) -> Result:
    return job(**more).run()
