"""A whole scene at random: the image and its lane labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from retrim.zoo.synth.road import exposure, geometry, ground, scenery, traffic
from retrim.zoo.synth.road.geometry import Road
from retrim.zoo.synth.road.ground import WHITE, YELLOW, Line, Pavement
from retrim.zoo.synth.road.texture import SIDE

LABELLED = 90.0
"""Where labels end, in metres."""

_FEWEST = 3  # points of a labelled lane
_CHANGING = 0.9  # metres from the lane's middle where a fifth lane is labelled


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its lanes.

    Attributes
    ----------
    image : Image
    rows : ndarray of int, shape (rows,)
    lanes : ndarray of int, shape (lanes, rows)
        From left to right; -2 where absent.
    """

    image: Image.Image
    rows: np.ndarray
    lanes: np.ndarray


def draw_scene(random: np.random.Generator, size: tuple[int, int], rows: np.ndarray) -> Scene:
    """A scene at random.

    Parameters
    ----------
    size : (width, height)
    rows : ndarray of int
        Image rows to label.
    """
    road = geometry.drawn(random, size)
    lane = float(random.uniform(3.4, 3.8))
    lines = _lines(random, lane)
    pavement = _pavement(random)
    middles = [line.s + lane / 2 for line in lines[:-1]]
    cars = traffic.drawn(random, middles, float(random.uniform(0.0, 0.9)))
    first, colours = ground.paint(road, lines, lane, pavement, [car.shadow for car in cars])
    image = _composed(random, road, lines, pavement, (first, colours))
    pen = ImageDraw.Draw(image)
    light = float(random.uniform(0.6, 1.1))
    for car in cars:
        traffic.draw(pen, road, car, light)
    glare = float(random.uniform(0.1, 0.45)) if random.random() < 0.25 else 0.0
    return Scene(exposure.expose(random, image, glare), rows, _labels(road, lines, rows))


def _composed(
    random: np.random.Generator,
    road: Road,
    lines: list[Line],
    pavement: Pavement,
    painted: tuple[int, np.ndarray],
) -> Image.Image:
    """Sky, hills, ground, and what stands beside the road."""
    first, colours = painted
    image = scenery.image_of(np.concatenate([scenery.sky(random, road.size, first), colours]))
    below = image.crop((0, first, *road.size))
    pen = ImageDraw.Draw(image)
    scenery.hills(random, pen, road)
    image.paste(below, (0, first))
    edges = (lines[0].s - pavement.shoulders[0] - 0.8, lines[-1].s + pavement.shoulders[1] + 0.8)
    scenery.trees(random, pen, road, edges, int(random.integers(6, 70)))
    for side, s in enumerate(edges):
        if random.random() < 0.6:
            scenery.barrier(random, pen, road, s)
        for _ in range(int(random.integers(0, 3))):
            scenery.sign(random, pen, road, s + (1.5 if side else -1.5))
    return image


def _lines(random: np.random.Generator, lane: float) -> list[Line]:
    """Markings of a road of one to five lanes; the camera is in the lane around s = 0."""
    count = int(random.choice([1, 2, 3, 4, 5], p=[0.06, 0.24, 0.34, 0.26, 0.1]))
    own = int(random.integers(count))
    worn = float(random.uniform(0, 0.75))
    width = float(random.uniform(0.10, 0.16))
    period = float(random.choice([12.2, 9.0, 6.0], p=[0.7, 0.2, 0.1]))
    dots = bool(random.random() < 0.4)
    lines = []
    for index in range(count + 1):
        s = (index - own - 0.5) * lane
        wear = float(np.clip(worn + random.normal(0, 0.12), 0, 0.85))
        phase = float(random.uniform(0, 12))
        if index in (0, count):
            left_yellow = index == 0 and random.random() < 0.75
            lines.append(
                Line(
                    s=s,
                    colour=YELLOW if left_yellow else WHITE,
                    width=width,
                    double=0.3 if left_yellow and random.random() < 0.25 else 0.0,
                    wear=0.7 * wear,
                    phase=phase,
                )
            )
        elif random.random() < 0.12:
            lines.append(Line(s=s, width=width, wear=wear, phase=phase))
        else:
            faded = 0.92 if random.random() < 0.04 else wear
            lines.append(
                Line(s=s, wear=faded, phase=phase, painted=period / 4, width=width, period=period, dots=dots)
            )
    return lines


def _pavement(random: np.random.Generator) -> Pavement:
    concrete = bool(random.random() < 0.6)
    dry = bool(random.random() < 0.5)
    warm = float(random.uniform(0.94, 1.0))
    verge = (0.42, 0.38, 0.27) if dry else (0.22, 0.30, 0.14)
    tone = float(random.uniform(0.38, 0.62) if concrete else random.uniform(0.2, 0.4))
    bands = tuple(
        (float(random.uniform(8, 80)), float(random.choice([0.3, 0.5, 9.0])))
        for _ in range(int(random.integers(0, 4)) if random.random() < 0.25 else 0)
    )
    return Pavement(
        tone=tone,
        tint=(1.0, warm, warm * warm),
        slabs=float(random.uniform(4, 6)) if concrete else 0.0,
        seam=float(random.uniform(0.1, 0.6)) if random.random() < 0.6 else 0.0,
        seam_aside=float(random.uniform(0.12, 0.4) * random.choice([-1, 1])),
        stains=float(random.uniform(0.02, 0.07)),
        grain=float(random.uniform(0.02, 0.06)),
        tracks=float(random.uniform(0, 0.16)),
        shoulders=(float(random.uniform(0.6, 3.2)), float(random.uniform(1.0, 3.5))),
        shoulder_tone=float(random.uniform(0.6, 1.05)),
        verge=verge,
        trees=float(random.uniform(0.15, 0.8)) if random.random() < 0.3 else 0.0,
        bands=bands,
        offset=(float(random.uniform(0, SIDE)), float(random.uniform(0, SIDE))),
    )


def _labels(road: Road, lines: list[Line], rows: np.ndarray) -> np.ndarray:
    """The two nearest lines on each side, and a third where the camera is between lanes."""
    left = [line.s for line in lines if line.s < road.aside]
    right = [line.s for line in lines if line.s >= road.aside]
    chosen = left[-2:] + right[:2]
    # Between lanes TuSimple labels a fifth lane, on the side that the car is near to.
    if road.aside < -_CHANGING:
        chosen = left[-3:] + right[:2]
    elif road.aside > _CHANGING:
        chosen = left[-2:] + right[:3]
    columns = np.array([road.columns(s, rows + 0.5, LABELLED) for s in chosen])
    columns = np.where(columns >= 0, np.rint(columns - 0.5).clip(0), -2).astype(np.int64)
    return np.asarray(columns[(columns >= 0).sum(1) >= _FEWEST])
