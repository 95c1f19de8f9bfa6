"""Where things stand in a street: traffic, parked cars, people, and what is not labelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from retrim.zoo.kitti.overlap import intersections
from retrim.zoo.synth.scan.bodies import Thing, drawn_size, made
from retrim.zoo.synth.scan.ground import Ground
from retrim.zoo.synth.scan.scenery import Scenery

_FAR = 75.0  # metres; nothing is put beyond
_CLEAR = 0.3  # metres between things
_EGO = np.array([[0.5, 0.0, 6.5, 2.4, 0.0]])  # x, y, length, width, yaw of the car that carries the scanner


@dataclass(frozen=True, eq=False)
class Street:
    """A scene.

    Attributes
    ----------
    ground : Ground
    things : list of Thing
        Labelled ones and others; none meets another.
    """

    ground: Ground
    things: list[Thing]


def drawn_street(generator: np.random.Generator) -> Street:
    """Any street."""
    return _Builder(generator).street()


@dataclass
class _Builder:
    generator: np.random.Generator
    things: list[Thing] = field(default_factory=list)
    taken: np.ndarray = field(default_factory=_EGO.copy)

    def street(self) -> Street:
        draw = self.generator
        self.lane = float(draw.uniform(3.0, 3.8))
        self.parked = [bool(draw.random() < share) for share in (0.65, 0.55)]  # right, left
        right = -self.lane / 2 - (2.2 if self.parked[0] else draw.uniform(0.2, 1.2))
        left = 1.5 * self.lane + (2.2 if self.parked[1] else draw.uniform(0.2, 1.2))
        self.ground = Ground.drawn(draw, float(right), float(left))
        self.pavement = draw.uniform(1.5, 4.0, 2)
        crossing = float(draw.uniform(15, 50)) if draw.random() < 0.4 else np.inf
        self.gap = (crossing - 6, crossing + 6)
        self._traffic(crossing)
        for side in (0, 1):
            if self.parked[side]:
                self._parking(side)
        self._people()
        scenery = Scenery(draw, self.ground, tuple(self.pavement), self.gap)
        for thing in scenery.things():
            self._put(thing)
        return Street(self.ground, self.things)

    def _traffic(self, crossing: float) -> None:
        draw = self.generator
        for n, turn in ((0.0, 0.0), (self.lane, np.pi)):
            for s in self._places(9.0 if turn == 0 else 4.0, 10.0, 40.0):
                self._vehicle(s, n + draw.normal(0, 0.25), turn + draw.normal(0, 0.04))
        if np.isfinite(crossing):
            for _ in range(draw.integers(0, 4)):
                lane, turn = (-2.0, np.pi / 2) if draw.random() < 0.5 else (2.0, -np.pi / 2)
                self._vehicle(crossing + lane, draw.uniform(-22, 22), turn + draw.normal(0, 0.06))

    def _parking(self, side: int) -> None:
        """A row of cars along the kerb."""
        draw = self.generator
        full = draw.uniform(0.3, 0.95)
        edge = self.ground.right + 1.1 if side == 0 else self.ground.left - 1.1
        for s in self._places(3.0, 5.3, 6.8):
            if draw.random() < full and not self.gap[0] < s < self.gap[1]:
                ahead = (side == 0) == (draw.random() < 0.85)
                turn = 0.0 if ahead else np.pi
                self._vehicle(s, edge + draw.normal(0, 0.1), turn + draw.normal(0, 0.03))

    def _vehicle(self, s: float, n: float, turn: float) -> None:
        name = str(self.generator.choice(["Car", "Van", "Truck"], p=[0.9, 0.08, 0.02]))
        self._object(name, s, n, turn)

    def _people(self) -> None:
        draw = self.generator
        for _ in range(draw.poisson(4.0)):
            s, n = self._pavement_place()
            if draw.random() < 0.2:
                n = draw.uniform(self.ground.right, self.ground.left)
            turn = draw.choice([0.0, np.pi, np.pi / 2, -np.pi / 2], p=[0.4, 0.4, 0.1, 0.1])
            for _ in range(draw.choice([1, 2, 3], p=[0.7, 0.2, 0.1])):
                self._object("Pedestrian", s, n, turn + draw.normal(0, 0.2))
                s, n = s + draw.normal(0, 0.6), n + draw.choice([-0.9, 0.9])
        for _ in range(draw.poisson(2.8)):
            if draw.random() < 0.3:
                s, n = self._pavement_place()
            else:
                s, n = draw.uniform(5, 45), draw.choice([-self.lane / 2, 1.5 * self.lane, 0.5 * self.lane])
            self._object(
                "Cyclist", s, n + draw.normal(0, 0.3), draw.choice([0, np.pi]) + draw.normal(0, 0.15)
            )

    def _pavement_place(self) -> tuple[float, float]:
        draw = self.generator
        side = int(draw.integers(2))
        off = draw.uniform(0.5, self.pavement[side])
        n = self.ground.right - off if side == 0 else self.ground.left + off
        return float(4 + 44 * draw.random() ** 0.8), float(n)

    def _places(self, start: float, least: float, most: float) -> Iterator[float]:
        """Rising distances along the road."""
        s = start + self.generator.uniform(0, most - least)
        while s < _FAR:
            yield float(s)
            s += self.generator.uniform(least, most)

    def _object(self, name: str, s: float, n: float, turn: float) -> None:
        size = drawn_size(name, self.generator)
        x, y, heading = self.ground.place(s, n)
        z = float(self.ground.height(np.asarray(x), np.asarray(y)))
        yaw = (heading + turn + np.pi) % (2 * np.pi) - np.pi
        place = np.array([x, y, z + size[2] / 2, *size, yaw])
        self._put(made(name, place, self.generator))

    def _put(self, thing: Thing) -> None:
        """Unless something is there."""
        flat = thing.box[None, [0, 1, 3, 4, 6]] + np.array([0, 0, _CLEAR, _CLEAR, 0])
        if not intersections(flat, self.taken).any():
            self.things.append(thing)
            self.taken = np.concatenate((self.taken, thing.box[None, [0, 1, 3, 4, 6]]))
