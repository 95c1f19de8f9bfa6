"""Electrostatic potential of a neutral atom as a sum of three Yukawa terms.

V(r) = −(Z/r) Σ Aᵢ exp(−αᵢ r) with Σ Aᵢ = 1, whose form factor is
F(q) = Z (1 − Σ Aᵢ q²/(q² + αᵢ²)).  The terms are fitted to the relativistic form
factor that xraylib tabulates, weighted by (1 − F/Z)^½ so that both the screening far out and
the nucleus's neighbourhood count.

Not modelled: exchange with the atom's electrons and its polarisation, which matter
below some keV and at small angles.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from conebeam.data import elements

BOHR_ANGSTROM = 0.529177210903
_TERMS = 3
_ROUNDS = 200

Residual = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def yukawa_terms(z: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Strengths and inverse lengths of an atom's screening.

    Returns
    -------
    strength : array, shape (3,)
        Sums to 1.
    inverse : array, shape (3,)
        1/a₀.
    """
    x = np.geomspace(0.01, 40.0, 120)
    q = 4.0 * np.pi * x * BOHR_ANGSTROM
    bare = 1.0 - elements.form_factor(z, x) / z

    def residual(p: NDArray[np.float64]) -> NDArray[np.float64]:
        strength, inverse = _terms(p)
        fitted = (strength[:, None] * q**2 / (q**2 + inverse[:, None] ** 2)).sum(axis=0)
        found: NDArray[np.float64] = (fitted - bare) / np.sqrt(bare)
        return found

    thomas_fermi = z ** (1.0 / 3.0) / 0.88534
    start = np.array([0.1, 0.55, *np.log(thomas_fermi * np.array([6.0, 1.2, 0.3]))])
    return _terms(_least_squares(residual, start))


def _terms(p: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([p[0], p[1], 1.0 - p[0] - p[1]]), np.exp(p[_TERMS - 1 :])


def _least_squares(residual: Residual, start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levenberg–Marquardt with differences for derivatives."""
    p, damping = start.copy(), 1e-3
    r = residual(p)
    for _ in range(_ROUNDS):
        jacobian = np.array([(residual(p + 1e-6 * e) - r) / 1e-6 for e in np.eye(p.size)]).T
        normal = jacobian.T @ jacobian
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -jacobian.T @ r)
        trial = residual(p + step)
        if trial @ trial < r @ r:
            p, damping = p + step, damping * 0.3
            done = (r @ r - trial @ trial) < 1e-12 * (r @ r)
            r = trial
            if done:
                break
        else:
            damping *= 4.0
    return p
