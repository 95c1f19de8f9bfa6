"""A scanner of 64 beams: what comes back from a street.

References
----------
Velodyne HDL-64E S2 manual: angles of the beams, range, accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrim.zoo.synth.scan.ground import Ground
from retrim.zoo.synth.scan.shapes import Shape
from retrim.zoo.synth.scan.street import Street

ELEVATIONS = np.deg2rad(np.concatenate((2 - np.arange(32) / 3, -8.83 - np.arange(32) / 2)))
"""Of the beams, from the top: 32 to -8.33 degrees, 32 to -24.33."""

STEP = np.deg2rad(0.18)
"""Between columns."""

_HALF_VIEW = np.deg2rad(43)
_RANGE = 120.0
_NOISE = 0.02
_LOST = 0.03  # of all returns, for no reason
_GAIN = 150.0  # expected photons of a white wall at 30 m, in units of what is detected
_GLANCE = 0.02
_STEEPEST = np.deg2rad(1.5)  # beams above meet no ground: it rises gently
_ROAD, _PAVEMENT = 0.22, 0.3
_GROUND = -1


@dataclass(frozen=True, eq=False)
class Scan:
    """What the scanner measured, and of what.

    Attributes
    ----------
    points : ndarray of float32, shape (n, 4)
        x, y, z, reflectance.
    owners : ndarray of int, shape (n,)
        Thing that each point lies on, -1 for the ground.
    alone : ndarray of int, shape (things,)
        Rays that meet each thing if there is nothing else.
    seen : ndarray of int, shape (things,)
        Rays that meet it first.
    """

    points: np.ndarray
    owners: np.ndarray
    alone: np.ndarray
    seen: np.ndarray


def rays() -> np.ndarray:
    """Directions, shape (64, columns, 3): beams from the top, columns from left to right."""
    azimuth = np.arange(_HALF_VIEW, -_HALF_VIEW, -STEP)
    level = np.cos(ELEVATIONS)[:, None]
    flat = (level * np.cos(azimuth), level * np.sin(azimuth))
    return np.stack((*flat, np.broadcast_to(np.sin(ELEVATIONS)[:, None], flat[0].shape)), axis=-1)


def scanned(street: Street, generator: np.random.Generator) -> Scan:
    """Scan a street."""
    way = rays()
    view = _View(way, street.ground, generator)
    alone = np.array(
        [view.add(number, thing.shapes) for number, thing in enumerate(street.things)], dtype=int
    )
    seen = np.bincount(view.owner[view.owner >= 0], minlength=len(street.things))
    return view.measured(alone, seen)


class _View:
    """The nearest surface on every ray so far."""

    def __init__(self, way: np.ndarray, ground: Ground, generator: np.random.Generator) -> None:
        self.way, self.generator = way, generator
        self.distance = np.full(way.shape[:2], np.inf)
        down = self.way[:, 0, 2] < np.sin(_STEEPEST)
        self.distance[down] = ground.hit(way[down], _RANGE)
        hits = way * np.where(np.isfinite(self.distance), self.distance, 0)[..., None]
        beside = ground.beyond_kerb(hits[..., 0], hits[..., 1])
        self.reflectance = _ROAD + (_PAVEMENT - _ROAD) * beside
        self.cosine = np.maximum(-way[..., 2], 0)
        self.swallows = np.zeros(way.shape[:2])
        self.roughness = np.full(way.shape[:2], 0.005)
        self.owner = np.where(np.isfinite(self.distance), _GROUND, _GROUND - 1)

    def add(self, number: int, shapes: list[Shape]) -> int:
        """Put a thing in; how many rays would meet it alone."""
        met = np.zeros(self.distance.shape, dtype=bool)
        for shape in shapes:
            rows, columns = _window(shape)
            way = self.way[rows, columns]
            if not way.size:
                continue
            distance, cosine = shape.hit(way)
            material = shape.material
            if material.passes:
                distance[self.generator.random(distance.shape) < material.passes] = np.inf
            met[rows, columns] |= np.isfinite(distance)
            nearer = distance < self.distance[rows, columns]
            for grid, values in (
                (self.distance, distance),
                (self.cosine, cosine),
                (self.reflectance, material.reflectance),
                (self.swallows, material.swallows),
                (self.roughness, material.roughness),
                (self.owner, number),
            ):
                grid[rows, columns] = np.where(nearer, values, grid[rows, columns])
        return int(met.sum())

    def measured(self, alone: np.ndarray, seen: np.ndarray) -> Scan:
        """Returns with noise; weak ones are lost."""
        draw, shape = self.generator, self.distance.shape
        distance = np.where(self.distance < _RANGE, self.distance, np.inf)
        strength = _GAIN * self.reflectance * np.maximum(self.cosine, _GLANCE) * (30 / distance) ** 2
        comes_back = (1 - _LOST) * (1 - self.swallows) * -np.expm1(-strength)
        kept = draw.random(shape) < comes_back
        noise = np.hypot(_NOISE, self.roughness) * draw.standard_normal(shape)
        points = self.way[kept] * (distance + noise)[kept][:, None]
        bright = self.reflectance * (0.5 + 0.5 * self.cosine) + 0.03 * draw.standard_normal(shape)
        bright = np.clip(np.round(bright, 2), 0, 0.99)[kept]
        return Scan(np.column_stack((points, bright)).astype(np.float32), self.owner[kept], alone, seen)


def _window(shape: Shape) -> tuple[slice, slice]:
    """Beams and columns that may meet a shape."""
    x, y, z = shape.centre
    flat, reach = float(np.hypot(x, y)), shape.reach
    columns = int(np.ceil(2 * _HALF_VIEW / STEP))
    if flat <= reach:
        return slice(0, len(ELEVATIONS)), slice(0, columns)
    azimuth, half = np.arctan2(y, x), np.arcsin(reach / flat)
    first = int(np.floor((_HALF_VIEW - azimuth - half) / STEP))
    last = int(np.ceil((_HALF_VIEW - azimuth + half) / STEP)) + 1
    near = flat - reach
    low = np.arctan2(z - reach, near if z < reach else flat + reach)
    high = np.arctan2(z + reach, near if z > -reach else flat + reach)
    beams = np.nonzero((low <= ELEVATIONS) & (high >= ELEVATIONS))[0]
    if not len(beams) or last <= 0 or first >= columns:
        return slice(0, 0), slice(0, 0)
    return slice(int(beams[0]), int(beams[-1]) + 1), slice(max(first, 0), min(last, columns))
