"""Collisional energy loss: restricted Bethe stopping power and Møller collisions.

Losses below the cut W are continuous,

    S = K/β² [ln(2(τ + 2)/(I/mc²)²) + F(τ, W) − δ],    K = 2π r_e² mc² · electrons/cm³,

with F of Berger and Seltzer for losses up to W and Sternheimer's density effect δ; those
above W up to half the energy are collisions with Møller's cross section.  In an alloy ln I and δ
are means over the electrons, which makes S Bragg's sum of the elements'.

References
----------
ICRU Report 37 (1984), equations 2.12 to 2.22; M. J. Berger, S. M. Seltzer, NBSIR 82-2550
(1982), equation 8; low energies: D. C. Joy, S. Luo, Scanning 11 (1989) 176,
doi:10.1002/sca.4950110404.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from conebeam import constants
from conebeam.data.electrons.grids import MIN_ENERGY_KEV
from conebeam.data.electrons.targets import Element, Target

_JOY_LUO, _JOY_LUO_BELOW = 0.85, 6.3


def beta_squared(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """β² of electrons, shape of the energies (keV)."""
    tau = energies / constants.ELECTRON_REST_KEV
    found: NDArray[np.float64] = tau * (tau + 2.0) / (tau + 1.0) ** 2
    return found


def density_effect(target: Target, energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """δ, shape of the energies (keV)."""
    found = np.zeros(energies.shape)
    for share, element in zip(target.electron_shares, target.elements, strict=True):
        found += share * _sternheimer(element, energies)
    return found


def _sternheimer(element: Element, energies: NDArray[np.float64]) -> NDArray[np.float64]:
    c, x0, x1, a, m, d0 = element.density_effect
    tau = energies / constants.ELECTRON_REST_KEV
    x = 0.5 * np.log10(tau * (tau + 2.0))
    above = 2.0 * np.log(10.0) * x - c + a * np.maximum(x1 - x, 0.0) ** m
    return np.where(x < x0, d0 * 10.0 ** (2.0 * (x - x0)), above)


def stopping_power(target: Target, energies: NDArray[np.float64], cut_kev: float) -> NDArray[np.float64]:
    """Mean loss in collisions below the cut.

    Parameters
    ----------
    energies : array, shape (n,)
        keV; below 1 keV the value at 1 keV.
    cut_kev : float
        Infinite for the whole collision stopping power.

    Returns
    -------
    array, shape (n,)
        keV/cm.
    """
    energy = np.maximum(energies, MIN_ENERGY_KEV)
    tau, beta2 = energy / constants.ELECTRON_REST_KEV, beta_squared(energy)
    mean = 1e-3 * target.excitation_ev / (1.0 + _low_energy(target, energy))
    d = np.minimum(cut_kev, 0.5 * energy) / constants.ELECTRON_REST_KEV
    f = -1.0 - beta2 + np.log((tau - d) * d) + tau / (tau - d)
    f += (0.5 * d**2 + (2.0 * tau + 1.0) * np.log(1.0 - d / tau)) / (tau + 1.0) ** 2
    logarithm = np.log(2.0 * (tau + 2.0) / (mean / constants.ELECTRON_REST_KEV) ** 2)
    found: NDArray[np.float64] = (
        _constant(target) / beta2 * np.maximum(logarithm + f - density_effect(target, energy), 0.05)
    )
    return found


def _low_energy(target: Target, energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joy and Luo's reduction of the mean excitation energy, below 6.3 times it."""
    ratio = 1e-3 * target.excitation_ev / energy
    return np.where(ratio > 1.0 / _JOY_LUO_BELOW, _JOY_LUO * ratio, 0.0)


def moller_rate(target: Target, energies: NDArray[np.float64], cut_kev: float) -> NDArray[np.float64]:
    """Collisions that transfer more than the cut, 1/cm, shape (n,)."""
    return _moller(target, energies, cut_kev, lambda energy, e: np.ones(e.size))


def moller_transport(target: Target, energies: NDArray[np.float64], cut_kev: float) -> NDArray[np.float64]:
    """Mean of 1 − cos θ of the electron that collides, times `moller_rate`, 1/cm, shape (n,)."""

    def turned(energy: float, e: NDArray[np.float64]) -> NDArray[np.float64]:
        after, rest = (1.0 - e) * energy, 2.0 * constants.ELECTRON_REST_KEV
        return np.asarray(1.0 - np.sqrt(after * (energy + rest) / (energy * (after + rest))))

    return _moller(target, energies, cut_kev, turned)


def _moller(
    target: Target,
    energies: NDArray[np.float64],
    cut_kev: float,
    weight: Callable[[float, NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Møller's cross section times the weight of a share of the energy, over shares above the cut."""
    found = np.zeros(energies.size)
    k = _constant(target)
    for i, energy in enumerate(energies.tolist()):
        if energy > 2.0 * cut_kev:
            tau = energy / constants.ELECTRON_REST_KEV
            e = np.linspace(cut_kev / energy, 0.5, 400)
            shape = 1.0 / e**2 + 1.0 / (1.0 - e) ** 2 + (tau / (tau + 1.0)) ** 2
            shape -= (2.0 * tau + 1.0) / (tau + 1.0) ** 2 / (e * (1.0 - e))
            beta2 = float(beta_squared(np.array([energy]))[0])
            found[i] = k / beta2 * np.trapezoid(shape * weight(energy, e), e) / energy
    return found


def _constant(target: Target) -> float:
    """K in keV/cm."""
    area = 2.0 * np.pi * constants.CLASSICAL_ELECTRON_RADIUS_CM**2
    return float(area * constants.ELECTRON_REST_KEV * target.electrons_per_cm3)
