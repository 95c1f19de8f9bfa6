"""History loop for one voxel lattice square to the axes, in a vacuum: the CT path.

Coordinates are float32 with the lattice's centre at zero.  Inside, a photon steps from
voxel face to voxel face by index, so it cannot stall at one.  Where nothing asks for
track lengths, Woodcock's delta tracking takes the place of the walk: flights by the
largest attenuation anywhere, of which a share is no collision.

References
----------
E. R. Woodcock et al., "Techniques used in the GEM code for Monte Carlo neutronics
calculations in reactors and other systems of complex geometry", ANL-7050 (1965) 557.
"""

# float32 and float64 meet on purpose in kernels; Numba checks their types, not mypy.
# mypy: disable-error-code="arg-type, assignment"

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from conebeam.compilation import inlined, kernel
from conebeam.geometry.borrow import lent
from conebeam.geometry.lattice import Lattice
from conebeam.histories.balance import COLLISIONS, DEPOSITED, EMITTED, ESCAPED, WORST
from conebeam.histories.box import enter
from conebeam.scoring.grids import Grids, score_point, score_profile
from conebeam.scoring.planes import Planes, score_planes
from conebeam.sources.emission import Emission, borrowed_emission, emit
from conebeam.transport.borrow import borrowed_grids, borrowed_physics, borrowed_planes
from conebeam.transport.collision import BANK_SIZE, collide, energy_place
from conebeam.transport.physics import PHOTO, PHOTO_COMPTON, TOTAL, TRANSFER, Physics
from conebeam.transport.rng import stream, uniform

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_TINY, _HUGE = np.float32(1e-18), np.float32(1e18)


class Voxels(NamedTuple):
    """A lattice about its own centre; voxel (ix, iy, iz) is number (ix·ny + iy)·nz + iz."""

    x: NDArray[np.float32]  # (nx + 1,), cm
    y: NDArray[np.float32]
    z: NDArray[np.float32]
    pitch: NDArray[np.float32]  # (3,), voxels per cm, 0 where the axis is not regular
    material: NDArray[np.uint8]  # flat
    density: NDArray[np.float32]  # flat, g/cm3
    largest: NDArray[np.float32]  # (n,), largest attenuation from one grid energy to the next, 1/cm


def build_voxels(lattice: Lattice, physics: Physics, origin: tuple[float, float, float]) -> Voxels:
    """Flatten a lattice whose materials are those of the tables; ``origin`` becomes zero."""
    x, y, z = (
        (edges + shift - zero).astype(np.float32)
        for edges, shift, zero in zip(lattice.edges_cm, lattice.translation_cm, origin, strict=True)
    )
    material, density = lattice.material.reshape(-1), lattice.density_g_cm3.reshape(-1)
    densest = np.zeros(len(lattice.materials), dtype=np.float32)
    for number in range(len(densest)):
        densest[number] = density.max(initial=0.0, where=material == number)
    at = (physics.sections[:, : len(densest), TOTAL] * densest).max(axis=1)
    return Voxels(
        x, y, z, lattice.inverse_pitch().astype(np.float32), material, density,
        np.append(np.maximum(at[:-1], at[1:]), at[-1]),
    )  # fmt: skip


@kernel
def _lent(v: Voxels) -> Voxels:
    return Voxels(
        lent(v.x), lent(v.y), lent(v.z), lent(v.pitch), lent(v.material), lent(v.density), lent(v.largest)
    )


def _voxels(voxels: Voxels) -> Voxels:
    return voxels


# See conebeam.geometry.borrow.
borrowed_voxels = _voxels if getattr(config, "DISABLE_JIT", 0) else _lent


@inlined
def index_of(edges: NDArray[np.float32], pitch: np.float32, p: np.float32) -> int:
    """Bin of a coordinate, clamped; at a face of a regular axis either neighbour."""
    count = edges.size - 1
    if pitch > _ZERO:
        return min(max(int((p - edges[0]) * pitch), 0), count - 1)
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) >> 1
        if edges[middle] <= p:
            low = middle
        else:
            high = middle
    return low


