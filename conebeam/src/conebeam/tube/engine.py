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
from conebeam.data.electrons.grids import RATE_ENERGIES
from conebeam.data.electrons.targets import Target
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
        ``field``, ``totals``, ``spectrum``; where the view asks for them ``heel``, ``column totals`` and
        ``columns`` (their spectra), ``spot`` and ``leaving``; and the sums over histories of their squares.
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
        layers = tube.layers
        own = [
            Material(name=f"layer {i + 1}", density_g_cm3=layer.density_g_cm3, fractions=layer.shares)
            for i, layer in enumerate(layers)
        ]
        self._physics = physics.build_physics([*own, *sheets], cut_kev=tube.cut_kev)
        built = []
        for i, layer in enumerate(layers):
            share = _share_of(progress, i, len(layers))
            vacancy = _vacancies(self._physics, i, layer, tube.cut_kev)
            built.append(
                electron_tables.build_electrons(
                    layer, tube.elastic, cut_kev=tube.cut_kev, vacancy=vacancy, progress=share
                )
            )
        self._electrons = tuple(built)
        self._filters = _optical_depth(self._physics, tube, len(layers), sheets)
        self._anode, self._aim = _anode(tube), _aim(tube, self.view)
        emission = emission or Expected()
        self._way = way(emission, transport or Transport(), tube.cut_kev)
        # As asked for: last digits of what follows from tables may differ between processors.
        self._asked = emission.points if isinstance(emission, Expected) else None
        self._points = None if self._asked is None else self._asked / _photons(self._electrons[0], tube)
        self.scored = _scored(self._aim, self.view, batch, self._way.expected)
        self.balance, self._lock = np.zeros(scores.BALANCE), threading.Lock()
        self._size = self._aim.first_leaving + self._aim.angles * self._aim.bins
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
            "way": repr((*self._way, self._asked)),
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
            parts["totals" + name], rest = (values[FIELD_TOTALS : scores.SPECTRUM], values[scores.SPECTRUM :])
            parts["spectrum" + name], rest = (rest[: self._aim.bins], rest[self._aim.bins :])
            heel, rest = rest[: scores.HEEL_BINS], rest[scores.HEEL_BINS :]
            if self.view.with_heel:
                parts["heel" + name] = heel
            if self._aim.columns:
                parts["column totals" + name], rest = (rest[: self._aim.columns], rest[self._aim.columns :])
                end = self._aim.columns * self._aim.bins
                parts["columns" + name] = rest[:end].reshape(self._aim.columns, self._aim.bins)
            if self._aim.pixels:
                spot = values[self._aim.first_pixel : self._aim.first_leaving]
                parts["spot" + name] = spot.reshape(self._aim.pixels, self._aim.pixels)
            if self._aim.angles:
                leaving = values[self._aim.first_leaving :]
                parts["leaving" + name] = leaving.reshape(self._aim.angles, self._aim.bins)
        return BatchSums(batch=batch, histories=stop - first, sums=parts, cpu_seconds=spent)

    def photons(self, first: int, stop: int, weight: float, room: int = 100_000) -> NDArray[np.float64]:
        """Photons that reach the field from histories first … stop − 1, each standing for ``weight``.

        Parameters
        ----------
        room : int
            For how many to make room first; with more the histories are run again.

        Returns
        -------
        array, shape (n, 7)
            Energy (keV), place x, y on the field's plane (cm), direction, number of the electron.
        """
        while True:
            kept = np.zeros(scores.COMB + room * scores.PHOTON)
            self._run(first, stop, self._aim._replace(weight=weight, room=room), kept)
            found = int(kept[scores.FOUND])
            if found <= room:
                return kept[scores.COMB :].reshape(room, scores.PHOTON)[:found]
            room = found

    def _run(
        self, first: int, stop: int, aim: Aim | None = None, kept: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        sums, squares, balance = (np.zeros(self._size), np.zeros(self._size), np.zeros(scores.BALANCE))
        # Without compilation NumPy would warn that 64-bit hashes overflow, as they should.
        with np.errstate(over="ignore"):
            run_tube(
                self.seed, first, stop, self._anode, aim or self._aim, self._electrons, self._physics, self._filters,
                self._way, sums, squares, balance, np.zeros(0) if kept is None else kept, self._points,
            )  # fmt: skip
        with self._lock:
            worst = max(self.balance[scores.WORST], balance[scores.WORST])
            self.balance += balance
            self.balance[scores.WORST] = worst
        return sums, squares


def _share_of(progress: Callable[[float], None] | None, i: int, n: int) -> Callable[[float], None] | None:
    """Progress of part i of n."""
    if progress is None:
        return None
    tell = progress
    return lambda share: tell((i + share) / n)


def _optical_depth(
    p: physics.Physics, tube: XrayTube, layers: int, sheets: list[Material]
) -> NDArray[np.float64]:
    """Of all filters along the axis, on the photon tables' energies, shape (n,)."""
    total = np.zeros(p.energies.size)
    for i, (sheet, made_of) in enumerate(zip(tube.filters, sheets, strict=True)):
        section = p.sections[:, layers + i, physics.TOTAL].astype(np.float64)
        total += section * made_of.density_g_cm3 * 0.1 * sheet.thickness_mm
    return total


def _photons(e: electron_tables.Electrons, tube: XrayTube) -> float:
    """Bremsstrahlung above the cut from an electron that stops in the layer, about: Møller collisions left out."""
    passed = (tube.cut_kev <= RATE_ENERGIES) & (tube.kvp >= RATE_ENERGIES)
    per_kev = e.rates[passed, electron_tables.PHOTONS] / e.rates[passed, electron_tables.STOPPING]
    return float(np.trapezoid(per_kev, RATE_ENERGIES[passed]))


def _vacancies(p: physics.Physics, material: int, target: Target, cut: float) -> NDArray[np.int64]:
    """Of K, L1, L2, L3 of each element in the photon tables, −1 where none is followed."""
    found = np.full((len(target.elements), len(elements.SHELLS)), -1, dtype=np.int64)
    channel = int(p.channel_first[material])
    for i, element in enumerate(target.elements):
        for j, shell in enumerate(elements.SHELLS):
            if elements.edge_energy(element.z, shell) > cut and elements.transitions(element.z, shell):
                found[i, j] = p.channel_vacancy[channel]
                channel += 1
    return found.ravel()


def _anode(tube: XrayTube) -> Anode:
    layers, angle = tube.layers, math.radians(tube.anode_angle_deg)
    two = (layers[0], layers[-1])
    direction, spot, depth = (-1.0, 0.0, 0.0), scores.GAUSSIAN, 0.0
    if isinstance(tube.beam, ParallelRectangularBeam):
        direction, spot, depth = tube.beam.direction, 0, 1e-4 * tube.beam.depth_um
        half_y, half_z = tube.beam.half_y_mm, tube.beam.half_z_mm
    else:
        half_y, half_z = tube.beam.sigma_y_mm, tube.beam.sigma_z_mm
    length = math.hypot(*direction)
    u, v = direction[0] / length, direction[1] / length
    return Anode(
        thickness=0.1 * (tube.thickness_mm + tube.base_mm),
        interface=0.1 * tube.thickness_mm if tube.base else math.inf,
        density=_pair(two, lambda layer: layer.density_g_cm3),
        electrons_per_gram=_pair(two, _electrons_per_gram),
        sine=math.sin(angle), cosine=math.cos(angle),
        along=-u * math.sin(angle), across=v, inward=-u * math.cos(angle),
        spot=spot, half_y=0.1 * half_y, half_z=0.1 * half_z, depth=depth,
        k_lines=_pair(two, _below_k_lines),
        energy=tube.kvp, ripple=tube.ripple,
    )  # fmt: skip


def _pair(two: tuple[Target, Target], of: Callable[[Target], float]) -> tuple[float, float]:
    return of(two[0]), of(two[1])


def _below_k_lines(target: Target) -> float:
    return _BETWEEN_L_AND_K * max(elements.edge_energy(e.z, "L1") for e in target.elements)


def _electrons_per_gram(target: Target) -> float:
    pairs = zip(target.shares.values(), target.elements, strict=True)
    return sum(share * (e.z * constants.AVOGADRO / elements.atomic_weight(e.z)) for share, e in pairs)


def _aim(tube: XrayTube, view: View) -> Aim:
    half = 0.5 * view.field_cm
    wide = max(half, scores.HEEL_CM) if view.with_heel else half
    high = max(half, scores.HEEL_HALF_WIDTH_CM) if view.with_heel else half
    bins = math.ceil(tube.kvp * scores.BINS_PER_KEV)
    first_pixel = scores.SPECTRUM + bins + scores.HEEL_BINS + view.columns * (1 + bins)
    first_leaving = first_pixel + view.spot_pixels**2
    return Aim(
        distance=view.distance_cm, x_low=-wide, x_high=wide, y_half=high, field_half=half,
        bins=bins, columns=view.columns, pixels=view.spot_pixels, spot_half=0.1 * view.spot_half_mm,
        first_pixel=first_pixel, angles=view.angles, first_leaving=first_leaving,
        weight=0.0, kept=first_leaving + view.angles * bins, room=0,
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
    rows: list[tuple[str, tuple[Axis, ...], NDArray[np.float64] | float, tuple[str, str], float]] = [
        ("field", (field,), per, fluence, MAX_KVP * photons),
        ("totals", (others,), 1.0, mixed, _LARGEST_SCORE),
        ("spectrum", (energy,), 1.0 / area, fluence, photons),
    ]
    if view.with_heel:
        rows.append(("heel", (heel,), 1.0 / strip, fluence, photons))
    if view.columns:
        edges = np.linspace(-0.5 * view.field_cm, 0.5 * view.field_cm, view.columns + 1)
        column = Axis(name="x", unit="cm", edges=edges)
        rows.append(("column totals", (column,), view.columns / area, fluence, photons))
        rows.append(("columns", (column, energy), view.columns / area, fluence, photons))
    if view.spot_pixels:
        at = np.linspace(-view.spot_half_mm, view.spot_half_mm, view.spot_pixels + 1)
        sides = tuple(Axis(name=name, unit="mm", edges=at) for name in ("x", "y"))
        rows.append(("spot", sides, 1.0 / area, fluence, photons))
    if view.angles:
        angle = Axis(name="angle", unit="deg", edges=np.linspace(0.0, 180.0, view.angles + 1))
        rows.append(("leaving", (angle, energy), 1.0, mixed, _LARGEST_SCORE))
    found = []
    for name, axes, factor, (quantity, unit), largest in rows:
        for suffix, power in (("", 1), (SQUARES, 2)):
            scale = np.asarray(factor, dtype=np.float64) ** power
            bound = max(1, batch) * largest**power
            found.append(
                Scored(
                    name=name + suffix, axes=axes, quantity=quantity, unit=unit, per=PER, factor=scale,
                    magnitude=bound,
                )
            )  # fmt: skip
    return tuple(found)
