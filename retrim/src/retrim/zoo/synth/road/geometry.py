"""Where a road lies before the camera, and where a pinhole camera sees it.

The road's centre line has a curvature that changes linearly along it (a
clothoid, to third order in the distance), the ground a slope that does.  The
camera does not roll; its pitch is the row of the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FAR = 400.0
"""Where the ground ends, in metres."""


@dataclass(frozen=True, kw_only=True)
class Road:
    """A camera above a road.

    Coordinates: z ahead of the camera, s across the road from the middle of the
    camera's lane to the right, y above the ground; all in metres.

    Parameters
    ----------
    size : (width, height)
        Of the image in pixels.
    focal, horizon : float
        Focal length, and row of the horizon of flat ground, in pixels.
    above : float
        The camera over the ground.
    aside : float
        The camera right of the middle of its lane.
    heading : float
        The road's direction at the camera, as a slope.
    curvature : float
        1 / radius of the road at the camera, positive to the right, in 1/m.
    bending : float
        Change of the curvature, in 1/m^2.
    rising : float
        Change of the ground's slope, in 1/m.
    """

    size: tuple[int, int]
    focal: float
    horizon: float
    above: float
    aside: float = 0.0
    heading: float = 0.0
    curvature: float = 0.0
    bending: float = 0.0
    rising: float = 0.0

    def depth(self, rows: np.ndarray) -> np.ndarray:
        """Distance z of the ground seen in a row; infinite above the ground's end.

        The nearer solution of row = horizon + focal (above / z - rising z / 2).
        """
        down = np.asarray(rows, dtype=np.float64) - self.horizon
        inside = down * down + 2 * self.focal**2 * self.rising * self.above
        below = down + np.sqrt(np.maximum(inside, 0))
        seen = (inside >= 0) & (below > 2 * self.focal * self.above / FAR)
        return np.where(seen, 2 * self.focal * self.above / np.where(seen, below, 1.0), np.inf)

    def centre(self, z: np.ndarray) -> np.ndarray:
        """Where s = 0 lies right of the camera's axis at distance z."""
        z = np.asarray(z)
        return z * (self.heading + z * (self.curvature / 2 + z * (self.bending / 6))) - self.aside

    def direction(self, z: float) -> float:
        """Slope of the road against the camera's axis at distance z."""
        return self.heading + z * (self.curvature + z * self.bending / 2)

    def project(self, z: np.ndarray, s: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of points of the road, in pixels."""
        z = np.asarray(z, dtype=np.float64)
        column = self.size[0] / 2 + self.focal * (self.centre(z) + s) / z
        row = self.horizon + self.focal * ((self.above - y) / z - self.rising * z / 2)
        return column, row

    def columns(self, s: float, rows: np.ndarray, end: float) -> np.ndarray:
        """Column of a line along the road in each row; -2 beyond `end` metres or the image."""
        z = self.depth(rows)
        seen = z <= end
        column = self.project(np.where(seen, z, end), np.full(len(z), s), np.zeros(len(z)))[0]
        return np.where(seen & (column >= 0) & (column <= self.size[0] - 1), column, -2.0)


def drawn(random: np.random.Generator, size: tuple[int, int]) -> Road:
    """A road at random, before a camera like TuSimple's."""
    unit = size[0] / 1280
    changing = random.random() < 0.12
    aside = random.uniform(0.9, 1.7) * random.choice([-1, 1]) if changing else random.normal(0, 0.2)
    return Road(
        size=size,
        focal=random.uniform(850, 1150) * unit,
        horizon=random.uniform(215, 275) * size[1] / 720,
        above=random.uniform(1.3, 1.8),
        aside=float(aside),
        heading=float(random.normal(0, 0.025 if changing else 0.012)),
        curvature=float(random.normal(0, 1 / 900) if random.random() < 0.6 else random.normal(0, 1 / 6000)),
        bending=float(random.normal(0, 6e-6)),
        rising=float(random.normal(0, 6e-5)),
    )
