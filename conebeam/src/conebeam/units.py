"""Units: what the kernels count in, and factors to what results are quoted in.

Lengths are cm, energies keV, masses g, densities g/cm³ throughout.
"""

from __future__ import annotations

JOULE_PER_KEV = 1.602176634e-16
GRAY_PER_KEV_PER_GRAM = JOULE_PER_KEV * 1e3
