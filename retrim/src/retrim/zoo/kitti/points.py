"""Scans: four numbers a point, as float32 in a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retrim.errors import DataError

_BYTES = 16


def read_points(path: Path | str) -> np.ndarray:
    """Points of a scan.

    Parameters
    ----------
    path : Path
        A `.bin` of KITTI's `velodyne` folder.

    Returns
    -------
    ndarray of float32, shape (n, 4)
        x, y, z in metres (ahead, left, up), reflectance from 0 to 1.

    Raises
    ------
    DataError
        If the file is missing, empty, cut, or holds NaN or infinity.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"scan {str(path)!r} cannot be read: {error.strerror or error}; unpack KITTI's velodyne files there"
        ) from error
    if not data or len(data) % _BYTES:
        raise DataError(
            f"scan {str(path)!r} must be {_BYTES} bytes a point and not empty, but has {len(data)} bytes: "
            "fetch it again"
        )
    points = np.frombuffer(data, dtype="<f4").reshape(-1, 4)
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        raise DataError(
            f"scan {str(path)!r} must hold finite numbers, but point {int(np.argmin(finite))} does not: fetch it again"
        )
    return points
