"""The ground: a road that bends, kerbs, and what is uneven."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCANNER_HEIGHT = 1.73
"""Of KITTI's scanner above the road, in metres."""

_KERB = 0.12


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """Heights, and the road's own coordinates: s along it, n to the left of the scanner's lane.

    Parameters
    ----------
    heading, curvature : float
        Of the road at the scanner, in radians and 1/m.
    right, left : float
        n of the kerbs in metres.
    slope : (x, y)
        Of the plane.
    waves : ndarray, shape (k, 4)
        Height in metres, wave numbers along x and y in 1/m, phase.
    """

    heading: float
    curvature: float
    right: float
    left: float
    slope: tuple[float, float]
    waves: np.ndarray

    @classmethod
    def drawn(cls, generator: np.random.Generator, right: float, left: float) -> Ground:
        """Any ground with kerbs at n = `right` and `left`."""
        count = 4
        length = generator.uniform(8, 50, count)
        way = generator.uniform(0, 2 * np.pi, count)
        return cls(
            heading=float(generator.normal(0, 0.03)),
            curvature=float(generator.normal(0, 0.002)),
            right=right,
            left=left,
            slope=(float(generator.normal(0, 0.006)), float(generator.normal(0, 0.01))),
            waves=np.column_stack(
                (
                    generator.uniform(0, 0.04, count),
                    2 * np.pi / length * np.cos(way),
                    2 * np.pi / length * np.sin(way),
                    generator.uniform(0, 2 * np.pi, count),
                )
            ),
        )

    def place(self, s: float, n: float) -> tuple[float, float, float]:
        """x, y and the road's heading at s, n."""
        heading = self.heading + self.curvature * s
        y = self.heading * s + self.curvature * s * s / 2
        return float(s - n * np.sin(heading)), float(y + n * np.cos(heading)), float(heading)

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """z of the ground, shape as x and y."""
        z = -SCANNER_HEIGHT + self.slope[0] * x + self.slope[1] * y
        for size, kx, ky, phase in self.waves:
            z = z + size * (np.sin(kx * x + ky * y + phase) - np.sin(phase))
        return np.asarray(z + _KERB * self.beyond_kerb(x, y))

    def beyond_kerb(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """0 on the road, 1 beside it, within 0.2 m in between."""
        n = y - self.heading * x - self.curvature * x * x / 2
        return np.asarray(np.clip((n - self.left) * 5, 0, 1) + np.clip((self.right - n) * 5, 0, 1))

    def hit(self, rays: np.ndarray, most: float) -> np.ndarray:
        """Distance at which rays (…, 3) meet the ground, by halving; infinity beyond `most`."""
        near, far = np.zeros(rays.shape[:-1]), np.full(rays.shape[:-1], most)
        below = self._above(rays, far) < 0
        for _ in range(15):  # to 4 mm of 120 m
            middle = (near + far) / 2
            above = self._above(rays, middle) > 0
            near, far = np.where(above, middle, near), np.where(above, far, middle)
        return np.where(below, (near + far) / 2, np.inf)

    def _above(self, rays: np.ndarray, distance: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(rays * distance[..., None], -1, 0)
        return np.asarray(z - self.height(x, y))
