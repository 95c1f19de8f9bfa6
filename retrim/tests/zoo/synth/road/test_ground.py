import numpy as np
import pytest

from retrim.zoo.synth.road.geometry import Road
from retrim.zoo.synth.road.ground import WHITE, YELLOW, Line, Pavement, Shadow, paint

ROAD = Road(
    size=(640, 360), focal=500.0, horizon=120.0, above=1.5, heading=0.01, curvature=1 / 900, rising=5e-5
)
PLAIN = Pavement(
    tone=0.3,
    tint=(1.0, 1.0, 1.0),
    slabs=0.0,
    seam=0.0,
    seam_aside=0.0,
    stains=0.0,
    grain=0.0,
    tracks=0.0,
    shoulders=(2.0, 2.0),
    shoulder_tone=1.0,
    verge=(0.1, 0.3, 0.1),
    trees=0.0,
)
SOLID = [Line(s=-1.8, colour=YELLOW, wear=0.0, width=0.16), Line(s=1.8, wear=0.0, width=0.16)]


def slow_cover(road, line, column, row, samples=12):
    """Share of a pixel that a line covers, by samples within the pixel."""
    hits = 0
    steps = (np.arange(samples) + 0.5) / samples
    for v in row + steps:
        z = float(road.depth(np.array([v]))[0])
        for u in column + steps:
            s = (u - road.size[0] / 2) * z / road.focal - float(road.centre(np.array(z)))
            hits += abs(s - line.s) < line.width / 2
    return hits / samples**2


def test_every_pixel_is_covered_as_samples_say():
    first, colours = paint(ROAD, SOLID, 3.6, PLAIN, [])
    for row in (200, 280, 350):
        (centre,) = ROAD.columns(1.8, np.array([row + 0.5]), 90.0)
        for column in range(int(centre) - 6, int(centre) + 7):
            expected = slow_cover(ROAD, SOLID[1], column, row)
            share = (colours[row - first, column, 0] - 0.3) / (WHITE[0] - 0.3)
            assert share == pytest.approx(expected, abs=0.25)


def test_markings_lie_where_labels_say():
    first, colours = paint(ROAD, SOLID, 3.6, PLAIN, [])
    rows = np.arange(150, 359)
    for line, channel in zip(SOLID, (2, 0), strict=True):
        for row, x in zip(rows, ROAD.columns(line.s, rows + 0.5, 90.0), strict=True):
            if 8 < x < 631:
                part = colours[row - first, int(x) - 8 : int(x) + 9, channel]
                weight = np.abs(part - 0.3)
                centre = (weight * (np.arange(int(x) - 8, int(x) + 9) + 0.5)).sum() / weight.sum()
                assert centre == pytest.approx(x, abs=0.75)


def test_dashes_cover_their_share_of_the_road():
    dashed = [SOLID[0], Line(s=1.8, wear=0.0, width=0.16, period=12.0, painted=3.0), Line(s=5.4, wear=0.0)]
    first, colours = paint(ROAD, dashed, 3.6, PLAIN, [])
    rows = np.arange(first + 3, 359)
    depth = ROAD.depth(rows + 0.5)
    x = ROAD.columns(1.8, rows + 0.5, 60.0)
    lit = np.array(
        [x_ >= 0 and colours[row - first, int(x_), 0] > 0.5 for row, x_ in zip(rows, x, strict=True)]
    )
    inside = np.abs(np.mod(depth, 12.0) - 6.0) < 1.5
    near = (depth < 25) & (x >= 0)
    assert (lit == inside)[near].mean() > 0.95


def test_a_shadow_darkens_below_its_car_alone():
    _, plain = paint(ROAD, SOLID, 3.6, PLAIN, [])
    first, shaded = paint(ROAD, SOLID, 3.6, PLAIN, [Shadow(z=8.0, s=0.0, length=4.0, width=1.6, dark=0.5)])
    u, v = (float(value) for value in ROAD.project(np.array(10.0), np.array(0.0), np.array(0.0)))
    assert shaded[int(v) - first, int(u), 0] == pytest.approx(0.5 * plain[int(v) - first, int(u), 0])
    assert (shaded == plain).mean() > 0.8


def test_beyond_the_shoulder_lies_the_verge():
    first, colours = paint(ROAD, SOLID, 3.6, PLAIN, [])
    for s, green in ((-6.0, True), (0.0, False), (6.0, True)):
        u, v = (float(value) for value in ROAD.project(np.array(15.0), np.array(s), np.array(0.0)))
        red, tone, _ = colours[int(v) - first, int(u)]
        assert (tone > 1.5 * red) == green
