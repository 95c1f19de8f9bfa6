"""Elastic scattering by partial waves of the Dirac equation, with spin.

The radial equations of an electron of kinetic energy E in the potential V,

    P' = −κP/r + (E − V + 2c²)Q/c,      Q' = κQ/r − (E − V)P/c,

are integrated outwards (Runge–Kutta, evenly in a·r^¼ + b·r) for κ = −l−1 and κ = l and
matched to free waves where V has vanished.  Waves far outside the screening (δ below about
0.02) take their phase shifts from the Born approximation, which for Yukawa terms is
δ = Zα/β Σ Aᵢ Qₗ(1 + αᵢ²/2k²), Q being Legendre functions of the second kind.  The phase
shifts are summed to the direct and spin-flip amplitudes f and g; dσ/dΩ = |f|² + |g|².

References
----------
F. Salvat, A. Jablonski, C. J. Powell, Comput. Phys. Commun. 165 (2005) 157,
doi:10.1016/j.cpc.2004.09.006, equations 11 to 32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import kernel
from conebeam.data.electrons.potential import yukawa_terms

HARTREE_KEV = 0.0272113862459
LIGHT = 137.035999084  # speed of light in atomic units
BOHR_CM = 0.529177210903e-8
_RANGE = 11.0  # screening lengths to where free waves begin
_START = 1e-7
_PHASE, _CORE = 0.07, 1500.0  # far out k·dr of a step; steps in the core
_NEAR, _EXACT, _ALL = 30.0, 3.0, 20.0


def cross_section(z: int, energy_kev: float, mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """dσ/dΩ of an unpolarised beam.

    Parameters
    ----------
    mu : array, shape (n,)
        (1 − cos θ)/2.

    Returns
    -------
    array, shape (n,)
        cm²/sr.
    """
    strength, inverse = yukawa_terms(z)
    energy = energy_kev / HARTREE_KEV
    k = float(np.sqrt(energy * (energy + 2.0 * LIGHT**2))) / LIGHT
    reach, screening = _RANGE / float(inverse.min()), k / float(inverse.min())
    exact = int(_NEAR + _EXACT * screening)
    radius, spacing = _grid(k, reach)
    potential = -z / radius * (strength[:, None] * np.exp(-inverse[:, None] * radius)).sum(axis=0)
    up, down = np.zeros(exact), np.zeros(exact)
    _phases(energy, float(z), radius, spacing, potential, up, down)
    far = born_phases(z, energy, strength, inverse, int(_NEAR + _ALL * screening))[exact:]
    up, down = np.concatenate((up, far)), np.concatenate((down, far))
    squared = np.zeros(mu.size)
    _amplitudes(up, down, np.ascontiguousarray(mu), k, squared)
    return squared * BOHR_CM**2


def _grid(k: float, reach: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radii of steps' ends and middles, and dr per step there."""
    dense = np.linspace(_START**0.25, reach**0.25, 200_001) ** 4
    a, b = _CORE / reach**0.25, k / _PHASE
    at = a * dense**0.25 + b * dense
    steps = int(at[-1] - at[0]) + 1
    radius = np.interp(np.linspace(at[0], at[-1], 2 * steps + 1), at, dense)
    # dr/ds is taken from the very map that was inverted.
    spacing = (at[-1] - at[0]) / steps / (0.25 * a * radius**-0.75 + b)
    return radius, spacing


