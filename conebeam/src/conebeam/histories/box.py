"""History loop for one homogeneous box in a vacuum: the fast path.

Coordinates are float32 with the box's centre at zero; energies are accounted in
float64, so that deposits, escapes and emission balance in every history.
"""

# float32 and float64 meet on purpose in kernels; Numba checks their types, not mypy.
# mypy: disable-error-code="arg-type, assignment"

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import kernel
from conebeam.histories.balance import COLLISIONS, DEPOSITED, EMITTED, ESCAPED, WORST
from conebeam.scoring.grids import Grids, score_line, score_point
from conebeam.scoring.planes import Planes, score_planes
from conebeam.sources.emission import Emission, borrowed_emission, emit
from conebeam.transport.borrow import borrowed_grids, borrowed_physics, borrowed_planes
from conebeam.transport.collision import BANK_SIZE, collide, energy_place
from conebeam.transport.physics import PHOTO, PHOTO_COMPTON, TOTAL, TRANSFER, Physics
from conebeam.transport.rng import stream, uniform

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_TINY, _HUGE = np.float32(1e-18), np.float32(1e18)


@kernel
def enter(half: NDArray[np.float64], x: float, y: float, z: float, u: float, v: float, w: float) -> float:
    """Distance to the box |x|, |y|, |z| ≤ half; 0 from inside, −1 if it is missed."""
    near, far = 0.0, math.inf
    for axis in range(3):
        p = x if axis == 0 else (y if axis == 1 else z)
        d = u if axis == 0 else (v if axis == 1 else w)
        if d == 0.0:
            if abs(p) > half[axis]:
                return -1.0
            continue
        a, b = (-half[axis] - p) / d, (half[axis] - p) / d
        near, far = max(near, min(a, b)), min(far, max(a, b))
    return near if near < far else -1.0


@kernel
def leave(
    half: NDArray[np.float32],
    x: np.float32,
    y: np.float32,
    z: np.float32,
    u: np.float32,
    v: np.float32,
    w: np.float32,
) -> np.float32:
    """Distance from inside the box to its surface."""
    tx = ((half[0] if u > _ZERO else -half[0]) - x) / u if abs(u) > _TINY else _HUGE
    ty = ((half[1] if v > _ZERO else -half[1]) - y) / v if abs(v) > _TINY else _HUGE
    tz = ((half[2] if w > _ZERO else -half[2]) - z) / w if abs(w) > _TINY else _HUGE
    return max(_ZERO, min(tx, ty, tz))


@kernel
def run_box(
    seed: int,
    first: int,
    stop: int,
    emission_: Emission,
    physics_: Physics,
    cut: np.float32,
    half: NDArray[np.float64],
    density: float,
    grids_: Grids,
    planes_: Planes,
    grid_sums: NDArray[np.float64],
    plane_sums: NDArray[np.float64],
    balance: NDArray[np.float64],
) -> None:
    """Run histories first … stop − 1; add to the sums (keV, cm⁻²) and the balance."""
    emission = borrowed_emission(emission_)
    physics = borrowed_physics(physics_)
    grids = borrowed_grids(grids_)
    planes = borrowed_planes(planes_)
    half32 = half.astype(np.float32)
    rho = np.float32(density)
    bank, marks = np.empty((BANK_SIZE, 8)), np.empty((BANK_SIZE, 3), dtype=np.int64)
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
                score_planes(planes, x0, y0, z0, u0, v0, w0, math.inf, energy, weight, index,
                             fraction, plane_sums)  # fmt: skip
            escaped, energy = float(energy), _ZERO
        else:
            x = np.float32(x0 + outside * u0)
            y = np.float32(y0 + outside * v0)
            z = np.float32(z0 + outside * w0)
        while True:
            while energy > _ZERO:
                index, fraction = energy_place(physics.energies, physics.first, energy)
                here, there = physics.sections[index, 0], physics.sections[index + 1, 0]
                total = here[TOTAL] + fraction * (there[TOTAL] - here[TOTAL])
                counter, value = uniform(counter, step)
                flight = -math.log(value) / (total * rho)
                exit_at = leave(half32, x, y, z, u, v, w)
                collides = flight < exit_at
                reach = flight if collides else exit_at
                rate = rho * (here[TRANSFER] + fraction * (there[TRANSFER] - here[TRANSFER]))
                for g in range(grids.deposit.size):
                    if grids.deposit[g] == 0:
                        score_line(grids, g, x, y, z, u, v, w, energy * weight, reach, rate, grid_sums)
                if planes.area.size > 0:
                    length = float(flight) if collides else math.inf
                    if (
                        outside >= 0.0
                    ):  # from the source on: rounded to where it enters, planes there might count twice
                        score_planes(planes, x0, y0, z0, u0, v0, w0, outside + length, energy, weight,
                                     index, fraction, plane_sums)  # fmt: skip
                        outside = -1.0
                    else:
                        score_planes(planes, x, y, z, u, v, w, length, energy, weight, index,
                                     fraction, plane_sums)  # fmt: skip
                if not collides:
                    escaped += float(energy) * float(weight)
                    break
                x += flight * u
                y += flight * v
                z += flight * w
                balance[COLLISIONS] += 1.0
                photo = here[PHOTO] + fraction * (there[PHOTO] - here[PHOTO])
                scattering = here[PHOTO_COMPTON]
                scattering += fraction * (there[PHOTO_COMPTON] - scattering)
                before = energy
                counter, energy, u, v, w, fluorescence, latch, banked = collide(
                    physics, cut, 0, index, fraction, total, photo, scattering, x, y, z, u, v, w,
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
            x, y, z = (np.float32(bank[banked, 0]), np.float32(bank[banked, 1]),
                       np.float32(bank[banked, 2]))  # fmt: skip
            u, v, w = (np.float32(bank[banked, 3]), np.float32(bank[banked, 4]),
                       np.float32(bank[banked, 5]))  # fmt: skip
            energy, weight = np.float32(bank[banked, 6]), np.float32(bank[banked, 7])
            latch = marks[banked, 2]
        balance[EMITTED] += emitted
        balance[DEPOSITED] += deposited
        balance[ESCAPED] += escaped
        balance[WORST] = max(balance[WORST], abs(emitted - deposited - escaped) / emitted)
