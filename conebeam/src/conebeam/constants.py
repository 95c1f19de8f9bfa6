"""Physical constants in the package's units (keV, cm, g, Å).

CODATA 2018, doi:10.1103/RevModPhys.93.025010.
"""

from __future__ import annotations

ELECTRON_REST_KEV = 510.99895
PLANCK_C_KEV_ANGSTROM = 12.398419843320026
AVOGADRO = 6.02214076e23
CLASSICAL_ELECTRON_RADIUS_CM = 2.8179403262e-13
