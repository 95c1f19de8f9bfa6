"""History loop for a geometry of cells: solids and voxel lattices, turned or not.

Coordinates are float64 in the world's frame.  A flight runs from cell to cell (see
:mod:`conebeam.geometry.walk` for why it never stalls) and, in a lattice, from voxel
face to voxel face; what it met is handed to the scoring grids as one profile.
"""

# float32 and float64 meet on purpose in kernels; Numba checks their types, not mypy.
# mypy: disable-error-code="arg-type, assignment"

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import inlined, kernel
from conebeam.geometry.borrow import borrowed
from conebeam.geometry.table import LATTICE, Table
from conebeam.geometry.walk import FAR, NUDGE, OUTSIDE, distance, locate, to_local, voxel, voxel_number
from conebeam.histories.balance import COLLISIONS, DEPOSITED, EMITTED, ESCAPED, WORST
from conebeam.scoring.grids import Grids, score_point, score_profile
from conebeam.scoring.planes import Planes, score_planes
from conebeam.sources.emission import Emission, borrowed_emission, emit
from conebeam.transport.borrow import borrowed_grids, borrowed_physics, borrowed_planes
from conebeam.transport.collision import BANK_SIZE, collide, energy_place
from conebeam.transport.physics import PHOTO, PHOTO_COMPTON, TOTAL, TRANSFER, Physics
from conebeam.transport.rng import stream, uniform

PROFILE_SIZE = 4096
ESCAPES, COLLIDES, FULL = 0, 1, 2
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@inlined
def _stretch(
    sections: NDArray[np.float32],
    index: int,
    fraction: np.float32,
    material: int,
    density: float,
    end: float,
    count: np.int64,
    ends: NDArray[np.float32],
    rates: NDArray[np.float32],
) -> np.int64:
    """Append a stretch of one medium that ends after ``end`` cm, or lengthen the last one."""
    rate = _ZERO
    if material >= 0:
        here, there = sections[index, material, TRANSFER], sections[index + 1, material, TRANSFER]
        rate = np.float32(density * (here + fraction * (there - here)))
    if count == 0 or rates[count - 1] != rate:
        count += 1
        rates[count - 1] = rate
    ends[count - 1] = np.float32(end)
    return count


@inlined
def _attenuation(
    sections: NDArray[np.float32], index: int, fraction: np.float32, material: int, density: float
) -> float:
    if material < 0:
        return 0.0
    here, there = sections[index, material, TOTAL], sections[index + 1, material, TOTAL]
    return float(density * (here + fraction * (there - here)))


@kernel
def cross_lattice(
    table: Table,
    sections: NDArray[np.float32],
    index: int,
    fraction: np.float32,
    cell: int,
    depth: float,
    start: float,
    limit: float,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
    count: np.int64,
    ends: NDArray[np.float32],
    rates: NDArray[np.float32],
) -> tuple[int, float, float, int, float, np.int64]:
    """Walk ``limit`` cm from a point in a lattice cell, ``start`` cm into the flight.

    Returns
    -------
    state, optical depth left, path length walked, material, density, stretches
    """
    lattice = table.cell_lattice[cell]
    shape, first = table.lattice_shape[lattice], table.edge_first[lattice]
    px, py, pz, du, dv, dw = to_local(table, cell, x, y, z, u, v, w)
    ix, iy, iz = voxel(table, cell, x, y, z)
    ox, oy, oz = 1 if du >= 0.0 else 0, 1 if dv >= 0.0 else 0, 1 if dw >= 0.0 else 0
    fx, fy, fz = first[0] + ox, first[1] + oy, first[2] + oz
    edges = table.edges
    tx = (edges[fx + ix] - px) / du if du != 0.0 else FAR
    ty = (edges[fy + iy] - py) / dv if dv != 0.0 else FAR
    tz = (edges[fz + iz] - pz) / dw if dw != 0.0 else FAR
    t = 0.0
    while True:
        number = voxel_number(table, cell, ix, iy, iz)
        material, density = int(table.voxel_material[number]), float(table.voxel_density[number])
        face = min(limit, max(t, min(tx, ty, tz)))
        attenuation = _attenuation(sections, index, fraction, material, density)
        used = attenuation * (face - t)
        if used >= depth and used > 0.0:
            t += depth / attenuation
            count = _stretch(sections, index, fraction, material, density, start + t, count, ends, rates)
            return COLLIDES, 0.0, t, material, density, count
        depth -= used
        t = face
        count = _stretch(sections, index, fraction, material, density, start + t, count, ends, rates)
        if t >= limit:
            return ESCAPES, depth, limit, material, density, count
        if count >= ends.size - 1:
            return FULL, depth, t, material, density, count
        if tz <= tx and tz <= ty:
            iz += 1 if oz == 1 else -1
            if iz < 0 or iz >= shape[2]:
                return ESCAPES, depth, limit, material, density, count
            tz = (edges[fz + iz] - pz) / dw
        elif tx <= ty:
            ix += 1 if ox == 1 else -1
            if ix < 0 or ix >= shape[0]:
                return ESCAPES, depth, limit, material, density, count
            tx = (edges[fx + ix] - px) / du
        else:
            iy += 1 if oy == 1 else -1
            if iy < 0 or iy >= shape[1]:
                return ESCAPES, depth, limit, material, density, count
            ty = (edges[fy + iy] - py) / dv


