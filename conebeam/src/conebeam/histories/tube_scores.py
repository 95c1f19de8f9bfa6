"""What a tube's histories score, and the axes they are told in.

Lab axes: z along the beam's axis, x towards the cathode, the focus at zero.  The target's
face contains y and is inclined by the anode angle α to z.  Target axes, in which
particles move: along the face away from the focus towards the exit, e₁ = (−sin α, 0, cos α);
e₂ = y; and into the target, e₃ = (−cos α, 0, −sin α).

A history's scores are added up before they are squared, so that σ follows from the squares
whatever one history's electrons and photons have in common.

A photon's origin is where its last straight way begins: where it was emitted or last scattered.
Photons are kept at equal weights by a comb: values are added up from a random start below
the weight, and a photon is kept each time the sum passes a multiple of the weight.
"""

# mypy: disable-error-code="arg-type, assignment"

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import embedded, kernel
from conebeam.transport.rng import stream, uniform64

# Totals, before the spectrum, the heel's bins, the columns' spectra, the spot and what leaves the target.
(FIELD, FIELD_ENERGY, CENTRE, FIELD_ALL, FIELD_ELECTRONS, BACK, BACK_ENERGY, RADIATED, K_IMPACT, K_PHOTO) = (
    range(10)
)
TOTALS = ("above 15 keV", "energy above 15 keV", "central", "all", "electrons through field", "backscatter",
          "backscatter energy", "radiated energy", "K vacancies by impact", "K lines set free by photons")  # fmt: skip
SPECTRUM = len(TOTALS)
THRESHOLD_KEV = 15.0
CENTRE_CM = 1.0
HEEL_CM, HEEL_BINS, HEEL_HALF_WIDTH_CM = 20.0, 20, 10.0
BINS_PER_KEV = 2

# Balance of energy, keV, and the worst single history's relative error.
STARTED, STOPPED, REFLECTED, SHONE, LOST, WORST, STEPS = range(7)
BALANCE = 7

GAUSSIAN = 1
# Columns of kept photons: keV, place on the plane, direction, and the electron's number.
PHOTON = 7
# A comb's state: its sum over the weight, photons found, and the electron's number.
FOUND, ELECTRON, COMB = 1, 2, 3
_PER_SPHERE = 1.0 / (4.0 * math.pi)
_APART = 1 << 48  # histories' streams for combs lie beyond all others


class Anode(NamedTuple):
    """Target and electron beam in target axes; lengths in cm, pairs are (layer, base)."""

    thickness: float  # of all layers
    interface: float  # depth where the base begins; infinite without one
    density: tuple[float, float]  # g/cm3
    electrons_per_gram: tuple[float, float]
    sine: float
    cosine: float
    along: float  # direction of the electrons
    across: float
    inward: float
    spot: int  # 0 rectangle, 1 Gaussian
    half_y: float  # half widths, or standard deviations
    half_z: float
    depth: float  # below the face, where electrons start
    k_lines: tuple[float, float]  # photons above this energy are K lines where they are fluorescence, keV
    energy: float  # keV, largest
    ripple: float  # share by which the voltage falls between peaks


class Aim(NamedTuple):
    """Where expected photons are sent, and what is scored there; cm in the lab's axes."""

    distance: float
    x_low: float
    x_high: float
    y_half: float
    field_half: float
    bins: int
    columns: int  # strips of the field along x with a spectrum of their own
    pixels: int  # of the focal spot's image along each side; 0 for none
    spot_half: float  # half its side
    first_pixel: int  # its place among the scores
    angles: int  # bins of the polar angle in which photons leave the target; 0 for none
    first_leaving: int
    weight: float  # of photons that are kept; 0 for none
    kept: int  # place of the comb's state and of the photons behind it, beyond all scores
    room: int  # for how many


@embedded
def place_photon(
    anode: Anode, aim: Aim, x: float, y: float, w: float, counter: np.uint64, step: np.uint64
) -> tuple[np.uint64, float, float, float, float, float, float, float]:
    """A point of the window seen from a point of the target; two numbers.

    Returns
    -------
    counter
    X, Y : float
        The point, lab.
    a, b, c : float
        Direction to it, target axes.
    up : float
        Its cosine to the lab's z.
    share : float
        Probability per isotropic photon that stands for the window.
    """
    counter, r1 = uniform64(counter, step)
    counter, r2 = uniform64(counter, step)
    px = aim.x_low + (aim.x_high - aim.x_low) * r1
    py = aim.y_half * (2.0 * r2 - 1.0)
    a = aim.distance * anode.cosine - px * anode.sine - x
    b = py - y
    c = -px * anode.cosine - aim.distance * anode.sine - w
    r = 1.0 / math.sqrt(a * a + b * b + c * c)
    a, b, c = a * r, b * r, c * r
    up = a * anode.cosine - c * anode.sine
    area = (aim.x_high - aim.x_low) * 2.0 * aim.y_half
    return counter, px, py, a, b, c, up, area * up * r * r * _PER_SPHERE


