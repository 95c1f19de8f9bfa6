"""From a scene to batch sums: tables built, kernels chosen, batches run on threads.

The kernels let go of the interpreter's lock, so plain threads share the work.  Each
takes the next batch, runs it in slices short enough for Ctrl-C, and hands over the
batch's sums; a history's random numbers depend on seed and history alone, and the sums
of batches are added exactly (:mod:`conebeam.tally`), so threads cannot change a bit.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conebeam import materials
from conebeam.compilation import kernel_key
from conebeam.data import elements
from conebeam.errors import ConfigError
from conebeam.geometry import Geometry, grid_masses
from conebeam.histories.balance import BALANCE_SIZE, COLLISIONS, DEPOSITED, EMITTED, ESCAPED, WORST
from conebeam.histories.box import run_box
from conebeam.histories.cells import run_cells
from conebeam.histories.lattice import build_voxels, run_lattice
from conebeam.plans import GridPlan, PlanePlan, plan_grids, plan_planes
from conebeam.result import BatchSums, Scored
from conebeam.scene import Scene
from conebeam.scene.source import PENCIL, Beam
from conebeam.scoring.grids import build_grids
from conebeam.sources.emission import Emission, build_emission
from conebeam.spectra import Emitted, emitted_by
from conebeam.transport import physics

SLICE = 4096
_LARGE_GRID = 1 << 22
_ORIGIN = (0.0, 0.0, 0.0)

Kernel = Callable[[int, int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], None]


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Where the energy of all histories went, keV, and the worst single history.

    ``worst`` is the largest |emitted − deposited − escaped| / emitted of any history.
    """

    emitted_kev: float = 0.0
    deposited_kev: float = 0.0
    escaped_kev: float = 0.0
    worst: float = 0.0
    collisions: int = 0

    def __add__(self, other: Balance) -> Balance:
        return Balance(
            emitted_kev=self.emitted_kev + other.emitted_kev,
            deposited_kev=self.deposited_kev + other.deposited_kev,
            escaped_kev=self.escaped_kev + other.escaped_kev,
            worst=max(self.worst, other.worst),
            collisions=self.collisions + other.collisions,
        )


