"""Percent differences with the uncertainty of both sides, and what share is small.

With o ours (scaled by the normalisation), r the reference and b the base,

    d = (o − r) / b,   σ₁ = σ_o·o/b,   σ₂ = σ_r·r/b,

and a point is within the tolerance t *beyond statistics* if |d| − 2√(σ₁² + σ₂²) ≤ t.
The base is r itself (local) or one number for the whole curve (its maximum or its
value somewhere), which is how profiles with a steep fall are judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conebeam.compare.reference import Curve
from conebeam.errors import ConfigError, DataError

_SAME = 1e-6


@dataclass(frozen=True)
class Absolute:
    """Compare as they are, in the same unit per the same thing."""

    def factor(self, ours: Curve, reference: Curve) -> tuple[float, float]:
        """Factor on ours, and its relative variance."""
        return 1.0, 0.0

    def __str__(self) -> str:
        return "absolute"


@dataclass(frozen=True)
class AtMaximum:
    """Scale ours, or take as base, by the largest value."""

    def factor(self, ours: Curve, reference: Curve) -> tuple[float, float]:
        """Factor on ours, and its relative variance."""
        i, j = int(np.argmax(ours.value)), int(np.argmax(reference.value))
        return _ratio(
            (float(reference.value[j]), float(reference.sigma[j])),
            (float(ours.value[i]), float(ours.sigma[i])),
        )

    def base(self, reference: Curve) -> NDArray[np.float64]:
        """One number for every point."""
        return np.full(len(reference.value), reference.value.max())

    def __str__(self) -> str:
        return "maximum"


@dataclass(frozen=True)
class AtPosition:
    """Scale ours, or take as base, by the value at a position."""

    position: float

    def factor(self, ours: Curve, reference: Curve) -> tuple[float, float]:
        """Factor on ours, and its relative variance."""
        return _ratio(reference.at(self.position), ours.at(self.position))

    def base(self, reference: Curve) -> NDArray[np.float64]:
        """One number for every point."""
        return np.full(len(reference.value), reference.at(self.position)[0])

    def __str__(self) -> str:
        return f"value at {self.position:g}"


@dataclass(frozen=True)
class Local:
    """The base is the reference's own value at each point."""

    def base(self, reference: Curve) -> NDArray[np.float64]:
        """The values themselves."""
        return reference.value

    def __str__(self) -> str:
        return "local"


Normalisation = Absolute | AtMaximum | AtPosition
Base = Local | AtMaximum | AtPosition


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Differences at the reference's points that lie on our curve.

    All arrays have shape (n,); differences and σ are fractions of the base, σ NaN where it is not known.
    """

    position: NDArray[np.float64]
    ours: NDArray[np.float64]
    reference: NDArray[np.float64]
    difference: NDArray[np.float64]
    sigma_ours: NDArray[np.float64]
    sigma_reference: NDArray[np.float64]
    tolerance: float
    normalisation: str
    base: str
    outside: int

    @property
    def share_within(self) -> float:
        """Share of points with |d| ≤ tolerance."""
        return float(np.mean(np.abs(self.difference) <= self.tolerance))

    @property
    def share_within_statistics(self) -> float:
        """Share of points with |d| − 2σ ≤ tolerance."""
        return float(np.mean(self.excess() <= self.tolerance))

    @property
    def mean(self) -> float:
        """Mean difference."""
        return float(self.difference.mean())

    @property
    def rms(self) -> float:
        """Root of the mean squared difference."""
        return float(np.sqrt(np.mean(self.difference**2)))

    @property
    def worst(self) -> int:
        """Index of the largest |d|."""
        return int(np.argmax(np.abs(self.difference)))

    def excess(self) -> NDArray[np.float64]:
        """|d| − 2√(σ₁² + σ₂²), shape (n,); a σ that is not known allows nothing."""
        both = np.hypot(np.nan_to_num(self.sigma_ours), np.nan_to_num(self.sigma_reference))
        excess: NDArray[np.float64] = np.abs(self.difference) - 2.0 * both
        return excess

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers and lists, for JSON."""
        arrays = ("position", "ours", "reference", "difference")
        return {
            **{name: getattr(self, name).tolist() for name in arrays},
            **{
                name: [None if math.isnan(value) else value for value in getattr(self, name).tolist()]
                for name in ("sigma_ours", "sigma_reference")
            },
            "tolerance": self.tolerance,
            "normalisation": self.normalisation,
            "relative_to": self.base,
            "points": len(self.position),
            "points_outside": self.outside,
            "share_within": self.share_within,
            "share_within_beyond_2_sigma": self.share_within_statistics,
            "mean_difference": self.mean,
            "rms_difference": self.rms,
            "largest_difference": float(self.difference[self.worst]),
            "largest_at": float(self.position[self.worst]),
        }


