"""Where the scanner, the camera and the image are to each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrim.errors import DataError

_SHAPES = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}
_NEAR = 1e-3  # metres; what is nearer to the camera's plane than this has no image


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Calibration of a frame.

    Attributes
    ----------
    projection : ndarray, shape (3, 4)
        P2, from the camera's coordinates to pixels.
    rectification : ndarray, shape (3, 3)
        R0_rect.
    transformation : ndarray, shape (3, 4)
        Tr_velo_to_cam.
    """

    projection: np.ndarray
    rectification: np.ndarray
    transformation: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """From the scanner to the rectified camera, shape (3, 4)."""
        return np.asarray(self.rectification @ self.transformation)

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Points of the scanner's coordinates in the camera's, shape (…, 3)."""
        matrix = self.matrix
        return np.asarray(points @ matrix[:, :3].T + matrix[:, 3])

    def to_scanner(self, points: np.ndarray) -> np.ndarray:
        """Points of the camera's coordinates in the scanner's, shape (…, 3)."""
        matrix = self.matrix
        return np.asarray((points - matrix[:, 3]) @ np.linalg.inv(matrix[:, :3]).T)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of points in the camera's coordinates.

        Returns
        -------
        pixels : ndarray, shape (…, 2)
        depth : ndarray, shape (…,)
            Behind the camera where it is not above 0; the pixels mean nothing there.
        """
        image = points @ self.projection[:, :3].T + self.projection[:, 3]
        depth = image[..., 2]
        return image[..., :2] / np.where(np.abs(depth) < _NEAR, _NEAR, depth)[..., None], depth

    def in_view(self, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Which points of the scanner fall into an image of `size` (width, height), bool (n,)."""
        pixels, depth = self.project(self.to_camera(points[:, :3]))
        return np.asarray(
            (depth > _NEAR)
            & (pixels[:, 0] >= 0)
            & (pixels[:, 0] < size[0])
            & (pixels[:, 1] >= 0)
            & (pixels[:, 1] < size[1])
        )

    def text(self) -> str:
        """The same as a calibration file."""
        named = zip(_SHAPES, (self.projection, self.rectification, self.transformation), strict=True)
        return "".join(f"{key}: {' '.join(f'{v:.12e}' for v in value.ravel())}\n" for key, value in named)


def read_calibration(path: Path | str) -> Calibration:
    """Read a calibration file; keys other than those used are passed over.

    Raises
    ------
    DataError
        If it is missing, lacks a key, or a key does not hold its numbers.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise DataError(
            f"calibration {str(path)!r} cannot be read: {why}; unpack KITTI's calib files there"
        ) from error
    found = {}
    for number, line in enumerate(lines, 1):
        key, _, rest = line.partition(":")
        if key in _SHAPES:
            found[key] = _matrix(path, number, key, rest.split())
    missing = [key for key in _SHAPES if key not in found]
    if missing:
        raise DataError(f"calibration {str(path)!r} must hold {', '.join(missing)}: fetch it again")
    return Calibration(
        projection=found["P2"], rectification=found["R0_rect"], transformation=found["Tr_velo_to_cam"]
    )


def _matrix(path: Path, number: int, key: str, words: list[str]) -> np.ndarray:
    shape = _SHAPES[key]
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.array([])
    if values.size != shape[0] * shape[1] or not np.isfinite(values).all():
        raise DataError(
            f"calibration {str(path)!r}, line {number}, must hold {shape[0] * shape[1]} numbers after {key}: "
            "fetch it again"
        )
    matrix = values.reshape(shape)
    if abs(np.linalg.det(matrix[:, :3])) < 1e-6:
        raise DataError(
            f"calibration {str(path)!r}, line {number}, must hold a matrix {key} that can be inverted: fetch it again"
        )
    return matrix