@embedded
def add(
    i: int, value: float, now: NDArray[np.float64], touched: NDArray[np.int64], count: NDArray[np.int64]
) -> None:
    """Add to this history's score i."""
    if now[i] == 0.0:
        touched[count[0]] = i
        count[0] += 1
    now[i] += value


@kernel
def start_comb(aim: Aim, seed: int, history: int, now: NDArray[np.float64]) -> None:
    """Begin a history's comb at a random place; its numbers are none of the history's."""
    if aim.weight > 0.0:
        counter, step = stream(seed, history + _APART)
        counter, now[aim.kept] = uniform64(counter, step)
        now[aim.kept + ELECTRON] = history


@kernel
def keep(
    anode: Anode,
    aim: Aim,
    energy: float,
    value: float,
    px: float,
    py: float,
    x: float,
    y: float,
    w: float,
    now: NDArray[np.float64],
) -> None:
    """Keep the photons of the comb's teeth that ``value`` passes; where there is no room they are counted."""
    comb = now[aim.kept : aim.kept + COMB]
    comb[0] += value / aim.weight
    while comb[0] >= 1.0:
        comb[0] -= 1.0
        n = int(comb[FOUND])
        comb[FOUND] += 1.0
        if n < aim.room:
            u = px + x * anode.sine + w * anode.cosine
            v = py - y
            d = aim.distance - x * anode.cosine + w * anode.sine
            per = 1.0 / math.sqrt(u * u + v * v + d * d)
            row = now[aim.kept + COMB + n * PHOTON : aim.kept + COMB + (n + 1) * PHOTON]
            row[0], row[1], row[2] = energy, px, py
            row[3], row[4], row[5], row[6] = u * per, v * per, d * per, comb[ELECTRON]


@kernel
def add_pixel(
    anode: Anode,
    aim: Aim,
    value: float,
    x: float,
    y: float,
    w: float,
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    """Score a photon of the field where it comes from, seen along the beam's axis."""
    per = 0.5 * aim.pixels / aim.spot_half
    i = math.floor((aim.spot_half - x * anode.sine - w * anode.cosine) * per)
    j = math.floor((aim.spot_half + y) * per)
    if 0 <= i < aim.pixels and 0 <= j < aim.pixels:
        add(aim.first_pixel + int(i) * aim.pixels + int(j), value, now, touched, count)


@kernel
def add_leaving(
    anode: Anode,
    aim: Aim,
    energy: float,
    value: float,
    a: float,
    c: float,
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    """Score a photon that leaves the face, by energy and angle to the beam's axis."""
    up = max(-1.0, min(1.0, a * anode.cosine - c * anode.sine))
    angle = min(int(math.acos(up) * aim.angles / math.pi), aim.angles - 1)
    bin_ = min(int(energy * BINS_PER_KEV), aim.bins - 1)
    add(aim.first_leaving + angle * aim.bins + bin_, value, now, touched, count)


@embedded
def tally(
    anode: Anode,
    aim: Aim,
    energy: float,
    value: float,
    x: float,
    y: float,
    from_x: float,
    from_y: float,
    from_w: float,
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
) -> None:
    """Score photons at a point (x, y) of the plane, lab, that come from a point of the target, its axes."""
    if value <= 0.0:
        return
    hard = energy > THRESHOLD_KEV
    if abs(x) <= aim.field_half and abs(y) <= aim.field_half:
        if aim.weight > 0.0:
            keep(anode, aim, energy, value, x, y, from_x, from_y, from_w, now)
        if hard and aim.pixels > 0:
            add_pixel(anode, aim, value, from_x, from_y, from_w, now, touched, count)
        bin_ = min(int(energy * BINS_PER_KEV), aim.bins - 1)
        add(SPECTRUM + bin_, value, now, touched, count)
        if aim.columns > 0:
            column = min(int((x + aim.field_half) * (0.5 * aim.columns / aim.field_half)), aim.columns - 1)
            first = SPECTRUM + aim.bins + HEEL_BINS
            add(first + column, value, now, touched, count)
            add(first + aim.columns + column * aim.bins + bin_, value, now, touched, count)
        add(FIELD_ALL, value, now, touched, count)
        if hard:
            add(FIELD, value, now, touched, count)
            add(FIELD_ENERGY, value * energy, now, touched, count)
    if hard:
        if abs(x) <= CENTRE_CM and abs(y) <= CENTRE_CM:
            add(CENTRE, value, now, touched, count)
        if abs(y) <= HEEL_HALF_WIDTH_CM and abs(x) < HEEL_CM:
            heel = int((x + HEEL_CM) * (0.5 * HEEL_BINS / HEEL_CM))
            add(SPECTRUM + aim.bins + heel, value, now, touched, count)


@kernel
def settle(
    now: NDArray[np.float64],
    touched: NDArray[np.int64],
    count: NDArray[np.int64],
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> None:
    """End a history: add its scores and their squares, and clear them."""
    for n in range(count[0]):
        i = touched[n]
        sums[i] += now[i]
        squares[i] += now[i] * now[i]
        now[i] = 0.0
    count[0] = 0
