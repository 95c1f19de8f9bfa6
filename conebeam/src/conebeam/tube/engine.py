"""From a tube to batch sums: tables built, histories run on threads.

Histories are keyed by (seed, number) and batches are added exactly, as everywhere in the
package: threads, interruptions and cuts into parts cannot change a bit.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from conebeam import constants
from conebeam.compilation import kernel_key
from conebeam.data import elements
from conebeam.data.electrons.targets import TARGETS
from conebeam.errors import ConfigError
from conebeam.histories import tube_scores as scores
from conebeam.histories.tube import run_tube
from conebeam.histories.tube_scores import Aim, Anode
from conebeam.materials import Material, material
from conebeam.result import Axis, BatchSums, Scored
from conebeam.transport import physics
from conebeam.transport.electron import tables as electron_tables
from conebeam.tube.emission import Emission, Expected, Transport, way
from conebeam.tube.model import MAX_KVP, ParallelRectangularBeam, View, XrayTube

PER = "electron"
SQUARES = " squares"
# Totals of photons in the field come first; the others are electrons and energies.
FIELD_TOTALS = scores.FIELD_ELECTRONS
_LARGEST_SCORE, _LARGEST_SHARE = 1e4, 100.0
_BETWEEN_L_AND_K = 1.02


class TubeEngine:
    """Runs batches of electrons.

    Parameters
    ----------
    tube : XrayTube
    view : View
    emission : Analog or Expected
    transport : Transport
    seed : int
    batch : int
        Electrons of the largest batch.
    threads : int
        0 for all cores.
    progress : callable, optional
        Told the share of the tables that is built, 0 to 1.

    Attributes
    ----------
    scored : tuple of Scored
        ``field``, ``totals``, ``spectrum``, ``heel``, and the sums over histories of their squares.
    balance : array, shape (7,)
        Energy of all histories so far; see :mod:`conebeam.histories.tube_scores`.

    Raises
    ------
    ConebeamError
        On whatever makes the tube impossible.
    """

    def __init__(
        self,
        tube: XrayTube,
        view: View | None = None,
        *,
        emission: Emission | None = None,
        transport: Transport | None = None,
        seed: int = 1,
        batch: int = 10_000,
        threads: int = 1,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        if threads < 0:
            raise ConfigError(f"threads must be at least 0 (0 for all cores), not {threads}")
        tube.check()
        self.tube, self.view, self.seed = tube, view or View(), seed
        self.threads = threads or len(os.sched_getaffinity(0))
        sheets = [material(sheet.material) for sheet in tube.filters]
        target = TARGETS[tube.target]
        own = Material(name=tube.target, density_g_cm3=target.density_g_cm3, fractions={tube.target: 1.0})
        self._physics = physics.build_physics([own, *sheets], cut_kev=tube.cut_kev)
        vacancy = np.full(len(elements.SHELLS), -1, dtype=np.int64)
        count = int(self._physics.channel_first[1])
        # The target is the first material, its shells in the order of elements.SHELLS.
        vacancy[:count] = self._physics.channel_vacancy[:count]
        self._electrons = electron_tables.build_electrons(
            target, tube.elastic, cut_kev=tube.cut_kev, vacancy=vacancy, progress=progress
        )
        self._filters = _optical_depth(self._physics, tube, sheets)
        self._anode, self._aim = _anode(tube), _aim(tube, self.view)
        self._way = way(emission or Expected(), transport or Transport(), tube.cut_kev)
        self.scored = _scored(self._aim, self.view, batch, self._way.expected)
        self.balance, self._lock = np.zeros(scores.BALANCE), threading.Lock()
        self._size = scores.SPECTRUM + self._aim.bins + scores.HEEL_BINS
        # Compiled now: what comes later is transport alone.
        self._run(0, 0)

    @property
    def versions(self) -> Mapping[str, str]:
        """What decides the numbers besides packages: sources of tables and kernels."""
        return {
            "physics tables": physics.tables_key(),
            "electron tables": electron_tables.tables_key(),
            "xraylib data": elements.version(),
            "kernels": kernel_key(),
            "view": self.view.model_dump_json(),
            "way": repr(tuple(self._way)),
        }

    def batches(self, tasks: Iterable[tuple[int, int, int]]) -> Generator[BatchSums]:
        """Run tasks (batch, first history, stop history); yields sums in their order."""
        waiting: deque[Future[BatchSums]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                for task in tasks:
                    waiting.append(pool.submit(self.one, *task))
                    if len(waiting) > self.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def one(self, batch: int, first: int, stop: int) -> BatchSums:
        """Run one batch in this thread."""
        started = time.thread_time()
        sums, squares = self._run(first, stop)
        spent = time.thread_time() - started
        parts: dict[str, NDArray[np.float64]] = {}
        for name, values in (("", sums), (SQUARES, squares)):
            parts["field" + name] = values[:FIELD_TOTALS]
            parts["totals" + name], rest = values[FIELD_TOTALS : scores.SPECTRUM], values[scores.SPECTRUM :]
            parts["spectrum" + name], parts["heel" + name] = rest[: self._aim.bins], rest[self._aim.bins :]
        return BatchSums(batch=batch, histories=stop - first, sums=parts, cpu_seconds=spent)

    def _run(self, first: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        sums, squares, balance = np.zeros(self._size), np.zeros(self._size), np.zeros(scores.BALANCE)
        # Without compilation NumPy would warn that 64-bit hashes overflow, as they should.
        with np.errstate(over="ignore"):
            run_tube(
                self.seed, first, stop, self._anode, self._aim, self._electrons, self._physics, self._filters,
                self._way, sums, squares, balance,
            )  # fmt: skip
        with self._lock:
            worst = max(self.balance[scores.WORST], balance[scores.WORST])
            self.balance += balance
            self.balance[scores.WORST] = worst
        return sums, squares


def _optical_depth(p: physics.Physics, tube: XrayTube, sheets: list[Material]) -> NDArray[np.float64]:
    """Of all filters along the axis, on the photon tables' energies, shape (n,)."""
    total = np.zeros(p.energies.size)
    for i, (sheet, made_of) in enumerate(zip(tube.filters, sheets, strict=True)):
        section = p.sections[:, 1 + i, physics.TOTAL].astype(np.float64)
        total += section * made_of.density_g_cm3 * 0.1 * sheet.thickness_mm
    return total


