"""Photons in a tube's target: followed one by one, or their expectation in a field.

An expected photon leaves in the direction of a random point of the field, attenuated by
exp(−μ w/|c|) on its straight way out of the depth w, in each layer by its own μ, and by the filters; nothing is left
to chance but the point.  A photon that is followed inside does the same at every collision
for what would be scattered there, and for the fluorescence it sets free.

Not modelled: Doppler broadening and binding in the direction of scattering beyond S(x);
scatter in the filters.
"""

# float32 and float64 meet on purpose in kernels; Numba checks their types, not mypy.
# mypy: disable-error-code="arg-type, assignment"

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from conebeam import constants
from conebeam.compilation import embedded, kernel
from conebeam.histories.tube_scores import K_PHOTO, Aim, Anode, add, add_leaving, place_photon, tally
from conebeam.transport.collision import collide, energy_place
from conebeam.transport.physics import PHOTO, PHOTO_COMPTON, TOTAL, Physics
from conebeam.transport.rng import uniform
from conebeam.transport.sampling.momentum import place

_PER_HC2 = 1.0 / constants.PLANCK_C_KEV_ANGSTROM**2
_THOMSON = 0.5 * constants.CLASSICAL_ELECTRON_RADIUS_CM**2
_AVOGADRO = constants.AVOGADRO
_REST = constants.ELECTRON_REST_KEV
_FULL_TURN = 4.0 * math.pi


