"""History loop of an x-ray tube: electrons in the target, and the photons they make.

Condensed history: steps of κλ₁, κ = 2⁻⁵ … 1 by powers of two and at most a multiple of
the depth below the face, deflected as a whole at a random hinge (J. M. Fernández-Varea et al.,
Nucl. Instrum. Methods B 73 (1993) 447, doi:10.1016/0168-583X(93)95827-R).  A step that
crosses the face, or from one layer into the other, ends there; the distance to where two layers
meet limits steps as the depth does.  Single scattering, collision by collision, runs in the
same loop and is the oracle.

Photons are emitted in one of two ways.  Analog: at events drawn along the steps (each
splits into a number of photons of equal weight).  Expected: at points of the path, for everything
that the path could emit.  Points lie where the bremsstrahlung photons emitted so far pass
multiples of a number, from a random start: all stand for as many photons.  Energy lost to
photons is drawn in both.
"""

# float32 and float64 meet on purpose in kernels; Numba checks their types, not mypy.
# mypy: disable-error-code="arg-type, assignment"

from __future__ import annotations

import math

import numpy as np
from numba.core import config
from numpy.typing import NDArray

from conebeam.compilation import kernel
from conebeam.geometry.borrow import lent
from conebeam.histories import tube_scores as scores
from conebeam.histories.tube_emission import Way, draw_shell, expect_path, radiate, relax
from conebeam.histories.tube_scores import Aim, Anode, add, settle, start_comb
from conebeam.transport.borrow import borrowed_physics
from conebeam.transport.collision import BANK_SIZE
from conebeam.transport.electron import tables as columns
from conebeam.transport.electron.deflection import place, rate, sample_azimuth, sample_deflection, turned
from conebeam.transport.electron.moller import sample_moller, scattered_cosine
from conebeam.transport.electron.tables import SHELLS, Electrons
from conebeam.transport.physics import Physics
from conebeam.transport.rng import stream, uniform64

ELECTRONS_SIZE = 64
_SMALLEST, _LEVELS = 2.0**-5, 6  # κ of level 0; the level of a single collision
_LARGEST_LOSS = 0.05


@kernel
def _borrowed_electrons(e: Electrons) -> Electrons:
    return Electrons(
        lent(e.rates), lent(e.quantiles), lent(e.half), lent(e.chi), lent(e.shape), lent(e.shape_bound),
        lent(e.vacancy), lent(e.turns), e.cut,
    )  # fmt: skip


@kernel
def _borrowed_array(array: NDArray[np.float64]) -> NDArray[np.float64]:
    return lent(array)  # type: ignore[no-any-return]


def _electrons(e: Electrons) -> Electrons:
    return e


def _array(array: NDArray[np.float64]) -> NDArray[np.float64]:
    return array


# Without compilation there is nothing to borrow.
_PLAIN = bool(getattr(config, "DISABLE_JIT", 0))
borrowed_electrons = _electrons if _PLAIN else _borrowed_electrons
borrowed_array = _array if _PLAIN else _borrowed_array


@kernel
def borrowed_layers(electrons_: tuple[Electrons, ...]) -> tuple[Electrons, ...]:
    """The tables of one layer or of two, as many as came."""
    if len(electrons_) == 1:
        return (borrowed_electrons(electrons_[0]),)
    return (borrowed_electrons(electrons_[0]), borrowed_electrons(electrons_[1]))


@kernel
def start_electron(
    anode: Anode, counter: np.uint64, step: np.uint64
) -> tuple[np.uint64, float, float, float]:
    """Counter, energy (keV) and place on the face of a new electron; up to three numbers."""
    counter, r1 = uniform64(counter, step)
    counter, r2 = uniform64(counter, step)
    if anode.spot == scores.GAUSSIAN:
        radius, angle = math.sqrt(-2.0 * math.log(r1)), 2.0 * math.pi * r2
        p, q = radius * math.cos(angle), radius * math.sin(angle)
    else:
        p, q = 2.0 * r1 - 1.0, 2.0 * r2 - 1.0
    energy = anode.energy
    if anode.ripple > 0.0:
        counter, r3 = uniform64(counter, step)
        energy *= 1.0 - anode.ripple * (1.0 - math.cos(0.5 * math.pi * r3))
    return counter, energy, anode.half_z * q / anode.cosine, anode.half_y * p


