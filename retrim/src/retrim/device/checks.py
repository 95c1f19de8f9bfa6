"""What every number of a device must be, in one sentence where it is not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from retrim.errors import DeviceError

LEAST = 1e-9
"""Of milliseconds and cycles: with less a battery would serve more than can be counted."""


def number(name: str, value: Any, *, least: float = 0.0, most: float = 1e12, above: bool = False) -> float:
    """`value` as a float within bounds.

    Parameters
    ----------
    above : bool
        Whether `least` itself is refused.

    Raises
    ------
    DeviceError
    """
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right or not least <= value <= most or (above and value == least):
        low = f"above {least:g}" if above else f"of at least {least:g}"
        raise DeviceError(f"{name} must be a number {low} and at most {most:g}, not {value!r}")
    return float(value)


def whole(name: str, value: Any, *, least: int = 1, most: int = 1 << 40) -> int:
    """`value` as a whole number within bounds.

    Raises
    ------
    DeviceError
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DeviceError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return value


def words(name: str, value: Any) -> str:
    """`value` as text that is not empty.

    Raises
    ------
    DeviceError
    """
    if not isinstance(value, str) or not value.strip():
        raise DeviceError(f"{name} must be text that is not empty, not {value!r}")
    return value


def table(
    name: str, value: Any, *, needs: Collection[str] = (), may: Collection[str] = ()
) -> Mapping[str, Any]:
    """`value` as a table with all keys of `needs`, some of `may`, and no others.

    Raises
    ------
    DeviceError
    """
    if not isinstance(value, Mapping):
        raise DeviceError(f"{name} must be a table, not {value!r}")
    for key in needs:
        if key not in value:
            raise DeviceError(f"{name} must say {key!r}; it has {', '.join(map(str, value)) or 'nothing'}")
    for key in value:
        if key not in needs and key not in may:
            raise DeviceError(f"{name} must not say {key!r}; it may say {', '.join((*needs, *may))}")
    return value
