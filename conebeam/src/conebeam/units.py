"""Units: what the kernels count in, and factors to what results are quoted in.

Lengths are cm, energies keV, masses g, densities g/cm³ throughout.
"""

from __future__ import annotations

from conebeam.errors import ConfigError

JOULE_PER_KEV = 1.602176634e-16
GRAY_PER_KEV_PER_GRAM = JOULE_PER_KEV * 1e3
MICROGRAY = 1e-6


def parse_length_cm(text: str, what: str) -> float:
    """A length such as ``2.5mm``, ``10`` (cm) or ``1.2 cm`` in cm.

    Raises
    ------
    ConfigError
        If the text is no positive length.
    """
    stripped = text.strip()
    for suffix, factor in (("mm", 0.1), ("cm", 1.0), ("um", 1e-4), ("", 1.0)):
        if stripped.endswith(suffix):
            number = stripped[: len(stripped) - len(suffix)]
            break
    try:
        value = float(number) * factor
    except ValueError:
        value = float("nan")
    if not 0.0 < value < 1e6:
        raise ConfigError(f"{what} must be a positive length such as 2.5mm or 10cm, not '{text}'")
    return value
