"""What lines a street and has no label: facades, hedges, trees, poles, bins, bushes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrim.zoo.synth.scan.bodies import Thing
from retrim.zoo.synth.scan.ground import Ground
from retrim.zoo.synth.scan.shapes import Ellipsoid, Material, Shape, box, post

_FAR = 100.0
_STONE = Material(reflectance=0.35, roughness=0.01)
_LEAVES = Material(reflectance=0.3, passes=0.35, roughness=0.12)
_HEDGE = Material(reflectance=0.3, passes=0.08, roughness=0.08)
_BARK = Material(reflectance=0.3, roughness=0.02)
_METAL = Material(reflectance=0.5)
_SIGN = Material(reflectance=0.95)
_PLASTIC = Material(reflectance=0.25)


@dataclass
class Scenery:
    """Draws the things of both sides of a street.

    Parameters
    ----------
    generator : Generator
    ground : Ground
    pavement : (right, left)
        Widths in metres.
    gap : (low, high)
        s where a street crosses, and nothing stands.
    """

    generator: np.random.Generator
    ground: Ground
    pavement: tuple[float, ...]
    gap: tuple[float, float]

    def things(self) -> Iterator[Thing]:
        """All of them; some may stand where something is already."""
        for side in (0, 1):
            yield from self._along_kerb(side)
            yield from self._fronts(side)
        for _ in range(self.generator.integers(4, 16)):
            yield self._small(*self._anywhere())

    def _n(self, side: int, off: float) -> float:
        return self.ground.right - off if side == 0 else self.ground.left + off

    def _along_kerb(self, side: int) -> Iterator[Thing]:
        """Poles, signs and trees."""
        draw = self.generator
        trees = draw.random() < 0.4
        s = draw.uniform(2, 15)
        while s < 70:
            if not self.gap[0] < s < self.gap[1]:
                n = self._n(side, draw.uniform(0.3, 0.8))
                yield self._tree(s, n) if trees and draw.random() < 0.7 else self._pole(s, n)
            s += draw.uniform(6, 22)

    def _fronts(self, side: int) -> Iterator[Thing]:
        """Houses, walls and hedges behind the pavement, with openings."""
        draw = self.generator
        s = draw.uniform(-5, 5)
        while s < _FAR:
            long = draw.uniform(5, 25)
            off = self.pavement[side] + draw.choice([0.0, 2.0, 5.0])
            crosses = s < self.gap[1] and s + long > self.gap[0]
            if draw.random() < 0.95 and not crosses:
                yield self._front(s + long / 2, long, side, float(off))
            s += long + draw.choice([0.0, 2.0, 6.0])

    def _front(self, s: float, long: float, side: int, off: float) -> Thing:
        draw = self.generator
        kind = draw.choice(["house", "wall", "hedge"], p=[0.5, 0.15, 0.35])
        high = {"house": draw.uniform(4, 10), "wall": draw.uniform(1, 2.2), "hedge": draw.uniform(0.9, 2.5)}[
            kind
        ]
        deep = {"house": 8.0, "wall": 0.3, "hedge": draw.uniform(0.6, 1.5)}[kind]
        material = _HEDGE if kind == "hedge" else _STONE
        x, y, heading = self.ground.place(s, self._n(side, off + deep / 2))
        return self._box(x, y, heading, (long, deep, high), material)

    def _pole(self, s: float, n: float) -> Thing:
        draw = self.generator
        x, y, heading = self.ground.place(s, n)
        radius, high = float(draw.uniform(0.04, 0.13)), float(draw.uniform(2.2, 7))
        foot = self._foot(x, y)
        shapes: list[Shape] = [post(foot + np.array([0, 0, high / 2]), radius, high, _METAL)]
        if draw.random() < 0.4:
            plate = foot + np.array([-0.08, 0, float(draw.uniform(2.0, 2.6))])
            shapes.append(box(plate, (0.03, 0.6, 0.6), heading, _SIGN))
        return Thing("", np.array([x, y, foot[2] + high / 2, 2 * radius, 2 * radius, high, 0]), shapes)

    def _tree(self, s: float, n: float) -> Thing:
        draw = self.generator
        x, y, _ = self.ground.place(s, n)
        foot, radius, high = self._foot(x, y), float(draw.uniform(0.1, 0.3)), float(draw.uniform(1.8, 3.0))
        shapes: list[Shape] = [post(foot + np.array([0, 0, high / 2]), radius, high, _BARK)]
        for _ in range(3):
            wide, tall = draw.uniform(0.8, 2.0), draw.uniform(0.8, 1.8)
            centre = foot + np.array([*draw.normal(0, 0.5, 2), high + tall * 0.8])
            shapes.append(_leaves(centre, np.array([wide, wide, tall])))
        return Thing("", np.array([x, y, foot[2] + high / 2, 2 * radius, 2 * radius, high, 0]), shapes)

    def _small(self, s: float, n: float) -> Thing:
        """A bin, a bollard, a bush or a box: about as large as a person."""
        draw = self.generator
        x, y, heading = self.ground.place(s, n)
        foot = self._foot(x, y)
        kind = draw.choice(["bin", "bollard", "bush", "cabinet"])
        if kind == "bin":
            return self._box(x, y, heading, (0.7, 0.6, float(draw.uniform(0.9, 1.3))), _PLASTIC)
        if kind == "cabinet":
            return self._box(x, y, heading, (float(draw.uniform(0.8, 1.6)), 0.4, 1.3), _METAL)
        if kind == "bollard":
            high = float(draw.uniform(0.7, 1.1))
            shape: Shape = post(foot + np.array([0, 0, high / 2]), 0.1, high, _METAL)
            return Thing("", np.array([x, y, foot[2] + high / 2, 0.2, 0.2, high, 0]), [shape])
        radii = draw.uniform(0.3, 0.9, 3)
        centre = foot + np.array([0, 0, 0.8 * radii[2]])
        place = np.array([*centre, *(2 * radii), 0])
        return Thing("", place, [_leaves(centre, radii)])

    def _anywhere(self) -> tuple[float, float]:
        """On a pavement or a little behind it."""
        side = int(self.generator.integers(2))
        off = self.generator.uniform(0.3, self.pavement[side] + 2)
        return float(self.generator.uniform(4, 55)), self._n(side, float(off))

    def _box(
        self, x: float, y: float, yaw: float, size: tuple[float, float, float], material: Material
    ) -> Thing:
        centre = self._foot(x, y) + np.array([0, 0, size[2] / 2])
        return Thing("", np.array([*centre, *size, yaw]), [box(centre, size, yaw, material)])

    def _foot(self, x: float, y: float) -> np.ndarray:
        return np.array([x, y, float(self.ground.height(np.asarray(x), np.asarray(y)))])


def _leaves(centre: np.ndarray, radii: np.ndarray) -> Ellipsoid:
    return Ellipsoid(centre=centre, yaw=0.0, material=_LEAVES, radii=radii)