@kernel
def fly(
    voxels: Voxels,
    sections: NDArray[np.float32],
    index: int,
    fraction: np.float32,
    depth: np.float32,
    x: np.float32,
    y: np.float32,
    z: np.float32,
    u: np.float32,
    v: np.float32,
    w: np.float32,
    ix: int,
    iy: int,
    iz: int,
    ends: NDArray[np.float32],
    rates: NDArray[np.float32],
) -> tuple[bool, np.float32, int, int, int, int]:
    """Walk until an optical depth is used up or the lattice ends.

    Parameters
    ----------
    depth : float32
        Optical depth to go.
    ends, rates : arrays, nx + ny + nz or longer
        Filled with path lengths at which stretches of one medium end (cm) and their
        energy transfer coefficients (1/cm).

    Returns
    -------
    collides, path length, ix, iy, iz, stretches
    """
    nx, ny, nz = voxels.x.size - 1, voxels.y.size - 1, voxels.z.size - 1
    pu = _ONE / u if abs(u) > _TINY else _HUGE
    pv = _ONE / v if abs(v) > _TINY else _HUGE
    pw = _ONE / w if abs(w) > _TINY else _HUGE
    sx, ox = (1, 1) if u >= _ZERO else (-1, 0)
    sy, oy = (1, 1) if v >= _ZERO else (-1, 0)
    sz, oz = (1, 1) if w >= _ZERO else (-1, 0)
    tx, ty, tz = (voxels.x[ix + ox] - x) * pu, (voxels.y[iy + oy] - y) * pv, (voxels.z[iz + oz] - z) * pw
    t, count, last = _ZERO, 0, -1
    total, transfer, before = _ZERO, _ZERO, -_ONE
    while True:
        number = (ix * ny + iy) * nz + iz
        material, density = int(voxels.material[number]), voxels.density[number]
        if material != last:
            here, there = sections[index, material], sections[index + 1, material]
            total = here[TOTAL] + fraction * (there[TOTAL] - here[TOTAL])
            transfer = here[TRANSFER] + fraction * (there[TRANSFER] - here[TRANSFER])
        if material != last or density != before:
            count += 1
            rates[count - 1] = density * transfer
            last, before = material, density
        face = max(t, min(tx, ty, tz))
        used = total * density * (face - t)
        if used >= depth and used > _ZERO:
            t += depth / (total * density)
            ends[count - 1] = t
            return True, t, ix, iy, iz, count
        depth -= used
        t = face
        ends[count - 1] = t
        if tz <= tx and tz <= ty:
            iz += sz
            if iz < 0 or iz >= nz:
                return False, t, ix, iy, iz, count
            tz = (voxels.z[iz + oz] - z) * pw
        elif tx <= ty:
            ix += sx
            if ix < 0 or ix >= nx:
                return False, t, ix, iy, iz, count
            tx = (voxels.x[ix + ox] - x) * pu
        else:
            iy += sy
            if iy < 0 or iy >= ny:
                return False, t, ix, iy, iz, count
            ty = (voxels.y[iy + oy] - y) * pv


@kernel
def leap(
    voxels: Voxels,
    sections: NDArray[np.float32],
    index: int,
    fraction: np.float32,
    x: np.float32,
    y: np.float32,
    z: np.float32,
    u: np.float32,
    v: np.float32,
    w: np.float32,
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, bool, np.float32, int, int, int]:
    """Woodcock's flight: counter, collides, path length, ix, iy, iz."""
    largest = voxels.largest[index]
    t, ix, iy, iz = _ZERO, 0, 0, 0
    if largest <= _ZERO:
        return counter, False, t, ix, iy, iz
    while True:
        counter, value = uniform(counter, step)
        t -= math.log(value) / largest
        px, py, pz = x + t * u, y + t * v, z + t * w
        if px < voxels.x[0] or py < voxels.y[0] or pz < voxels.z[0]:
            return counter, False, t, ix, iy, iz
        if px > voxels.x[-1] or py > voxels.y[-1] or pz > voxels.z[-1]:
            return counter, False, t, ix, iy, iz
        ix = index_of(voxels.x, voxels.pitch[0], px)
        iy = index_of(voxels.y, voxels.pitch[1], py)
        iz = index_of(voxels.z, voxels.pitch[2], pz)
        number = (ix * (voxels.y.size - 1) + iy) * (voxels.z.size - 1) + iz
        here, there = sections[index, voxels.material[number]], sections[index + 1, voxels.material[number]]
        total = here[TOTAL] + fraction * (there[TOTAL] - here[TOTAL])
        counter, value = uniform(counter, step)
        if value * largest < total * voxels.density[number]:
            return counter, True, t, ix, iy, iz


