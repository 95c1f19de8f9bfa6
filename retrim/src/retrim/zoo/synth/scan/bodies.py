"""What labelled objects are made of: vehicles of convex bodies, people of ellipsoids.

Each fills its box: the labels say where the surface is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrim.zoo.synth.scan.shapes import Ellipsoid, Material, Polytope, Shape, box, cut

# Mean and standard deviation of length, width and height in KITTI's training
# labels, in metres, rounded.
_SIZES = {
    "Car": ((3.88, 1.63, 1.53), (0.43, 0.10, 0.14)),
    "Van": ((5.08, 1.90, 2.21), (0.60, 0.15, 0.30)),
    "Truck": ((10.1, 2.59, 3.25), (2.00, 0.20, 0.40)),
    "Pedestrian": ((0.84, 0.66, 1.76), (0.20, 0.12, 0.11)),
    "Cyclist": ((1.76, 0.60, 1.74), (0.12, 0.10, 0.09)),
}
_TYRE = Material(reflectance=0.08)
_SKIN = Material(reflectance=0.35, roughness=0.01)
_WHEEL = Material(reflectance=0.2, passes=0.5)
_GLASS = Material(reflectance=0.15, swallows=0.65)


@dataclass(frozen=True, eq=False)
class Thing:
    """Something in a scene.

    Attributes
    ----------
    name : str
        KITTI's class; empty where it is not labelled.
    box : ndarray, shape (7,)
        x, y, z of the centre, length, width, height, yaw.
    shapes : list of Shape
    """

    name: str
    box: np.ndarray
    shapes: list[Shape]


def drawn_size(name: str, generator: np.random.Generator) -> np.ndarray:
    """Length, width and height of an object of a class, within two standard deviations; three draws."""
    mean, deviation = (np.array(values) for values in _SIZES[name])
    return np.asarray(mean + deviation * np.clip(generator.standard_normal(3), -2, 2))


def made(name: str, place: np.ndarray, generator: np.random.Generator) -> Thing:
    """An object of a class in its box (7,)."""
    build = {"Pedestrian": _pedestrian, "Cyclist": _cyclist, "Car": _car}.get(name, _lorry)
    return Thing(name, place, build(_Frame(place), generator))


class _Frame:
    """The place of a body's parts: x ahead, y left, z up from the ground."""

    def __init__(self, place: np.ndarray) -> None:
        self.length, self.width, self.height = place[3:6]
        self.yaw = float(place[6])
        self._foot = place[:3] - np.array([0, 0, place[5] / 2])

    def at(self, x: float, y: float, z: float) -> np.ndarray:
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.asarray(self._foot + np.array([cos * x - sin * y, sin * x + cos * y, z]))

    def box(
        self, low: tuple[float, float, float], high: tuple[float, float, float], material: Material
    ) -> Polytope:
        """Between two corners."""
        x, y, z = ((a + b) / 2 for a, b in zip(low, high, strict=True))
        size = (high[0] - low[0], high[1] - low[1], high[2] - low[2])
        return box(self.at(x, y, z), size, self.yaw, material)

    def ball(
        self, x: float, y: float, z: float, radii: tuple[float, float, float], material: Material
    ) -> Ellipsoid:
        return Ellipsoid(centre=self.at(x, y, z), yaw=self.yaw, material=material, radii=np.array(radii))


def _car(frame: _Frame, generator: np.random.Generator) -> list[Shape]:
    length, width, height = frame.length / 2, frame.width / 2, frame.height
    paint = Material(reflectance=float(generator.uniform(0.08, 0.7)))
    belt = height * generator.uniform(0.56, 0.64)
    hull = frame.box((-length, -width, 0.22), (length, width, belt), paint)
    half = (belt - 0.22) / 2
    corner = length + width - 0.3
    hull = cut(
        hull,
        [((x, y, 0.0), corner) for x in (1.0, -1.0) for y in (1.0, -1.0)]  # rounded bumpers
        + [((0.2, 0.0, 1.0), 0.2 * length + half - 0.22)],  # the bonnet falls to the front
    )
    rear = generator.choice([0.06, 0.28])  # part of the length behind the cabin: hatchback or saloon
    front, back = length * 0.42, -length + 2 * length * rear
    cabin = frame.box((back, -width, belt), (front, width, height), _GLASS)
    rise, half = height - belt, (front - back) / 2
    lean, tail, inward = generator.uniform(1.0, 1.4), generator.uniform(0.4, 1.0), 0.25
    cabin = cut(
        cabin,
        [
            ((1.0, 0.0, lean), half - lean * rise / 2),
            ((-1.0, 0.0, tail), half - tail * rise / 2),
            *(((0.0, side, inward), width - inward * rise / 2) for side in (1.0, -1.0)),
        ],
    )
    return [hull, cabin, *_wheels(frame, 0.31)]