def _anode(tube: XrayTube) -> Anode:
    target, angle = TARGETS[tube.target], math.radians(tube.anode_angle_deg)
    direction, spot, half_y, half_z = (-1.0, 0.0, 0.0), scores.GAUSSIAN, 0.0, 0.0
    if isinstance(tube.beam, ParallelRectangularBeam):
        direction, spot = tube.beam.direction, 0
        half_y, half_z = tube.beam.half_y_mm, tube.beam.half_z_mm
    else:
        half_y, half_z = tube.beam.sigma_y_mm, tube.beam.sigma_z_mm
    length = math.hypot(*direction)
    u, v = direction[0] / length, direction[1] / length
    return Anode(
        thickness=0.1 * tube.thickness_mm, density=target.density_g_cm3,
        electrons_per_gram=target.z * constants.AVOGADRO / elements.atomic_weight(target.z),
        sine=math.sin(angle), cosine=math.cos(angle),
        along=-u * math.sin(angle), across=v, inward=-u * math.cos(angle),
        spot=spot, half_y=0.1 * half_y, half_z=0.1 * half_z,
        k_lines=_BETWEEN_L_AND_K * elements.edge_energy(target.z, "L1"),
        energy=tube.kvp, ripple=tube.ripple,
    )  # fmt: skip


def _aim(tube: XrayTube, view: View) -> Aim:
    half = 0.5 * view.field_cm
    wide = max(half, scores.HEEL_CM) if view.with_heel else half
    high = max(half, scores.HEEL_HALF_WIDTH_CM) if view.with_heel else half
    return Aim(
        distance=view.distance_cm, x_low=-wide, x_high=wide, y_half=high, field_half=half,
        bins=math.ceil(tube.kvp * scores.BINS_PER_KEV),
    )  # fmt: skip


def _scored(aim: Aim, view: View, batch: int, expected: bool) -> tuple[Scored, ...]:
    area = view.field_cm**2
    strip = 2.0 * scores.HEEL_CM / scores.HEEL_BINS * 2.0 * scores.HEEL_HALF_WIDTH_CM
    energy = Axis(name="energy", unit="keV", edges=np.arange(aim.bins + 1) / scores.BINS_PER_KEV)
    heel = Axis(name="x", unit="cm", edges=np.linspace(-scores.HEEL_CM, scores.HEEL_CM, scores.HEEL_BINS + 1))
    field = Axis(name="total", labels=scores.TOTALS[:FIELD_TOTALS])
    others = Axis(name="total", labels=scores.TOTALS[FIELD_TOTALS:])
    per = np.full(FIELD_TOTALS, 1.0 / area)
    per[scores.CENTRE] = 1.0 / (2.0 * scores.CENTRE_CM) ** 2
    # Small fields see small numbers, and a loose bound would cost σ its digits.
    share = 2.0 * (aim.x_high - aim.x_low) * aim.y_half / (4.0 * math.pi * aim.distance**2)
    photons = min(_LARGEST_SCORE, _LARGEST_SHARE * share) if expected else _LARGEST_SCORE
    fluence, mixed = ("fluence", "1/cm2"), ("mixed", "1")
    rows: tuple[tuple[str, Axis, NDArray[np.float64] | float, tuple[str, str], float], ...] = (
        ("field", field, per, fluence, MAX_KVP * photons),
        ("totals", others, 1.0, mixed, _LARGEST_SCORE),
        ("spectrum", energy, 1.0 / area, fluence, photons),
        ("heel", heel, 1.0 / strip, fluence, photons),
    )
    found = []
    for name, axis, factor, (quantity, unit), largest in rows:
        for suffix, power in (("", 1), (SQUARES, 2)):
            scale = np.asarray(factor, dtype=np.float64) ** power
            bound = max(1, batch) * largest**power
            found.append(
                Scored(
                    name=name + suffix, axes=(axis,), quantity=quantity, unit=unit, per=PER, factor=scale,
                    magnitude=bound,
                )
            )  # fmt: skip
    return tuple(found)