def compare_curves(
    ours: Curve,
    reference: Curve,
    *,
    tolerance: float = 0.02,
    normalisation: Normalisation = Absolute(),
    base: Base = Local(),
) -> Comparison:
    """Compare our curve with a reference at the reference's points.

    Where a point is none of our bin centres, ours is taken linearly between them;
    points beyond our first and last centre are left out and counted.

    Raises
    ------
    DataError
        If no point lies on our curve, or a base vanishes.
    ConfigError
        If the tolerance is not positive.
    """
    if not (math.isfinite(tolerance) and tolerance > 0.0):
        raise ConfigError(f"the tolerance must be positive (0.02 is 2 %), not {tolerance}")
    factor, variance = normalisation.factor(ours, reference)
    low, high = ours.position[0] - _SAME, ours.position[-1] + _SAME
    on = (reference.position >= low) & (reference.position <= high)
    if not on.any():
        raise DataError(
            f"curves '{ours.name}' and '{reference.name}' must overlap, and do not: "
            f"{ours.position[0]:g} to {ours.position[-1]:g} and "
            f"{reference.position[0]:g} to {reference.position[-1]:g}"
        )
    at, theirs = reference.position[on], reference.value[on]
    values = factor * np.interp(at, ours.position, ours.value)
    sigma = np.sqrt(np.interp(at, ours.position, ours.sigma) ** 2 + variance)
    scale = base.base(reference)[on]
    if np.any(scale == 0.0):
        raise DataError(
            f"reference '{reference.name}' must not be zero where it is the base; "
            "take the differences relative to max"
        )
    return Comparison(
        position=at,
        ours=values,
        reference=theirs,
        difference=(values - theirs) / scale,
        sigma_ours=np.abs(sigma * values / scale),
        sigma_reference=np.abs(reference.sigma[on] * theirs / scale),
        tolerance=tolerance,
        normalisation=str(normalisation),
        base=str(base),
        outside=int((~on).sum()),
    )


def parse_normalisation(text: str) -> Normalisation:
    """``absolute``, ``max`` or ``at:POSITION``."""
    if text == "absolute":
        return Absolute()
    return _parse(text, "the normalisation", "absolute, max or at:POSITION")


def parse_base(text: str) -> Base:
    """``local``, ``max`` or ``at:POSITION``."""
    if text == "local":
        return Local()
    return _parse(text, "what differences are relative to", "local, max or at:POSITION")


def _parse(text: str, what: str, choices: str) -> AtMaximum | AtPosition:
    if text == "max":
        return AtMaximum()
    try:
        if text.startswith("at:"):
            return AtPosition(float(text[3:]))
    except ValueError:
        pass
    raise ConfigError(f"{what} must be {choices}, not '{text}'")


def _ratio(top: tuple[float, float], bottom: tuple[float, float]) -> tuple[float, float]:
    if bottom[0] == 0.0:
        raise DataError("a curve must not be zero where it is normalised")
    return top[0] / bottom[0], top[1] ** 2 + bottom[1] ** 2