def _wheels(frame: _Frame, radius: float) -> list[Shape]:
    axle, side = 0.32 * frame.length, frame.width / 2
    found: list[Shape] = []
    for x in (axle, -axle):
        for y in (side - 0.2, -side):
            wheel = frame.box((x - radius, y, 0.0), (x + radius, y + 0.2, 2 * radius), _TYRE)
            corners = [((a, 0.0, b), 1.42 * radius) for a in (1.0, -1.0) for b in (1.0, -1.0)]
            found.append(cut(wheel, corners))
    return found


def _lorry(frame: _Frame, generator: np.random.Generator) -> list[Shape]:
    """A van or a truck: a windscreen, a short bonnet, and a box for the load."""
    length, width, height = frame.length / 2, frame.width / 2, frame.height
    paint = Material(reflectance=float(generator.uniform(0.2, 0.75)))
    nose = min(0.25 * length, 0.9)
    load = frame.box((-length, -width, 0.35), (length - nose, width, height), paint)
    hood = frame.box((length - nose, -width, 0.3), (length, width, 0.5 * height), paint)
    return [load, hood, *_wheels(frame, 0.4)]


def _pedestrian(frame: _Frame, generator: np.random.Generator) -> list[Shape]:
    length, width, height = frame.length / 2, frame.width / 2, frame.height
    cloth = Material(reflectance=float(generator.uniform(0.1, 0.6)), roughness=0.015)
    stride = max(length - 0.16, 0.05) * generator.choice([1, -1])
    return [
        frame.ball(stride, 0.11, 0.24 * height, (0.12, 0.09, 0.25 * height), cloth),
        frame.ball(-stride, -0.11, 0.24 * height, (0.12, 0.09, 0.25 * height), cloth),
        frame.ball(0, 0, 0.62 * height, (0.16, max(width - 0.1, 0.15), 0.22 * height), cloth),
        frame.ball(-0.8 * stride, width - 0.07, 0.6 * height, (0.1, 0.07, 0.19 * height), cloth),
        frame.ball(0.8 * stride, -width + 0.07, 0.6 * height, (0.1, 0.07, 0.19 * height), cloth),
        frame.ball(0.02, 0, height - 0.13, (0.11, 0.09, 0.13), _SKIN),
    ]


def _cyclist(frame: _Frame, generator: np.random.Generator) -> list[Shape]:
    length, width, height = frame.length / 2, frame.width / 2, frame.height
    cloth = Material(reflectance=float(generator.uniform(0.1, 0.6)), roughness=0.015)
    steel = Material(reflectance=0.3, passes=0.3)
    wheels = []
    for x in (length - 0.34, -length + 0.34):
        wheel = frame.box((x - 0.34, -0.03, 0), (x + 0.34, 0.03, 0.68), _WHEEL)
        wheels.append(cut(wheel, [((a, 0.0, b), 0.48) for a in (1.0, -1.0) for b in (1.0, -1.0)]))
    pedal = 0.12 * generator.choice([1, -1])
    return [
        *wheels,
        frame.box((-length + 0.34, -0.04, 0.45), (length - 0.34, 0.04, 0.75), steel),
        frame.box((length - 0.45, -width, 0.98), (length - 0.38, width, 1.05), steel),
        frame.ball(pedal, 0.13, 0.62, (0.13, 0.08, 0.36), cloth),
        frame.ball(-pedal, -0.13, 0.62, (0.13, 0.08, 0.36), cloth),
        frame.ball(-0.05, 0, 0.7 * height, (0.2, max(width - 0.08, 0.18), 0.19 * height), cloth),
        frame.ball(0.25, 0.2, 0.68 * height, (0.25, 0.06, 0.07), cloth),
        frame.ball(0.25, -0.2, 0.68 * height, (0.25, 0.06, 0.07), cloth),
        frame.ball(0.1, 0, height - 0.13, (0.12, 0.09, 0.13), _SKIN),
    ]