@kernel
def step_length(
    e: Electrons, way: Way, energy: float, near: float, i: int, f: float, counter: np.uint64, step: np.uint64
) -> tuple[np.uint64, float, int]:
    """Length of a step, cm, ``near`` from the layer's nearest bound, and its level; −1 where nothing
    scatters at its end.
    """
    if way.single:
        counter, value = uniform64(counter, step)
        s = -math.log(value) / rate(e, i, f, columns.PATH)
        longest = _LARGEST_LOSS * energy / rate(e, i, f, columns.STOPPING)
        return counter, min(s, longest), _LEVELS if s < longest else -1
    inverse = rate(e, i, f, columns.TRANSPORT)
    allowed, level = way.surface * near * inverse, 0
    while level < way.top and allowed > 2.0 * _SMALLEST * (1 << level):
        level += 1
    # The longest step errs most: it is taken only where the bound is twice as far as for the others.
    if 0 < level == way.top and allowed < 2.0 * _SMALLEST * (1 << level):
        level -= 1
    return counter, _SMALLEST * (1 << level) / inverse, level


@kernel
def electron_out(
    anode: Anode,
    aim: Aim,
    energy: float,
    x: float,
    y: float,
    a: float,
    b: float,
    c: float,
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    """Score an electron that leaves the face at (x, y, 0)."""
    add(scores.BACK, 1.0, now, touched, count)
    add(scores.BACK_ENERGY, energy, now, touched, count)
    up = a * anode.cosine - c * anode.sine
    if up <= 1e-9:
        return
    reach = (aim.distance - x * anode.cosine) / up
    px = -x * anode.sine - reach * (a * anode.sine + c * anode.cosine)
    if reach > 0.0 and abs(px) <= aim.field_half and abs(y + reach * b) <= aim.field_half:
        add(scores.FIELD_ELECTRONS, 1.0, now, touched, count)


@kernel
def run_tube(
    seed: int,
    first: int,
    stop: int,
    anode: Anode,
    aim: Aim,
    electrons_: tuple[Electrons, ...],
    physics_: Physics,
    filters_: NDArray[np.float64],
    way: Way,
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    balance: NDArray[np.float64],
    kept: NDArray[np.float64],
    points: float | None,
) -> None:
    """Run histories first … stop − 1; add to the sums, their squares and the balance (keV).

    ``electrons_`` are those of the layer and, where there is one, of its base: one layer alone is compiled by
    itself, without a choice at every step.  ``points`` are those of expected emission for each photon that is
    emitted; analog emission, where they are None, is compiled by itself too.  ``kept`` takes the comb's state
    and the photons that are kept.
    """
    layers = borrowed_layers(electrons_)
    physics, filters = borrowed_physics(physics_), borrowed_array(filters_)
    bank, marks = np.empty((BANK_SIZE, 8)), np.empty((BANK_SIZE, 3), dtype=np.int64)
    now, touched, count = (
        np.zeros(sums.size + kept.size),
        np.zeros(sums.size, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
    )
    waiting = np.empty((ELECTRONS_SIZE, 8))
    for history in range(first, stop):
        counter, step = stream(seed, history)
        counter, started, x, y = start_electron(anode, counter, step)
        waiting[0, 0], waiting[0, 1], waiting[0, 2], waiting[0, 3] = started, x, y, anode.depth
        waiting[0, 4], waiting[0, 5], waiting[0, 6] = (anode.along, anode.across, anode.inward)
        waiting[0, 7] = 0.0
        start_comb(aim, seed, history, now)
        left, steps, passed = 1, 0, 0.0
        if points is not None:
            counter, passed = uniform64(counter, step)
        stopped, reflected, shone, lost = 0.0, 0.0, 0.0, 0.0
        while left > 0:
            left -= 1
            energy, x, y, w = (waiting[left, 0], waiting[left, 1], waiting[left, 2], waiting[left, 3])
            a, b, c = waiting[left, 4], waiting[left, 5], waiting[left, 6]
            layer = int(waiting[left, 7])
            e = layers[layer]
            leaves = False
            while energy > way.cut and not leaves:
                steps += 1
                i, f = place(energy)
                low, high = (0.0, anode.interface) if layer == 0 else (anode.interface, math.inf)
                near = min(w - low, high - w)
                counter, s, level = step_length(e, way, energy, near, i, f, counter, step)
                middle = energy - 0.5 * s * rate(e, i, f, columns.STOPPING)
                i, f = place(middle)
                cosine = 1.0
                if level >= 0:
                    counter, cosine = sample_deflection(e, level, i, f, counter, step)
                counter, ca, sa = sample_azimuth(e, counter, step)
                hinge = 1.0
                if not way.single:
                    counter, hinge = uniform64(counter, step)
                a0, b0, c0, w0 = a, b, c, w
                hinge *= s
                w1 = w0 + hinge * c0
                a, b, c = turned(a0, b0, c0, cosine, ca, sa)
                w = w1 + (s - hinge) * c
                ends, bound = False, low
                if w1 < low or w1 > high:
                    # Across before the hinge: it never was deflected.
                    ends, bound = True, low if w1 < low else high
                    s, a, b, c = abs((w0 - bound) / c0), a0, b0, c0
                    hinge = s
                elif w < low or w > high:
                    ends, bound = True, low if w < low else high
                    s = hinge + abs((w1 - bound) / c)
                leaves = ends and bound == 0.0
                loss = s * rate(e, i, f, columns.STOPPING)
                x0, y0 = x, y
                x += hinge * a0 + (s - hinge) * a
                y += hinge * b0 + (s - hinge) * b
                # One point of the step stands for the events of all of it.
                counter, value = uniform64(counter, step)
                at = value * s
                before, after = min(at, hinge), max(0.0, at - hinge)
                ex, ey = x0 + before * a0 + after * a, y0 + before * b0 + after * b
                ew = min(max(low, w0 + before * c0 + after * c), high)
                ea, eb, ec = (a, b, c) if at > hinge else (a0, b0, c0)
                if points is not None and middle > 1.001 * e.cut:
                    density = points * rate(e, i, f, columns.PHOTONS)
                    at = (1.0 - passed) / density
                    passed += s * density
                    while passed >= 1.0:
                        passed -= 1.0
                        before, after = min(at, hinge), max(0.0, at - hinge)
                        pa, pb, pc = (a, b, c) if at > hinge else (a0, b0, c0)
                        pw = min(max(low, w0 + before * c0 + after * c), high)
                        counter = expect_path(
                            anode, aim, e, physics, filters, way, history, middle, 1.0 / density, i, f,
                            x0 + before * a0 + after * a, y0 + before * b0 + after * b, pw, pa, pb, pc,
                            bank, marks, now, touched, count, counter, step,
                        )  # fmt: skip
                        at += 1.0 / density
                moller, photons = (rate(e, i, f, columns.MOLLER), rate(e, i, f, columns.PHOTONS))
                ionise = rate(e, i, f, columns.IONISE)
                counter, value = uniform64(counter, step)
                value /= s
                stopped += loss
                if value < moller:
                    if middle > 2.0 * e.cut and left < ELECTRONS_SIZE - 1:
                        counter, given = sample_moller(middle, e.cut, counter, step)
                        counter, ca, sa = sample_azimuth(e, counter, step)
                        waiting[left, 0], waiting[left, 1], waiting[left, 2] = (given, ex, ey)
                        waiting[left, 3], waiting[left, 7] = ew, layer
                        waiting[left, 4], waiting[left, 5], waiting[left, 6] = turned(
                            ea, eb, ec, scattered_cosine(middle, given), ca, sa
                        )
                        left += 1
                        if not leaves:
                            a, b, c = turned(a, b, c, scattered_cosine(middle, middle - given), -ca, -sa)
                        loss += given
                elif value < moller + photons:
                    if middle > e.cut:
                        counter, given, out, gone = radiate(
                            anode, aim, e, physics, filters, way, history, middle, ex, ey, ew, ea, eb, ec,
                            bank, marks, now, touched, count, counter, step,
                        )  # fmt: skip
                        loss += given
                        shone += out
                        lost += gone
                        stopped += given - out - gone
                elif value < moller + photons + ionise:
                    counter, shell = draw_shell(e, i, f, counter, step)
                    if shell % SHELLS == 0:
                        add(scores.K_IMPACT, 1.0, now, touched, count)
                    if not way.expected:
                        counter, _, out, gone = relax(
                            anode, aim, e, physics, filters, way, history, shell, 1.0, way.split, False, 1.0,
                            ex, ey, ew, bank, marks, now, touched, count, counter, step,
                        )  # fmt: skip
                        shone += out
                        lost += gone
                        stopped -= out + gone
                energy -= loss
                if ends and not leaves:
                    w, layer = bound, 1 if c > 0.0 else 0
                    e = layers[layer]
            if leaves and energy > way.cut:
                electron_out(anode, aim, energy, x, y, a, b, c, now, touched, count)
                reflected += energy
            else:
                stopped += energy
        settle(now, touched, count, sums, squares)
        balance[scores.STARTED] += started
        balance[scores.STOPPED] += stopped
        balance[scores.REFLECTED] += reflected
        balance[scores.SHONE] += shone
        balance[scores.LOST] += lost
        balance[scores.STEPS] += steps
        error = abs(started - stopped - reflected - shone - lost) / started
        balance[scores.WORST] = max(balance[scores.WORST], error)
    kept[:] = now[sums.size :]