class Engine:
    """Runs the batches of a scene.

    Parameters
    ----------
    scene : Scene
    threads : int
        0 for all cores.
    emitted : Emitted, optional
        Instead of what the scene's source asks for.

    Attributes
    ----------
    scored : tuple of Scored
        What each batch yields.
    emitted : Emitted
        What the source sends out.
    balance : Balance
        Energy balance of the histories run by this engine so far.
    setup_seconds : float
        Wall-clock time of checks, tables and compilation.
    path : str
        Which history loop runs: ``box``, ``lattice``, ``woodcock`` or ``cells``.

    Raises
    ------
    ConebeamError
        On whatever makes the scene impossible; see :meth:`Scene.check`.
    """

    def __init__(self, scene: Scene, threads: int = 0, *, emitted: Emitted | None = None) -> None:
        started = time.perf_counter()
        if threads < 0:
            raise ConfigError(f"threads must be at least 0 (0 for all cores), not {threads}")
        self.threads = threads or len(os.sched_getaffinity(0))
        known = {**materials.LIBRARY, **_own_materials(scene)}
        densities = {name: m.density_g_cm3 for name, m in known.items()}
        geometry = scene.check(densities)
        self._scene = scene.completed(densities)
        self._beam = scene.source.beam()
        self.emitted = emitted or emitted_by(scene)
        self.spectrum = self.emitted.spectrum
        if self._beam.kind == PENCIL and any(s.per == "fluence" for s in self._scene.scorers):
            raise ConfigError(
                "scorers of a pencil source must be per 'photon', not per 'fluence'; "
                "a line has no area to spread over"
            )
        self._physics = physics.build_physics([known[name] for name in geometry.materials])
        self._table = geometry.table(densities)
        largest = self.spectrum.largest_kev
        batch = -(-self._scene.plan().histories // self._scene.plan().batches)
        self._grid_plans = plan_grids(
            self._scene, self._beam.area, batch, largest,
            lambda edges: grid_masses(geometry, self._table, edges),
        )  # fmt: skip
        self._plane_plans = plan_planes(self._scene, self._beam.area, batch, self._physics, largest)
        plans: tuple[GridPlan | PlanePlan, ...] = (*self._grid_plans, *self._plane_plans)
        self._plans = plans
        self.scored: tuple[Scored, ...] = tuple(s for plan in self._plans for s in plan.scored)
        self.path, self._kernel, self._sizes = self._choose(geometry, densities)
        self.balance = Balance()
        self._lock = threading.Lock()
        # Compiled now: what comes later is transport alone.
        self._kernel(0, 0, np.zeros(self._sizes[0]), np.zeros(self._sizes[1]), np.zeros(BALANCE_SIZE))
        self.setup_seconds = time.perf_counter() - started

    @property
    def versions(self) -> Mapping[str, str]:
        """What decides the numbers besides packages: sources of tables and kernels."""
        return {
            "physics tables": physics.tables_key(),
            "xraylib data": elements.version(),
            "kernels": kernel_key(),
            **self.emitted.versions,
        }

    @property
    def field_area_cm2(self) -> float:
        """Area of the source's field."""
        return self._beam.area

    def batches(self, tasks: Iterable[tuple[int, int, int]]) -> Generator[BatchSums]:
        """Run tasks (batch, first history, stop history); yields sums in any order."""
        source, feed = iter(tasks), threading.Lock()
        done: queue.SimpleQueue[BatchSums | BaseException | None] = queue.SimpleQueue()
        # A large grid is held once a thread; a small one may wait while the next runs.
        held = self.threads * (1 if self._sizes[0] > _LARGE_GRID else 2)
        room, stop = threading.Semaphore(held), threading.Event()
        workers = [
            threading.Thread(target=self._work, args=(source, feed, done, room, stop), daemon=True)
            for _ in range(self.threads)
        ]
        for worker in workers:
            worker.start()
        try:
            yield from self._collect(done, room)
        finally:
            stop.set()
            for _ in workers:
                room.release()
            for worker in workers:
                worker.join()

    def _collect(
        self, done: queue.SimpleQueue[BatchSums | BaseException | None], room: threading.Semaphore
    ) -> Iterator[BatchSums]:
        running = self.threads
        while running:
            found = done.get()
            if found is None:
                running -= 1
            elif isinstance(found, BaseException):
                raise found
            else:
                yield found
                del found
                room.release()

    def _work(
        self,
        source: Iterator[tuple[int, int, int]],
        feed: threading.Lock,
        done: queue.SimpleQueue[BatchSums | BaseException | None],
        room: threading.Semaphore,
        stop: threading.Event,
    ) -> None:
        try:
            while True:
                room.acquire()
                with feed:
                    task = None if stop.is_set() else next(source, None)
                if task is None:
                    break
                sums = self.one(*task, stop=stop)
                if sums is not None:
                    done.put(sums)
                # Whoever holds on to a batch holds on to its whole grid.
                del sums
        except BaseException as error:
            done.put(error)
        done.put(None)

    def one(
        self, batch: int, first: int, last: int, *, stop: threading.Event | None = None
    ) -> BatchSums | None:
        """Run one batch in this thread; None if it was stopped on the way."""
        started = time.thread_time()
        grids, planes, balance = np.zeros(self._sizes[0]), np.zeros(self._sizes[1]), np.zeros(BALANCE_SIZE)
        # Without compilation NumPy would warn that 64-bit hashes overflow, as they should.
        with np.errstate(over="ignore"):
            for start in range(first, last, SLICE):
                if stop is not None and stop.is_set():
                    return None
                self._kernel(start, min(start + SLICE, last), grids, planes, balance)
        sums: dict[str, NDArray[np.float64]] = {}
        for plan in self._plans:
            sums.update(plan.take(grids if isinstance(plan, GridPlan) else planes))
        with self._lock:
            self.balance += _balance(balance)
        return BatchSums(
            batch=batch, histories=last - first, sums=sums, cpu_seconds=time.thread_time() - started
        )

    def _choose(
        self, geometry: Geometry, densities: Mapping[str, float]
    ) -> tuple[str, Kernel, tuple[int, int]]:
        lattice = self._scene.lone_lattice(densities)
        edges = [plan.edges for plan in self._grid_plans]
        deposit = [plan.deposit for plan in self._grid_plans]
        seed, cut, tables = self._scene.seed, np.float32(physics.CUT_KEV), self._physics
        zero = _centre(geometry.bounds() if not edges else np.array([[e[[0, -1]] for e in g] for g in edges]))
        if lattice is not None:
            zero = _centre(geometry.bounds())
        grids = build_grids(edges, deposit, zero)
        origin = _ORIGIN if lattice is None else zero
        planes = PlanePlan.together(self._plane_plans, origin, tables)
        emission = _emission(self._beam, self.emitted, origin)
        sizes = int(grids.sum_first[-1]), int(planes.sum_first[-1])
        if lattice is None:
            table, at = self._table, np.asarray(zero)
            return "cells", lambda a, b, *sums: run_cells(
                seed, a, b, emission, tables, cut, table, at, grids, planes, *sums
            ), sizes  # fmt: skip
        half = 0.5 * np.array([e[-1] - e[0] for e in lattice.edges_cm])
        if lattice.material.size == 1 and not lattice.material.any():  # of the first material
            density = float(lattice.density_g_cm3.reshape(-1)[0])
            return "box", lambda a, b, *sums: run_box(
                seed, a, b, emission, tables, cut, half, density, grids, planes, *sums
            ), sizes  # fmt: skip
        voxels, woodcock = build_voxels(lattice, tables, zero), all(deposit)
        return "woodcock" if woodcock else "lattice", lambda a, b, *sums: run_lattice(
            seed, a, b, emission, tables, cut, voxels, half, woodcock, grids, planes, *sums
        ), sizes  # fmt: skip


def _own_materials(scene: Scene) -> dict[str, materials.Material]:
    found = {}
    for name, spec in scene.materials.items():
        if spec.formula is not None:
            found[name] = materials.from_formula(name, spec.formula, spec.density_g_cm3)
        else:
            found[name] = materials.Material(
                name=name, density_g_cm3=spec.density_g_cm3, fractions=spec.fractions or {}
            )
    return found


def _centre(bounds: NDArray[np.float64]) -> tuple[float, float, float]:
    """Middle of bounds of shape (2, 3), or of all of several grids' ends, shape (G, 3, 2)."""
    if bounds.ndim == 3:
        bounds = np.stack((bounds[:, :, 0].min(axis=0), bounds[:, :, 1].max(axis=0)))
    x, y, z = (0.5 * (bounds[0] + bounds[1])).tolist()
    return x, y, z


def _emission(beam: Beam, emitted: Emitted, origin: tuple[float, float, float]) -> Emission:
    return build_emission(
        kind=beam.kind, shape=beam.shape, position=beam.position, direction=beam.direction,
        centre=beam.centre, across=beam.u, along=beam.v, spectrum=emitted.spectrum, origin=origin,
        columns=emitted.columns, cathode=emitted.cathode,
    )  # fmt: skip


def _balance(sums: NDArray[np.float64]) -> Balance:
    return Balance(
        emitted_kev=float(sums[EMITTED]),
        deposited_kev=float(sums[DEPOSITED]),
        escaped_kev=float(sums[ESCAPED]),
        worst=float(sums[WORST]),
        collisions=int(sums[COLLISIONS]),
    )
