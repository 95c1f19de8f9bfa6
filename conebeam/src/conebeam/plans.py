"""What the kernels add up, and how sums become named results.

A dose or energy scorer owns one grid of the kernel; what it yields (the grid, curves,
regions) are linear maps of that grid.  A planar scorer owns one window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conebeam.compare import read_curve
from conebeam.data.elements import MAX_ENERGY_KEV
from conebeam.errors import DataError
from conebeam.extracts import Edges, Extract
from conebeam.materials import material
from conebeam.result import Axis, Scored
from conebeam.scene import DoseScorer, EnergyScorer, FluenceScorer, KermaScorer, Scene
from conebeam.scoring.planes import GRAZING, Planes
from conebeam.transport.physics import TRANSFER, Physics, build_physics, interpolated
from conebeam.units import GRAY_PER_KEV_PER_GRAM

FLUENCE = "mean fluence over the field"
PHOTON = "photon emitted"
# A float64 factor of a full-resolution CT would take half a gigabyte for nothing.
_SINGLE_FROM = 1 << 22
_COVERED = 0.99  # tables that end at the middle of the last bin

Masses = Callable[[Edges], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, eq=False)
class GridPlan:
    """One grid of the kernel and what is taken from it.

    Parameters
    ----------
    edges : tuple of arrays
        World coordinates, cm.
    deposit : bool
        Score deposits; track length otherwise.
    whole : str
        Name under which the grid itself is kept; empty if it is not.
    maps : tuple of Extract
    part : slice
        The grid's place in the kernel's flat sums.
    scored : tuple of Scored
    """

    edges: Edges
    deposit: bool
    whole: str
    maps: tuple[Extract, ...]
    part: slice
    scored: tuple[Scored, ...]

    def take(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Named sums out of the flat sums of all grids."""
        grid = sums[self.part].reshape([len(e) - 1 for e in self.edges])
        found = {self.whole: grid} if self.whole else {}
        return {**found, **{m.name: m.take(grid) for m in self.maps}}


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanePlan:
    """One window of the kernel."""

    scorer: FluenceScorer | KermaScorer
    response: NDArray[np.float64]
    part: slice
    scored: tuple[Scored, ...]

    def take(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Named sums out of the flat sums of all windows."""
        return {self.scored[0].name: sums[self.part]}

    @staticmethod
    def together(plans: Sequence[PlanePlan], origin: tuple[float, float, float], physics: Physics) -> Planes:
        """Windows as arrays; ``origin`` (world) becomes the transport's zero."""
        frames = [plan.scorer.window() for plan in plans]
        fluences = [p.scorer if isinstance(p.scorer, FluenceScorer) else None for p in plans]
        bins = [plan.part.stop - plan.part.start for plan in plans]
        none = np.zeros((0, 3))
        return Planes(
            centre=np.array([f.centre - np.asarray(origin) for f in frames]).reshape(-1, 3),
            normal=np.array([f.direction for f in frames]).reshape(-1, 3),
            across=np.array([f.u / (f.u @ f.u) for f in frames]) if frames else none,
            along=np.array([f.v / (f.v @ f.v) for f in frames]) if frames else none,
            circle=np.array([f.shape for f in frames], dtype=np.uint8),
            area=np.array([f.area for f in frames], dtype=np.float64),
            low=np.array([0.0 if s is None else s.low_kev for s in fluences], dtype=np.float64),
            scale=np.array(
                [0.0 if s is None else s.count / (s.high_kev - s.low_kev) for s in fluences], dtype=np.float64
            ),
            bins=np.array(bins, dtype=np.int64),
            sum_first=np.cumsum([0, *bins]).astype(np.int64),
            response=np.array([plan.response for plan in plans]).reshape(len(plans), len(physics.energies)),
        )


def plan_grids(
    scene: Scene, area_cm2: float, batch: int, largest_kev: float, masses: Masses
) -> tuple[GridPlan, ...]:
    """Grids of a completed scene.

    Parameters
    ----------
    area_cm2 : float
        Of the source's field.
    batch : int
        Histories in the largest batch.
    largest_kev : float
        Highest energy a photon starts with.
    masses : callable
        Mass of a grid's voxels, g.
    """
    # A track length may score more than the photon's energy, a sum over a batch hardly.
    magnitude = largest_kev * (2.0 * batch + 500.0)
    plans: list[GridPlan] = []
    at = 0
    for scorer in scene.scorers:
        if not isinstance(scorer, DoseScorer | EnergyScorer):
            continue
        edges, maps = scorer.edges(), scorer.extracts()
        size = int(np.prod([len(e) - 1 for e in edges], dtype=np.int64))
        whole = scorer.name if isinstance(scorer, DoseScorer) and scorer.keep_grid else ""
        if isinstance(scorer, DoseScorer):
            scored = _dose(scorer, edges, maps, area_cm2, magnitude, masses(edges))
        else:
            scored = _energy(scorer, maps, area_cm2, magnitude)
        plans.append(
            GridPlan(
                edges=edges, deposit=scorer.estimator == "deposit", whole=whole, maps=maps,
                part=slice(at, at + size), scored=scored,
            )
        )  # fmt: skip
        at += size
    return tuple(plans)


def _dose(
    scorer: DoseScorer,
    edges: Edges,
    maps: Sequence[Extract],
    area_cm2: float,
    magnitude: float,
    mass: NDArray[np.float64],
) -> tuple[Scored, ...]:
    scale, unit, per = GRAY_PER_KEV_PER_GRAM, "Gy", PHOTON
    if scorer.per == "fluence":
        scale, unit, per = scale * area_cm2, "Gy cm2", FLUENCE

    def scored(name: str, axes: tuple[Axis, ...], grams: NDArray[np.float64]) -> Scored:
        kind = np.float32 if grams.size > _SINGLE_FROM else np.float64
        factor = np.divide(
            scale, grams, out=np.zeros(grams.shape, dtype=kind), where=grams > 0.0, casting="same_kind"
        )
        return Scored(
            name=name, axes=axes, quantity="dose", unit=unit, per=per, factor=factor, magnitude=magnitude
        )

    axes = tuple(Axis(name=n, unit="cm", edges=e) for n, e in zip("xyz", edges, strict=True))
    whole = (scored(scorer.name, axes, mass),) if scorer.keep_grid else ()
    return (*whole, *(scored(m.name, (m.axis,), m.take(mass)) for m in maps))


def _energy(
    scorer: EnergyScorer, maps: Sequence[Extract], area_cm2: float, magnitude: float
) -> tuple[Scored, ...]:
    factor, unit, per = 1.0, "keV", PHOTON
    if scorer.per == "fluence":
        factor, unit, per = area_cm2, "keV cm2", FLUENCE
    return tuple(
        Scored(
            name=m.name, axes=(m.axis,), quantity="energy", unit=unit, per=per, factor=factor,
            magnitude=magnitude,
        )
        for m in maps
    )  # fmt: skip


def plan_planes(
    scene: Scene, area_cm2: float, batch: int, physics: Physics, largest_kev: float
) -> tuple[PlanePlan, ...]:
    """Windows of a scene, with what each photon counts there; none has more than ``largest_kev``.

    Raises
    ------
    DataError
        If a file of energy-absorption coefficients cannot be used.
    """
    plans: list[PlanePlan] = []
    at = 0
    for scorer in scene.scorers:
        if not isinstance(scorer, FluenceScorer | KermaScorer):
            continue
        response = np.zeros(len(physics.energies))
        factor, quantity, unit, per = 1.0, "fluence", "cm-2", PHOTON
        axis = Axis(name="plane", labels=(scorer.name,))
        if isinstance(scorer, KermaScorer):
            response = _kerma_response(scene, scorer, physics.energies.astype(np.float64), largest_kev)
            factor, quantity, unit = GRAY_PER_KEV_PER_GRAM, "air kerma", "Gy"
        else:
            axis = Axis(name="energy", unit="keV", edges=scorer.edges_kev())
        if scorer.per == "fluence":
            factor, per = factor * area_cm2, FLUENCE
            unit = "1" if isinstance(scorer, FluenceScorer) else "Gy cm2"
        largest = max(1.0, float(response.max())) / (scorer.plane.area() * 0.5 * GRAZING)
        scored = Scored(
            name=scorer.name, axes=(axis,), quantity=quantity, unit=unit, per=per, factor=factor,
            magnitude=largest * (batch + 100.0),
        )  # fmt: skip
        plans.append(
            PlanePlan(scorer=scorer, response=response, part=slice(at, at + len(axis)), scored=(scored,))
        )
        at += len(axis)
    return tuple(plans)


def _kerma_response(
    scene: Scene, scorer: KermaScorer, energies: NDArray[np.float64], largest_kev: float
) -> NDArray[np.float64]:
    """E·μen/ρ of air at each energy, keV cm²/g."""
    if scorer.muen_csv is None:
        return air_kerma_response(energies)
    table = read_curve(scene.resolve(scorer.muen_csv), steps=True)
    known = (table.position > 0.0) & (table.value > 0.0)
    if known.sum() < 2:
        raise DataError(
            f"'{scorer.muen_csv}' must hold at least two energies (keV) with a positive coefficient (cm2/g)"
        )
    last = float(table.position[known][-1])
    if last < _COVERED * largest_kev:
        raise DataError(
            f"'{scorer.muen_csv}' must hold coefficients up to the {largest_kev:g} keV of the source, not up to "
            f"{last:g}; energies are in keV, those of NIST's tables in MeV"
        )
    e, muen = np.log(table.position[known]), np.log(table.value[known])
    response = energies * np.exp(np.interp(np.log(energies), e, muen))
    # Below the first tabulated energy nothing is known, and nothing is scored.
    return np.where(energies < table.position[known][0], 0.0, response)


def air_kerma_response(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """E·μtr/ρ of dry air at energies in keV, from the package's own tables, keV cm²/g.

    Below 150 keV electrons in air lose less than 0.1 % to bremsstrahlung: μen = μtr.
    """
    air = build_physics([material("air")])
    at = np.minimum(energies, MAX_ENERGY_KEV)
    return energies * interpolated(air, 0, TRANSFER, at)