@kernel
def fly(
    table: Table,
    sections: NDArray[np.float32],
    index: int,
    fraction: np.float32,
    depth: float,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
    ends: NDArray[np.float32],
    rates: NDArray[np.float32],
) -> tuple[int, float, float, int, np.int64]:
    """Run through cells until an optical depth is used up.

    Returns
    -------
    state : int
        ESCAPES for good, COLLIDES, or FULL: the profile has no more room; score it
        and go on from the end of the path.
    depth : float
        Optical depth left.
    path : float
        cm; up to the last cell left where the photon escapes.
    material : int
        Where it collides.
    stretches : int
    """
    path, count = 0.0, np.int64(0)
    while True:
        cell = locate(table, x, y, z)
        step, _ = distance(table, cell, x, y, z, u, v, w)
        if step == FAR:
            return ESCAPES, depth, path, -1, count
        step += NUDGE
        if cell != OUTSIDE and table.cell_kind[cell] == LATTICE:
            state, depth, walked, material, _, count = cross_lattice(
                table, sections, index, fraction, cell, depth, path, step, x, y, z, u, v, w,
                count, ends, rates,
            )  # fmt: skip
            path += walked
            if state != ESCAPES:
                return state, depth, path, material, count
        else:
            material = -1 if cell == OUTSIDE else int(table.cell_material[cell])
            density = 0.0 if cell == OUTSIDE else float(table.cell_density[cell])
            attenuation = _attenuation(sections, index, fraction, material, density)
            used = attenuation * step
            if used >= depth and used > 0.0:
                path += depth / attenuation
                count = _stretch(sections, index, fraction, material, density, path, count, ends, rates)
                return COLLIDES, 0.0, path, material, count
            depth -= used
            path += step
            count = _stretch(sections, index, fraction, material, density, path, count, ends, rates)
        if count >= ends.size - 1:
            return FULL, depth, path, -1, count
        x += step * u
        y += step * v
        z += step * w


@kernel
def run_cells(
    seed: int,
    first: int,
    stop: int,
    emission_: Emission,
    physics_: Physics,
    cut: np.float32,
    table_: Table,
    zero: NDArray[np.float64],
    grids_: Grids,
    planes_: Planes,
    grid_sums: NDArray[np.float64],
    plane_sums: NDArray[np.float64],
    balance: NDArray[np.float64],
) -> None:
    """Run histories first … stop − 1; add to the sums (keV, cm⁻²) and the balance.

    ``zero`` is the grids' origin in the world; all else is in the world's frame.
    """
    physics, grids, planes = borrowed_physics(physics_), borrowed_grids(grids_), borrowed_planes(planes_)
    emission = borrowed_emission(emission_)
    table = borrowed(table_)
    bank, marks = np.empty((BANK_SIZE, 8)), np.empty((BANK_SIZE, 3), dtype=np.int64)
    ends, rates = np.empty(PROFILE_SIZE, dtype=np.float32), np.empty(PROFILE_SIZE, dtype=np.float32)
    for history in range(first, stop):
        counter, step = stream(seed, history)
        counter, x, y, z, u0, v0, w0, energy = emit(emission, counter, step)
        u, v, w = np.float32(u0), np.float32(v0), np.float32(w0)
        emitted, deposited, escaped = float(energy), 0.0, 0.0
        weight, latch, banked = _ONE, 0, 0
        while True:
            while energy > _ZERO:
                index, fraction = energy_place(physics.energies, physics.first, energy)
                counter, value = uniform(counter, step)
                depth, state, material = -math.log(np.float64(value)), FULL, -1
                while state == FULL:
                    state, depth, path, material, stretches = fly(
                        table, physics.sections, index, fraction, depth, x, y, z, u, v, w, ends, rates
                    )
                    gx, gy, gz = np.float32(x - zero[0]), np.float32(y - zero[1]), np.float32(z - zero[2])
                    for g in range(grids.deposit.size):
                        if grids.deposit[g] == 0 and stretches > 0:
                            score_profile(
                                grids, g, gx, gy, gz, u, v, w, energy * weight, ends, rates, stretches,
                                grid_sums,
                            )  # fmt: skip
                    if planes.area.size > 0:
                        length = math.inf if state == ESCAPES else path
                        score_planes(
                            planes, x, y, z, u, v, w, length, energy, weight, index, fraction, plane_sums
                        )
                    x += path * u
                    y += path * v
                    z += path * w
                if state == ESCAPES:
                    escaped += float(energy) * float(weight)
                    break
                balance[COLLISIONS] += 1.0
                here, there = physics.sections[index, material], physics.sections[index + 1, material]
                total = here[TOTAL] + fraction * (there[TOTAL] - here[TOTAL])
                photo = here[PHOTO] + fraction * (there[PHOTO] - here[PHOTO])
                scattering = here[PHOTO_COMPTON]
                scattering += fraction * (there[PHOTO_COMPTON] - scattering)
                before = energy
                counter, energy, u, v, w, fluorescence, latch, banked = collide(
                    physics, cut, material, index, fraction, total, photo, scattering, x, y, z, u, v, w,
                    energy, weight, history, latch, bank, marks, banked, counter, step,
                )  # fmt: skip
                local = (float(before) - float(energy) - fluorescence) * float(weight)
                deposited += local
                for g in range(grids.deposit.size):
                    if grids.deposit[g] == 1:
                        gx, gy, gz = np.float32(x - zero[0]), np.float32(y - zero[1]), np.float32(z - zero[2])
                        score_point(grids, g, gx, gy, gz, local, grid_sums)
            if banked == 0:
                break
            banked -= 1
            x, y, z = bank[banked, 0], bank[banked, 1], bank[banked, 2]
            u, v, w = np.float32(bank[banked, 3]), np.float32(bank[banked, 4]), np.float32(bank[banked, 5])
            energy, weight = np.float32(bank[banked, 6]), np.float32(bank[banked, 7])
            latch = marks[banked, 2]
        balance[EMITTED] += emitted
        balance[DEPOSITED] += deposited
        balance[ESCAPED] += escaped
        balance[WORST] = max(balance[WORST], abs(emitted - deposited - escaped) / emitted)
