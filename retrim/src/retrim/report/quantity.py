"""Quantities as a reader wants them: text for numbers, sizes, times and densities."""

from __future__ import annotations

import math
from typing import Any

ABSENT = "–"
_GAP = "\u202f"


def finite(value: Any) -> float | None:
    """The value as a float, or None where it is missing, no number, NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def fixed(value: Any, decimals: int, unit: str = "") -> str:
    """A number with that many decimals and a unit, or a dash."""
    found = finite(value)
    return ABSENT if found is None else f"{found:,.{decimals}f}{unit}".replace(",", _GAP).replace("-", "−")


def factor(value: Any) -> str:
    """A speed-up: 1.62×."""
    return fixed(value, 2, "×")


def percent(share: Any, decimals: int = 1) -> str:
    """A share of one as per cent."""
    found = finite(share)
    return ABSENT if found is None else fixed(100 * found, decimals, f"{_GAP}%")


def milliseconds(value: Any) -> str:
    """A duration in milliseconds."""
    found = finite(value)
    if found is None:
        return ABSENT
    return fixed(found, 1 if found >= 100 else 2 if found >= 1 else 3)


def size(count: Any) -> str:
    """Bytes in decimal units."""
    found = finite(count)
    if found is None:
        return ABSENT
    units = ["B", "kB", "MB", "GB"]
    while abs(found) >= 999.5 and len(units) > 1:
        found /= 1000
        del units[0]
    unit = units[0]
    return fixed(found, 0 if unit == "B" or found >= 99.95 else 1, f"{_GAP}{unit}")


def duration(seconds: Any) -> str:
    """A time span in minutes and seconds."""
    found = finite(seconds)
    if found is None:
        return ABSENT
    if found < 99.95:
        return fixed(found, 1, f"{_GAP}s")
    minutes, rest = divmod(round(found), 60)
    return f"{minutes}{_GAP}min {rest}{_GAP}s"


def density(value: Any) -> str:
    """A density as the fraction 1/n where it is one, otherwise with three decimals."""
    found = finite(value)
    if found is None:
        return ABSENT
    if found > 0 and (whole := round(1 / found)) <= 64 and abs(found * whole - 1) < 0.005:
        return "1" if whole == 1 else f"1/{whole}"
    return f"{found:.3f}"


def plain(value: Any) -> str:
    """A setting of any kind as text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    return str(value)