@kernel
def run_lattice(
    seed: int,
    first: int,
    stop: int,
    emission_: Emission,
    physics_: Physics,
    cut: np.float32,
    voxels_: Voxels,
    half: NDArray[np.float64],
    woodcock: bool,
    grids_: Grids,
    planes_: Planes,
    grid_sums: NDArray[np.float64],
    plane_sums: NDArray[np.float64],
    balance: NDArray[np.float64],
) -> None:
    """Run histories first … stop − 1; add to the sums (keV, cm⁻²) and the balance."""
    physics, grids, planes = borrowed_physics(physics_), borrowed_grids(grids_), borrowed_planes(planes_)
    emission = borrowed_emission(emission_)
    voxels = borrowed_voxels(voxels_)
    bank, marks = np.empty((BANK_SIZE, 8)), np.empty((BANK_SIZE, 3), dtype=np.int64)
    longest = voxels.x.size + voxels.y.size + voxels.z.size
    ends, rates = np.empty(longest, dtype=np.float32), np.empty(longest, dtype=np.float32)
    for history in range(first, stop):
        counter, step = stream(seed, history)
        counter, x0, y0, z0, u0, v0, w0, energy = emit(emission, counter, step)
        emitted, deposited, escaped = float(energy), 0.0, 0.0
        weight, latch, banked = _ONE, 0, 0
        outside = enter(half, x0, y0, z0, u0, v0, w0)
        x, y, z = _ZERO, _ZERO, _ZERO
        u, v, w = np.float32(u0), np.float32(v0), np.float32(w0)
        if outside < 0.0:
            if planes.area.size > 0:
                index, fraction = energy_place(physics.energies, physics.first, energy)
                score_planes(
                    planes, x0, y0, z0, u0, v0, w0, math.inf, energy, weight, index, fraction, plane_sums
                )
            escaped, energy = float(energy), _ZERO
        else:
            x, y, z = (
                np.float32(x0 + outside * u0),
                np.float32(y0 + outside * v0),
                np.float32(z0 + outside * w0),
            )
        ix = index_of(voxels.x, voxels.pitch[0], x)
        iy = index_of(voxels.y, voxels.pitch[1], y)
        iz = index_of(voxels.z, voxels.pitch[2], z)
        while True:
            while energy > _ZERO:
                index, fraction = energy_place(physics.energies, physics.first, energy)
                stretches = 0
                if woodcock:
                    counter, collides, flight, ix, iy, iz = leap(
                        voxels, physics.sections, index, fraction, x, y, z, u, v, w, counter, step
                    )
                else:
                    counter, value = uniform(counter, step)
                    collides, flight, ix, iy, iz, stretches = fly(
                        voxels, physics.sections, index, fraction, np.float32(-math.log(value)),
                        x, y, z, u, v, w, ix, iy, iz, ends, rates,
                    )  # fmt: skip
                for g in range(grids.deposit.size):
                    if grids.deposit[g] == 0:
                        score_profile(
                            grids, g, x, y, z, u, v, w, energy * weight, ends, rates, stretches, grid_sums
                        )
                if planes.area.size > 0:
                    length = float(flight) if collides else math.inf
                    if (
                        outside >= 0.0
                    ):  # from the source on: rounded to where it enters, planes there might count twice
                        score_planes(
                            planes, x0, y0, z0, u0, v0, w0, outside + length,
                            energy, weight, index, fraction, plane_sums,
                        )  # fmt: skip
                        outside = -1.0
                    else:
                        score_planes(
                            planes, x, y, z, u, v, w, length, energy, weight, index, fraction, plane_sums
                        )
                if not collides:
                    escaped += float(energy) * float(weight)
                    break
                x += flight * u
                y += flight * v
                z += flight * w
                balance[COLLISIONS] += 1.0
                number = (ix * (voxels.y.size - 1) + iy) * (voxels.z.size - 1) + iz
                material = int(voxels.material[number])
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
                        score_point(grids, g, x, y, z, local, grid_sums)
            if banked == 0:
                break
            banked -= 1
            x, y, z = np.float32(bank[banked, 0]), np.float32(bank[banked, 1]), np.float32(bank[banked, 2])
            u, v, w = np.float32(bank[banked, 3]), np.float32(bank[banked, 4]), np.float32(bank[banked, 5])
            energy, weight = np.float32(bank[banked, 6]), np.float32(bank[banked, 7])
            latch = marks[banked, 2]
            ix = index_of(voxels.x, voxels.pitch[0], x)
            iy = index_of(voxels.y, voxels.pitch[1], y)
            iz = index_of(voxels.z, voxels.pitch[2], z)
        balance[EMITTED] += emitted
        balance[DEPOSITED] += deposited
        balance[ESCAPED] += escaped
        balance[WORST] = max(balance[WORST], abs(emitted - deposited - escaped) / emitted)
