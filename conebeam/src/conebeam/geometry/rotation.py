"""Rotations as plain 3×3 tuples, checked once.

A rotation here takes local coordinates to world coordinates:
``world = rotation @ local + translation``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from conebeam.errors import GeometryError

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_TOLERANCE = 1e-9


def rotation_matrix(*, x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> Matrix:
    """Turn about the fixed axes x, then y, then z (right-handed, degrees).

    Returns
    -------
    Matrix
        R = Rz(z) · Ry(y) · Rx(x), local to world.  Multiples of 90° are exact.
    """
    product = _about(2, z_deg) @ _about(1, y_deg) @ _about(0, x_deg)
    return _as_matrix(product)


def check_rotation(matrix: Matrix, owner: str) -> NDArray[np.float64]:
    """Return the matrix as an array, shape (3, 3), or refuse what is no rotation.

    Raises
    ------
    GeometryError
        If the matrix is not orthonormal or has determinant −1.
    """
    array = np.asarray(matrix, dtype=np.float64)
    if (
        array.shape != (3, 3)
        or not np.all(np.isfinite(array))
        or np.abs(array @ array.T - np.eye(3)).max() > _TOLERANCE
        or np.linalg.det(array) < 0.0
    ):
        raise GeometryError(
            f"the rotation of {owner} must be a proper orthonormal 3x3 matrix, "
            f"not {array.tolist()}; build it with rotation_matrix(x_deg=, y_deg=, z_deg=)"
        )
    return array


def check_vector(vector: Vector, what: str) -> NDArray[np.float64]:
    """Return three finite numbers as an array, or raise GeometryError."""
    array = np.asarray(vector, dtype=np.float64)
    if array.shape != (3,) or not np.all(np.isfinite(array)):
        raise GeometryError(f"{what} must be three finite numbers in cm, not {array.tolist()}")
    return array


def _about(axis: int, degrees: float) -> NDArray[np.float64]:
    if not math.isfinite(degrees):
        raise GeometryError(f"a rotation angle must be a finite number of degrees, not {degrees}")
    quarter, rest = divmod(degrees, 90.0)
    if rest == 0.0:
        cosine, sine = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarter) % 4]
    else:
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(3)
    j, k = (axis + 1) % 3, (axis + 2) % 3
    matrix[j, j] = matrix[k, k] = cosine
    matrix[j, k], matrix[k, j] = -sine, sine
    return matrix


def _as_matrix(array: NDArray[np.float64]) -> Matrix:
    rows = [(float(r[0]), float(r[1]), float(r[2])) for r in array]
    return rows[0], rows[1], rows[2]
