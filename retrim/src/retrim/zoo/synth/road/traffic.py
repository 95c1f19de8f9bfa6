"""Cars and trucks seen from behind: boxes with a cabin, windows, lights and wheels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from retrim.zoo.synth.road.geometry import Road
from retrim.zoo.synth.road.ground import Shadow

Corner = tuple[float, float, float]
"""Along, across and above, from the middle of the car's rear on the ground, in metres."""

_NEAREST = 2.0


@dataclass(frozen=True, kw_only=True)
class Car:
    """A car or truck; lengths in metres, colours from 0 to 255."""

    z: float
    s: float
    length: float
    width: float
    height: float
    colour: tuple[float, float, float]
    truck: bool = False

    @property
    def shadow(self) -> Shadow:
        """The one below it."""
        return Shadow(z=self.z - 0.15, s=self.s, length=self.length, width=self.width + 0.3, dark=0.75)


_PAINTS = (
    (225, 225, 222),
    (150, 153, 156),
    (60, 62, 66),
    (28, 28, 30),
    (120, 30, 28),
    (38, 54, 96),
    (98, 92, 78),
)


def drawn(random: np.random.Generator, lanes: list[float], share: float) -> list[Car]:
    """Cars at random on lanes with these middles, far ones first, none in another.

    Parameters
    ----------
    share : float
        How dense the traffic is, 0 to 1.
    """
    cars = []
    for s in lanes:
        z = random.uniform(7, 30) if abs(s) < 1 else random.uniform(4, 30)
        while z < 130:
            truck = bool(random.random() < 0.1)
            car = Car(
                z=float(z),
                s=float(s + random.normal(0, 0.2)),
                length=float(random.uniform(7, 13) if truck else random.uniform(4.1, 5.0)),
                width=float(random.uniform(2.2, 2.5) if truck else random.uniform(1.7, 1.95)),
                height=float(random.uniform(2.8, 3.8) if truck else random.uniform(1.4, 1.85)),
                colour=_PAINTS[int(random.integers(len(_PAINTS)))],
                truck=truck,
            )
            if random.random() < share:
                cars.append(car)
            z += car.length + random.uniform(6, 45)
    return sorted(cars, key=lambda car: -car.z)


def draw(pen: ImageDraw.ImageDraw, road: Road, car: Car, light: float) -> None:
    """Draw one car; `light` is the brightness of its rear against its sides."""
    box = _Box(pen, road, car, light)
    half, paint = car.width / 2, np.array(car.colour)
    side = half if float(road.centre(np.array(car.z))) + car.s < 0 else -half
    body = car.height if car.truck else 0.62 * car.height
    box.flat(
        [(a, side, y) for a, y in ((0, 0.3), (0, body), (car.length, body), (car.length, 0.3))], 0.75 * paint
    )
    for wheel in (0.18, 0.8):
        box.wheel(wheel * car.length, side)
    if not car.truck:
        box.cabin(side, body, paint)
    box.rear([(-half, 0.35), (-half, body), (half, body), (half, 0.35)], paint)
    for x in (-half + 0.05, half - 0.3):
        box.rear([(x, 0.0), (x, 0.4), (x + 0.25, 0.4), (x + 0.25, 0.0)], np.array([16, 16, 17]))
    box.rear([(-half, 0.28), (-half, 0.5), (half, 0.5), (half, 0.28)], 0.45 * paint)
    low, high = (0.6, 0.8) if car.truck else (0.62 * body + 0.12, 0.88 * body)
    for x in (-half + 0.04, half - 0.34):
        box.rear([(x, low), (x, high), (x + 0.3, high), (x + 0.3, low)], np.array([150, 22, 20]))
    if car.truck:
        box.rear([(-0.02, 0.6), (-0.02, body), (0.02, body), (0.02, 0.6)], 0.6 * paint)
    else:
        box.rear(
            [(-0.2, low - 0.05), (-0.2, low + 0.1), (0.2, low + 0.1), (0.2, low - 0.05)],
            np.array([190, 190, 182]),
        )


class _Box:
    """Faces of one car, projected."""

    def __init__(self, pen: ImageDraw.ImageDraw, road: Road, car: Car, light: float) -> None:
        self.pen, self.road, self.car, self.light = pen, road, car, light

    def flat(self, corners: list[Corner], colour: np.ndarray) -> None:
        """A face; its part behind the camera is pulled to just before it."""
        along, across, above = np.array(corners).T
        z = np.maximum(self.car.z + along, _NEAREST)
        u, v = self.road.project(z, self.car.s + across, above)
        shade = tuple(int(value) for value in np.clip(colour * self.light, 0, 255))
        self.pen.polygon([(float(x), float(y)) for x, y in zip(u, v, strict=True)], fill=shade)

    def rear(self, corners: list[tuple[float, float]], colour: np.ndarray) -> None:
        """A part of the rear: across and above."""
        self.flat([(0.0, x, y) for x, y in corners], colour)

    def wheel(self, along: float, side: float) -> None:
        """A disc, as an ellipse of twelve corners."""
        turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        for radius, tone in ((0.34, 18), (0.19, 90)):
            disc = [(along + radius * float(np.cos(a)), side, 0.34 + radius * float(np.sin(a))) for a in turn]
            self.flat(disc, np.array([tone, tone, tone]))

    def cabin(self, side: float, body: float, paint: np.ndarray) -> None:
        """Roof and windows, narrower towards the top."""
        top, length, half = self.car.height, self.car.length, self.car.width / 2
        inset = side * 0.82
        glass = np.array([34, 40, 46])
        outline = [
            (0.1, side, body),
            (0.5, inset, top),
            (0.6 * length, inset, top),
            (0.78 * length, side, body),
        ]
        self.flat(outline, 0.7 * paint)
        self.flat(
            [
                (0.4, side, body + 0.04),
                (0.65, inset, top - 0.1),
                (0.57 * length, inset, top - 0.1),
                (0.72 * length, side, body + 0.04),
            ],
            glass,
        )
        self.flat(
            [(0.1, -half, body), (0.5, -0.82 * half, top), (0.5, 0.82 * half, top), (0.1, half, body)],
            0.9 * paint,
        )
        self.flat(
            [
                (0.1, -0.86 * half, body + 0.05),
                (0.45, -0.72 * half, top - 0.09),
                (0.45, 0.72 * half, top - 0.09),
                (0.1, 0.86 * half, body + 0.05),
            ],
            glass,
        )
