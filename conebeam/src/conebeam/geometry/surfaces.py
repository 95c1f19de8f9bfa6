"""Planes and quadrics as ten coefficients, and signed half-spaces of them.

A surface is the zero set of

    f(x, y, z) = xx·x² + yy·y² + zz·z² + xy·xy + yz·yz + xz·xz + x·x + y·y + z·z + c,

scaled so that f is close to the signed distance in cm near the surface: the
tolerances of the walk and of the overlap check are then lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import GeometryError

PLANE = 0
QUADRIC = 1

Coefficients = tuple[float, float, float, float, float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class HalfSpace:
    """The points where ``sign · f ≤ 0``.

    Parameters
    ----------
    coefficients : tuple of 10 floats
        xx, yy, zz, xy, yz, xz, x, y, z, constant.
    sign : int
        +1 keeps f ≤ 0 (inside a sphere), −1 keeps f ≥ 0 (outside it).
    """

    coefficients: Coefficients
    sign: int = 1

    def __post_init__(self) -> None:
        if self.sign not in (-1, 1):
            raise GeometryError(f"the sign of a half-space must be -1 or 1, not {self.sign}")
        if len(self.coefficients) != 10 or not np.all(np.isfinite(self.coefficients)):
            raise GeometryError(f"a surface must have ten finite coefficients, not {self.coefficients}")
        if not any(self.coefficients[:9]):
            raise GeometryError("a surface must depend on x, y or z, not be constant")

    def __invert__(self) -> HalfSpace:
        return HalfSpace(coefficients=self.coefficients, sign=-self.sign)

    @property
    def kind(self) -> int:
        """PLANE if no second-degree coefficient is set, else QUADRIC."""
        return QUADRIC if any(self.coefficients[:6]) else PLANE

    def value(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """``sign · f`` at points of shape (n, 3): ≤ 0 is inside."""
        return self.sign * evaluate(np.asarray(self.coefficients), points)


def plane(normal: NDArray[np.float64], offset: float) -> HalfSpace:
    """Half-space ``n · p ≤ offset`` with n = normal / |normal| (offset in cm)."""
    length = float(np.linalg.norm(normal))
    if not np.isfinite(length) or length == 0.0:
        raise GeometryError(f"the normal of a plane must not vanish, not {normal.tolist()}")
    n = normal / length
    return HalfSpace(
        coefficients=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, float(n[0]), float(n[1]), float(n[2]),
                      -float(offset))
    )  # fmt: skip


def placed_quadric(
    matrix: NDArray[np.float64],
    linear: NDArray[np.float64],
    constant: float,
    rotation: NDArray[np.float64],
    translation: NDArray[np.float64],
) -> HalfSpace:
    """Half-space of qᵀ M q + b·q + c ≤ 0 with q = Rᵀ (p − t), in world coordinates p.

    Parameters
    ----------
    matrix : array, shape (3, 3)
        Symmetric M in local coordinates.
    linear : array, shape (3,)
        b in local coordinates.
    constant : float
        c.
    rotation, translation : arrays, shapes (3, 3) and (3,)
        Local to world.
    """
    m = rotation @ matrix @ rotation.T
    b = rotation @ linear
    shifted = b - 2.0 * m @ translation
    c = float(translation @ m @ translation - b @ translation + constant)
    return HalfSpace(
        coefficients=(
            float(m[0, 0]), float(m[1, 1]), float(m[2, 2]),
            float(2.0 * m[0, 1]), float(2.0 * m[1, 2]), float(2.0 * m[0, 2]),
            float(shifted[0]), float(shifted[1]), float(shifted[2]), c,
        )
    )  # fmt: skip


def evaluate(coefficients: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """F at points of shape (n, 3); returns shape (n,)."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    a = coefficients
    result: NDArray[np.float64] = (
        x * (a[0] * x + a[3] * y + a[5] * z + a[6])
        + y * (a[1] * y + a[4] * z + a[7])
        + z * (a[2] * z + a[8])
        + a[9]
    )
    return result


def gradient(coefficients: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient of f at points of shape (n, 3); returns shape (n, 3)."""
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    a = coefficients
    return np.stack(
        (
            2.0 * a[0] * x + a[3] * y + a[5] * z + a[6],
            2.0 * a[1] * y + a[3] * x + a[4] * z + a[7],
            2.0 * a[2] * z + a[4] * y + a[5] * x + a[8],
        ),
        axis=1,
    )