@embedded
def expect(
    anode: Anode,
    aim: Aim,
    physics: Physics,
    filters: NDArray[np.float64],
    energy: float,
    value: float,
    x: float,
    y: float,
    w: float,
    c: float,
    up: float,
    px: float,
    py: float,
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    """Score ``value`` photons born at (x, y, w) on their way to a point of the field."""
    if c > -1e-6 or up <= 0.0:
        return
    index, fraction = energy_place(physics.energies, physics.first, np.float32(energy))
    low = float(physics.sections[index, 0, TOTAL])
    attenuation = low + fraction * (float(physics.sections[index + 1, 0, TOTAL]) - low)
    depth = attenuation * anode.density[0] * min(w, anode.interface) / -c
    if w > anode.interface:
        low = float(physics.sections[index, 1, TOTAL])
        attenuation = low + fraction * (float(physics.sections[index + 1, 1, TOTAL]) - low)
        depth += attenuation * anode.density[1] * (w - anode.interface) / -c
    depth += (filters[index] + fraction * (filters[index + 1] - filters[index])) / up
    tally(anode, aim, energy, value * math.exp(-depth), px, py, x, y, w, now, touched, count)


@kernel
def expect_isotropic(
    anode: Anode,
    aim: Aim,
    physics: Physics,
    filters: NDArray[np.float64],
    energy: float,
    value: float,
    x: float,
    y: float,
    w: float,
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
    counter: np.uint64,
    step: np.uint64,
) -> np.uint64:
    """Score a photon of no preferred direction."""
    counter, px, py, _, _, c, up, share = place_photon(anode, aim, x, y, w, counter, step)
    expect(anode, aim, physics, filters, energy, value * share, x, y, w, c, up, px, py, now, touched, count)
    return counter


@kernel
def expect_scatter(
    anode: Anode,
    aim: Aim,
    physics: Physics,
    filters: NDArray[np.float64],
    cut: float,
    energy: float,
    layer: int,
    total: float,
    value: float,
    x: float,
    y: float,
    w: float,
    a: float,
    b: float,
    c: float,
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
    counter: np.uint64,
    step: np.uint64,
) -> np.uint64:
    """Score what a collision would scatter into the field; ``total`` in cm²/g."""
    counter, px, py, da, db, dc, up, share = place_photon(anode, aim, x, y, w, counter, step)
    cosine = a * da + b * db + c * dc
    t = energy * energy * _PER_HC2 * 0.5 * (1.0 - cosine)
    i, f = place(np.float32(max(0.0, t)))
    share *= _FULL_TURN * _THOMSON * value / total
    # The table holds the integral of F² per gram and mole; its slope is what was integrated.
    slope = (physics.coherent[layer, i + 1] - physics.coherent[layer, i]) / (
        physics.momenta[i + 1] - physics.momenta[i]
    )
    coherent = _AVOGADRO * (1.0 + cosine * cosine) * slope
    expect(
        anode, aim, physics, filters, energy, share * coherent, x, y, w, dc, up, px, py, now, touched, count
    )
    ratio = 1.0 / (1.0 + energy / _REST * (1.0 - cosine))
    if energy * ratio > cut:
        s = physics.incoherent[layer, i] + f * (
            physics.incoherent[layer, i + 1] - physics.incoherent[layer, i]
        )
        incoherent = anode.electrons_per_gram[layer] * s * ratio * ratio
        incoherent *= ratio + 1.0 / ratio - 1.0 + cosine * cosine
        expect(anode, aim, physics, filters, energy * ratio, share * incoherent, x, y, w, dc, up, px, py,
               now, touched, count)  # fmt: skip
    return counter


@kernel
def follow_photon(
    anode: Anode,
    aim: Aim,
    physics: Physics,
    filters: NDArray[np.float64],
    cut: float,
    expected: bool,
    history: int,
    energy: float,
    weight: float,
    x: float,
    y: float,
    w: float,
    a: float,
    b: float,
    c: float,
    bank: NDArray[np.float64],
    marks: NDArray[np.int64],
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
    counter: np.uint64,
    step: np.uint64,
) -> tuple[np.uint64, float, float]:
    """Follow a photon and what it sets free until all are absorbed or gone.

    Returns
    -------
    counter
    shone, lost : float
        Energy out of the face and beyond the target's back, keV; the rest is absorbed.
    """
    cut32, k, weight32 = np.float32(cut), np.float32(energy), np.float32(weight)
    u, v, d = np.float32(a), np.float32(b), np.float32(c)
    shone, lost, banked = 0.0, 0.0, 0
    while True:
        layer = 1 if w > anode.interface else 0
        while k > cut32:
            index, fraction = energy_place(physics.energies, physics.first, k)
            counter, value = uniform(counter, step)
            free = -math.log(np.float64(value))
            while True:
                here, there = physics.sections[index, layer], physics.sections[index + 1, layer]
                total = here[TOTAL] + fraction * (there[TOTAL] - here[TOTAL])
                flight = free / (float(total) * anode.density[layer])
                deeper = w + flight * d
                if (deeper <= anode.interface) if layer == 0 else (deeper >= anode.interface):
                    break
                # What is left of the free path goes on in the other layer.
                through = (anode.interface - w) / d
                free -= through * float(total) * anode.density[layer]
                x, y, w, layer = x + through * u, y + through * v, anode.interface, 1 - layer
            if deeper <= 0.0:
                shone += float(k) * weight
                if aim.angles > 0:
                    add_leaving(anode, aim, float(k), weight, float(u), float(d), now, touched, count)
                if not expected:
                    out = w / -float(d)
                    _leave(anode, aim, filters, index, fraction, k, weight, x + out * u, y + out * v, x, y, w,
                           u, v, d, now, touched, count)  # fmt: skip
                break
            if deeper >= anode.thickness:
                lost += float(k) * weight
                break
            x, y, w = x + flight * u, y + flight * v, deeper
            if expected:
                counter = expect_scatter(anode, aim, physics, filters, cut, float(k), layer, float(total), weight,
                                         x, y, w, float(u), float(v), float(d), now, touched, count,
                                         counter, step)  # fmt: skip
            photo = here[PHOTO] + fraction * (there[PHOTO] - here[PHOTO])
            scattering = here[PHOTO_COMPTON]
            scattering += fraction * (there[PHOTO_COMPTON] - scattering)
            before = banked
            counter, k, u, v, d, _, _, banked = collide(
                physics, cut32, layer, index, fraction, total, photo, scattering, x, y, w, u, v, d,
                k, weight32, history, 0, bank, marks, banked, counter, step,
            )  # fmt: skip
            for n in range(before, banked):
                if bank[n, 6] > anode.k_lines[layer]:
                    add(K_PHOTO, weight, now, touched, count)
                if expected:
                    counter = expect_isotropic(anode, aim, physics, filters, bank[n, 6], weight, bank[n, 0],
                                               bank[n, 1], bank[n, 2], now, touched, count, counter, step)  # fmt: skip
        if banked == 0:
            return counter, shone, lost
        banked -= 1
        x, y, w = bank[banked, 0], bank[banked, 1], bank[banked, 2]
        u, v, d = np.float32(bank[banked, 3]), np.float32(bank[banked, 4]), np.float32(bank[banked, 5])
        k = np.float32(bank[banked, 6])


@kernel
def _leave(
    anode: Anode,
    aim: Aim,
    filters: NDArray[np.float64],
    index: int,
    fraction: float,
    energy: float,
    weight: float,
    x: float,
    y: float,
    from_x: float,
    from_y: float,
    from_w: float,
    a: float,
    b: float,
    c: float,
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    """Score a photon that has left the face at (x, y, 0) where it meets the plane."""
    up = a * anode.cosine - c * anode.sine
    if up <= 1e-9:
        return
    reach = (aim.distance - x * anode.cosine) / up
    if reach <= 0.0:
        return
    px = -x * anode.sine + reach * (-a * anode.sine - c * anode.cosine)
    depth = (filters[index] + fraction * (filters[index + 1] - filters[index])) / up
    tally(anode, aim, energy, weight * math.exp(-depth), px, y + reach * b, from_x, from_y, from_w,
          now, touched, count)  # fmt: skip
