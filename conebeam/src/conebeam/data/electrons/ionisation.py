"""Ionisation of inner shells by electron impact: Bote and Salvat's analytical formulas.

With U = E/E_shell, up to U = 16

    σ = 4πa₀² (U − 1)/U² [a₁ + a₂U + (a₃ + a₄/(1+U)² + a₅/(1+U)⁴)/(1+U)]²,

a fit to distorted-wave calculations; above, with X = p/mc,

    σ = 4πa₀² A/β² U/(U + b) {[ln X² − β²](1 + g₁/X) + g₂ + g₃/γ^½ + g₄/X}.

References
----------
D. Bote, F. Salvat, A. Jablonski, C. J. Powell, At. Data Nucl. Data Tables 95 (2009) 871,
doi:10.1016/j.adt.2009.08.001, equations 3 and 4 and table 1 (K, L1, L2, L3 of Cu, Mo, Rh, W, Re),
the figures compared with those in NicholasWMRitchie/BoteSalvatICX.jl, ``src/xione.jl``, at 0e7c34a;
D. Bote, F. Salvat, Phys. Rev. A 77 (2008) 042701, doi:10.1103/PhysRevA.77.042701.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conebeam import constants
from conebeam.data import elements
from conebeam.data.electrons.stopping import beta_squared
from conebeam.errors import DataError

_BOHR_CM = 5.29177210903e-9
_BRANCH = 16.0


class Shell(NamedTuple):
    """Coefficients of one shell."""

    low: tuple[float, float, float, float, float]
    amplitude: float
    offset: float
    high: tuple[float, float, float, float]


_SHELLS: Mapping[int, tuple[Shell, ...]] = {
    29: (
        Shell((0.003, 5.0e-5, -0.00348, 0.00334, -0.00368), 6.49e-8, 0.765, (0.302, 6.26, -1.02, 0.454)),
        Shell((0.0237, 0.000123, -0.0273, 0.0163, 0.00688), 4.59e-7, 1.02, (0.0494, 8.23, -0.173, 0.0823)),
        Shell((0.0307, 0.000197, -0.037, 0.06, -0.0988), 8.76e-7, 0.959, (0.0401, 7.26, -0.151, 0.0813)),
        Shell((0.0446, 0.000283, -0.0537, 0.0872, -0.144), 1.8e-6, 0.959, (0.0361, 7.25, -0.0956, 0.0668)),
    ),
    42: (
        Shell((0.00128, 4.11e-5, -0.00141, 0.00145, -0.00164), 2.65e-8, 0.269, (0.794, 5.98, -2.59, 1.37)),
        Shell((0.0089, 6.86e-5, -0.00942, 0.0068, -0.00489), 1.67e-7, 0.913, (0.0773, 7.46, -0.248, 0.0596)),
        Shell((0.0109, 8.79e-5, -0.0118, 0.0206, -0.0359), 2.61e-7, 0.902, (0.116, 7.04, -0.443, 0.214)),
        Shell((0.0161, 0.000127, -0.0174, 0.0299, -0.0515), 5.43e-7, 0.909, (0.0826, 7.04, -0.235, 0.108)),
    ),
    45: (
        Shell((0.0011, 3.96e-5, -0.00122, 0.00148, -0.00218), 2.24e-8, 0.154, (0.923, 5.95, -3.05, 1.65)),
        Shell((0.00745, 6.29e-5, -0.00778, 0.00579, -0.00475), 1.39e-7, 0.875, (0.0791, 7.33, -0.252, 0.0359)),
        Shell((0.00904, 7.86e-5, -0.00963, 0.0169, -0.0295), 2.11e-7, 0.869, (0.148, 7.0, -0.561, 0.28)),
        Shell((0.0135, 0.000113, -0.0143, 0.0246, -0.0423), 4.4e-7, 0.876, (0.0984, 7.01, -0.29, 0.127)),
    ),
    74: (
        Shell((0.000384, 2.8e-5, -0.000585, 0.00179, -0.00403), 6.16e-9, -0.629, (2.74, 6.04, -9.08, 5.47)),
        Shell((0.00199, 4.04e-5, -0.00187, 0.0017, -0.00177), 3.35e-8, 0.266, (-0.0807, 6.62, 0.0023, -0.696)),
        Shell((0.00231, 4.66e-5, -0.00214, 0.00364, -0.0057), 4.65e-8, 0.261, (1.1, 6.84, -3.44, 2.36)),
        Shell((0.00377, 6.68e-5, -0.00343, 0.00572, -0.00864), 1.01e-7, 0.356, (0.431, 6.98, -1.38, 0.654)),
    ),
    75: (
        Shell((0.000375, 2.77e-5, -0.00058, 0.00181, -0.00409), 5.93e-9, -0.645, (2.83, 6.04, -9.36, 5.66)),
        Shell((0.00192, 4.0e-5, -0.0018, 0.00166, -0.00179), 3.22e-8, 0.241, (-0.0858, 6.61, 0.00501, -0.723)),
        Shell((0.00223, 4.62e-5, -0.00206, 0.00351, -0.00556), 4.46e-8, 0.233, (1.18, 6.83, -3.6, 2.51)),
        Shell((0.00365, 6.61e-5, -0.0033, 0.00551, -0.00831), 9.69e-8, 0.334, (0.456, 6.99, -1.45, 0.704)),
    ),
}  # fmt: skip


def cross_section(z: int, shell: str, energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cross section per atom.

    Parameters
    ----------
    z : int
        29, 42, 45, 74 or 75.
    shell : str
        ``K``, ``L1``, ``L2`` or ``L3``.
    energies : array, shape (n,)
        keV.

    Returns
    -------
    array, shape (n,)
        cm²; zero below the shell's edge (xraylib's).

    Raises
    ------
    DataError
        If the element is not in the table.
    """
    if z not in _SHELLS:
        raise DataError(f"ionisation by electrons must be of Z = 29, 42, 45, 74 or 75, not {z}")
    s = _SHELLS[z][elements.SHELLS.index(shell)]
    u = energies / elements.edge_energy(z, shell)
    above = np.where(u > 1.0, energies, 1.0)
    part = np.where(u <= _BRANCH, _near(s, np.maximum(u, 1.0)), _far(s, np.maximum(u, 1.0), above))
    found: NDArray[np.float64] = np.where(u > 1.0, 4.0 * np.pi * _BOHR_CM**2 * part, 0.0)
    return found


def _near(s: Shell, u: NDArray[np.float64]) -> NDArray[np.float64]:
    a1, a2, a3, a4, a5 = s.low
    v = 1.0 / (1.0 + u)
    found: NDArray[np.float64] = (u - 1.0) / u**2 * (a1 + a2 * u + v * (a3 + v**2 * (a4 + v**2 * a5))) ** 2
    return found


def _far(s: Shell, u: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
    g1, g2, g3, g4 = s.high
    tau, beta2 = energies / constants.ELECTRON_REST_KEV, beta_squared(energies)
    x = np.sqrt(tau * (tau + 2.0))
    bracket = (2.0 * np.log(x) - beta2) * (1.0 + g1 / x) + g2 + g3 / np.sqrt(tau + 1.0) + g4 / x
    found: NDArray[np.float64] = s.amplitude / beta2 * u / (u + s.offset) * bracket
    return found
