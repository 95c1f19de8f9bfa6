"""Multiple elastic scattering on a step, as tables of quantiles.

On a path s an electron is deflected on average n = s/λ times, and its direction after it
has the Legendre moments exp(−n gₗ), gₗ = ⟨1 − Pₗ(cos θ)⟩ over one collision (S. Goudsmit,
J. L. Saunderson, Phys. Rev. 57 (1940) 24, doi:10.1103/PhysRev.57.24).  Not scattered
(e⁻ⁿ) and scattered once (n e⁻ⁿ times the single distribution) are taken out of the
series; what is left converges within some hundred terms.

Steps come in fixed lengths κλ₁, κ = 2⁻⁵ … 1.  For each and each energy the table holds
μ = (1 − cos θ)/2 at quantiles ξ through the map μ = A u/(1 + A − u), A being the median, in
which u(ξ) is nearly linear; quantiles above 15/16 are eight times as close, for the tail is
where backscattering comes from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 6
STEPS = 2.0 ** np.arange(-5, 1)  # in transport mean free paths
TAIL_FROM = 0.9375
BODY, TAIL = 120, 136
QUANTILES = BODY + TAIL + 1
XI = np.concatenate((
    np.arange(BODY + 1) * (TAIL_FROM / BODY), TAIL_FROM + np.arange(1, TAIL + 1) * ((1.0 - TAIL_FROM) / TAIL)
))  # fmt: skip
_MOMENTS = 1200

Table = tuple[NDArray[np.float64], float]


class Legendre:
    """Legendre polynomials and their integrals on a grid of μ.

    Attributes
    ----------
    values : array, shape (n, 1200)
        Pₗ(1 − 2μ).
    integrals : array, shape (n, 1200)
        ∫ (2l + 1)/2 Pₗ(c) dc from 1 − 2μ to 1.
    """

    def __init__(self, mu: NDArray[np.float64]) -> None:
        c = 1.0 - 2.0 * mu
        values = np.empty((_MOMENTS + 1, mu.size))
        values[0], values[1] = 1.0, c
        for m in range(1, _MOMENTS):
            values[m + 1] = ((2.0 * m + 1.0) * c * values[m] - m * values[m - 1]) / (m + 1.0)
        self.values = values[:_MOMENTS].T
        self.integrals = np.empty((_MOMENTS, mu.size)).T
        self.integrals[:, 0] = 0.5 * (1.0 - c)
        self.integrals[:, 1:] = 0.5 * (values[:-2] - values[2:]).T


def multiple(
    legendre: Legendre,
    mu: NDArray[np.float64],
    weight: NDArray[np.float64],
    cumulative: NDArray[np.float64],
    ratio: float,
) -> list[Table]:
    """Quantile tables of all step lengths.

    Parameters
    ----------
    legendre : Legendre
        On ``mu``.
    mu : array, shape (n,)
    weight : array, shape (n,)
        Integration weights of the single distribution; sum to 1.
    cumulative : array, shape (n,)
        Of the single distribution.
    ratio : float
        λ₁/λ.
    """
    g = 1.0 - weight @ legendre.values
    found = []
    for length in STEPS:
        n = length * ratio
        none = np.exp(-n)
        once = n * none
        left = np.exp(-n * g) - none - once * (1.0 - g)
        total = none + once * cumulative + legendre.integrals @ left
        found.append(_quantiles(mu, np.maximum.accumulate(np.clip(total, none, 1.0))))
    return found


def single(mu: NDArray[np.float64], cumulative: NDArray[np.float64]) -> Table:
    """The same table for one collision."""
    return _quantiles(mu, cumulative)


def _quantiles(mu: NDArray[np.float64], cumulative: NDArray[np.float64]) -> Table:
    rising = cumulative + np.arange(cumulative.size) * 1e-15
    at = np.interp(XI, rising, mu)
    at[cumulative[0] >= XI] = 0.0
    at[-1] = 1.0
    half = max(float(np.interp(0.5, cumulative, mu)), 1e-6)
    return at * (1.0 + half) / (half + at), half