def born_phases(
    z: int, energy: float, strength: NDArray[np.float64], inverse: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """First Born approximation to the phase shifts of l < count; energy in Hartree."""
    k = float(np.sqrt(energy * (energy + 2.0 * LIGHT**2))) / LIGHT
    total = np.zeros(count)
    for a, alpha in zip(strength, inverse, strict=True):
        total += a * _legendre_q(1.0 + alpha**2 / (2.0 * k * k), count)
    scaled: NDArray[np.float64] = z * (1.0 + energy / LIGHT**2) / k * total
    return scaled


@kernel
def _legendre_q(x: float, count: int) -> NDArray[np.float64]:
    """Qₗ(x), x > 1, for l < count: the minimal solution, by downward recursion."""
    values = np.zeros(count)
    above, here = 0.0, 1e-280
    for m in range(3 * count + 200, 0, -1):
        above, here = here, ((2.0 * m + 1.0) * x * here - (m + 1.0) * above) / m
        if m - 1 < count:
            values[m - 1] = here
        if here > 1e200:
            above, here = above * 1e-200, here * 1e-200
            values *= 1e-200
    values *= 0.5 * np.log((x + 1.0) / (x - 1.0)) / values[0]
    return values


@kernel
def _integrate(
    kappa: float,
    energy: float,
    z: float,
    radius: NDArray[np.float64],
    spacing: NDArray[np.float64],
    potential: NDArray[np.float64],
    first: int,
) -> tuple[float, float]:
    """P and Q at the last radius; every second radius is a step's middle."""
    zc = z / LIGHT
    gamma = np.sqrt(kappa * kappa - zc * zc)
    p, q = 1.0, zc / (kappa - gamma) if kappa < 0.0 else (kappa + gamma) / zc
    for i in range(first, radius.size - 2, 2):
        sp, sq, dp, dq = 0.0, 0.0, 0.0, 0.0
        for stage in range(4):
            j = i + (0 if stage == 0 else (2 if stage == 3 else 1))
            reach = 0.0 if stage == 0 else (1.0 if stage == 3 else 0.5)
            a, b = p + reach * dp, q + reach * dq
            r = radius[j]
            dr = spacing[j]
            kinetic = (energy - potential[j]) / LIGHT
            dp = dr * (-kappa / r * a + (kinetic + 2.0 * LIGHT) * b)
            dq = dr * (kappa / r * b - kinetic * a)
            weight = 1.0 if stage in (0, 3) else 2.0
            sp += weight * dp
            sq += weight * dq
        p += sp / 6.0
        q += sq / 6.0
        size = abs(p) + abs(q)
        if size > 1e100:
            p, q = p / size, q / size
    return p, q


@kernel
def _phases(
    energy: float,
    z: float,
    radius: NDArray[np.float64],
    spacing: NDArray[np.float64],
    potential: NDArray[np.float64],
    up: NDArray[np.float64],
    down: NDArray[np.float64],
) -> None:
    """Phase shifts of κ = −l − 1 (up) and κ = l (down)."""
    k = np.sqrt(energy * (energy + 2.0 * LIGHT**2)) / LIGHT
    ratio = np.sqrt(energy / (energy + 2.0 * LIGHT**2))
    x = k * radius[-1]
    # Spherical Bessel functions by upward recursion, stable for l < x.
    j, n = np.empty(up.size + 2), np.empty(up.size + 2)
    j[0], n[0] = np.sin(x) / x, -np.cos(x) / x
    j[1], n[1] = j[0] / x - np.cos(x) / x, n[0] / x - np.sin(x) / x
    for m in range(1, up.size + 1):
        j[m + 1] = (2.0 * m + 1.0) / x * j[m] - j[m - 1]
        n[m + 1] = (2.0 * m + 1.0) / x * n[m] - n[m - 1]
    for m in range(up.size):
        begin = max(radius[0], 0.25 * m / k * np.exp(-12.0 / max(m, 1)))
        first = 2 * (np.searchsorted(radius, begin) // 2)
        p, q = _integrate(-m - 1.0, energy, z, radius, spacing, potential, first)
        up[m] = np.arctan2(q * j[m] + p * ratio * j[m + 1], q * n[m] + p * ratio * n[m + 1])
        if m > 0:
            p, q = _integrate(float(m), energy, z, radius, spacing, potential, first)
            down[m] = np.arctan2(q * j[m] - p * ratio * j[m - 1], q * n[m] - p * ratio * n[m - 1])


@kernel
def _amplitudes(
    up: NDArray[np.float64],
    down: NDArray[np.float64],
    mu: NDArray[np.float64],
    k: float,
    squared: NDArray[np.float64],
) -> None:
    """|f|² + |g|² in a₀²/sr."""
    for t in range(mu.size):
        c = 1.0 - 2.0 * mu[t]
        p0, p1, d0, d1 = 1.0, c, 0.0, np.sqrt(max(0.0, 1.0 - c * c))
        f, g = 0.0j, 0.0j
        for m in range(up.size):
            plus = np.exp(2j * up[m]) - 1.0
            minus = np.exp(2j * down[m]) - 1.0 if m > 0 else 0.0j
            f += ((m + 1.0) * plus + m * minus) * p0
            g += (minus - plus) * d0
            p0, p1 = p1, ((2.0 * m + 3.0) * c * p1 - (m + 1.0) * p0) / (m + 2.0)
            # Associated functions of order 1, from d(0) = 0 and d(1) = sin.
            d0, d1 = d1, ((2.0 * m + 3.0) * c * d1 - (m + 2.0) * d0) / (m + 1.0)
        f /= 2j * k
        g /= 2j * k
        squared[t] = abs(f) ** 2 + abs(g) ** 2
