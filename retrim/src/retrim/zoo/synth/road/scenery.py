"""What stands beside and behind a road: sky, hills, trees, barriers, signs."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from retrim.zoo.synth.road.geometry import Road
from retrim.zoo.synth.road.texture import SIDE, tile

Colour = tuple[int, int, int]


def sky(random: np.random.Generator, size: tuple[int, int], rows: int) -> np.ndarray:
    """Sky of the first `rows` rows, clear or clouded, shape (rows, width, 3), float32."""
    width, height = size
    clouded = random.random() < 0.5
    top = np.array([0.42, 0.46, 0.52]) if clouded else np.array([0.30, 0.48, 0.78])
    low = np.array([0.66, 0.69, 0.73]) if clouded else np.array([0.72, 0.82, 0.92])
    top, low = (colour * random.uniform(0.75, 1.1) for colour in (top, low))
    height_of = (np.arange(rows) / max(1, rows - 1)).astype(np.float32)[:, None]
    down = (np.arange(rows) * 300 // height + int(random.integers(SIDE))) % SIDE
    across = (np.arange(width) * 200 // width + int(random.integers(SIDE))) % SIDE
    clouds = tile(1.4, 3)[down[:, None], across[None]]
    clouds = np.clip(0.45 * clouds, -1, 1) * (0.16 if clouded else 0.12) * random.uniform(0.2, 1)
    colours = (top + (low - top) * height_of[..., None]).astype(np.float32)
    return np.asarray(colours + clouds[..., None], dtype=np.float32)


def hills(random: np.random.Generator, pen: ImageDraw.ImageDraw, road: Road) -> None:
    """One or two ranges behind the horizon, the further one paler."""
    width, height = road.size
    for distance in range(int(random.integers(0, 3)), 0, -1):
        outline = tile(1.6, 4)[int(random.integers(SIDE)), :] * random.uniform(6, 18) * height / 720
        up = random.uniform(10, 45) * distance * height / 720
        columns = np.linspace(0, width, 65)
        rows = road.horizon - up - np.interp(columns, np.linspace(0, width, SIDE), outline)
        grey = 40 + 35 * distance
        shade = (grey, grey + int(random.integers(2, 10)), grey + int(random.integers(2, 16)))
        below = road.horizon + 40 * height / 720
        pen.polygon(
            [*_points(columns, np.minimum(rows, below)), (width, below), (0, below)],
            fill=shade,
        )


def trees(
    random: np.random.Generator, pen: ImageDraw.ImageDraw, road: Road, edges: tuple[float, float], count: int
) -> None:
    """Trees and bushes on both sides, far ones first."""
    for z in sorted(
        np.concatenate([random.uniform(18, 130, count), random.uniform(130, 380, 2 * count)]), reverse=True
    ):
        side = int(random.integers(2))
        away = random.uniform(2.0, 22.0) if z < 130 else random.uniform(2.0, 160.0)
        s = edges[1] + away if side else edges[0] - away
        tall = random.uniform(1.0, 3.0) if random.random() < 0.35 else random.uniform(4, 14)
        base_u, base_v = (float(value) for value in road.project(np.array(z), np.array(s), np.array(0.0)))
        scale = road.focal / z
        haze = min(1.0, z / 420)
        green = (
            np.array([random.uniform(16, 46), random.uniform(26, 58), random.uniform(16, 34)]) * (1 - haze)
            + 100 * haze
        )
        wide = tall * random.uniform(0.3, 0.55)
        if tall > 3.5:
            trunk = max(1, int(0.25 * scale))
            pen.line(
                [(base_u, base_v), (base_u, base_v - 0.6 * tall * scale)], fill=(42, 36, 30), width=trunk
            )
        _crown(random, pen, (base_u, base_v), tall * scale, wide * scale, green)


def _crown(
    random: np.random.Generator,
    pen: ImageDraw.ImageDraw,
    base: tuple[float, float],
    tall: float,
    wide: float,
    colour: np.ndarray,
) -> None:
    leaves = int(np.clip(1.2 * tall, 6, 160))
    lift = 0.62 if tall > 2.2 * wide else 0.5
    turn, away = random.uniform(0, 2 * np.pi, leaves), np.sqrt(random.uniform(0, 1, leaves))
    across, down = away * np.cos(turn), away * np.sin(turn)
    tones = random.uniform(0.75, 1.2, leaves) * (1 - 0.3 * down)  # light comes from above
    sizes = random.uniform(0.1, 0.26, leaves) * wide
    for index in np.argsort(-down, kind="stable"):
        x, y = base[0] + 0.75 * wide * across[index], base[1] - tall * (lift - 0.38 * down[index])
        shade = _shade(colour * tones[index])
        radius = sizes[index]
        pen.ellipse((x - radius, y - radius * 0.8, x + radius, y + radius * 0.8), fill=shade)


def barrier(random: np.random.Generator, pen: ImageDraw.ImageDraw, road: Road, s: float) -> None:
    """A concrete wall or a guard rail along the road."""
    z = np.concatenate([np.linspace(2.5, 30, 40), np.geomspace(31, 300, 40)])
    if random.random() < 0.55:
        tone = random.uniform(90, 190)
        tint = np.array([1.0, random.uniform(0.88, 1.0), random.uniform(0.72, 1.0)])
        tall = random.uniform(0.7, 1.2)
        _wall(pen, road, z, s, (0.0, tall), _shade(tone * tint))
        _wall(pen, road, z, s, (0.0, 0.12), _shade(0.6 * tone * tint))
        _wall(pen, road, z, s, (tall - 0.06, tall), _shade(1.15 * tone * tint))
        return
    for post in np.arange(60.0, 4.0, -3.0):
        u, v = road.project(np.array([post, post]), np.array([s, s]), np.array([0.0, 0.7]))
        pen.line(_points(u, v), fill=(70, 66, 60), width=max(1, int(0.12 * road.focal / post)))
    _wall(pen, road, z, s, (0.45, 0.78), (138, 142, 145))
    _wall(pen, road, z, s, (0.58, 0.65), (92, 95, 98))


def _wall(
    pen: ImageDraw.ImageDraw, road: Road, z: np.ndarray, s: float, heights: tuple[float, float], shade: Colour
) -> None:
    low = _points(*road.project(z, np.full(len(z), s), np.full(len(z), heights[0])))
    high = _points(*road.project(z, np.full(len(z), s), np.full(len(z), heights[1])))
    pen.polygon(low + high[::-1], fill=shade)


def sign(random: np.random.Generator, pen: ImageDraw.ImageDraw, road: Road, s: float) -> None:
    """A post with a lamp or a board."""
    z = random.uniform(25, 120)
    board = random.random() < 0.5
    tall = random.uniform(3, 5) if board else random.uniform(8, 11)
    u, v = road.project(np.array([z, z]), np.array([s, s]), np.array([0.0, tall]))
    scale = road.focal / z
    pen.line(_points(u, v), fill=(96, 98, 100), width=max(1, int(0.16 * scale)))
    x, y = float(u[1]), float(v[1])
    if board:
        wide, high = random.uniform(0.6, 2.4) * scale, random.uniform(0.8, 1.4) * scale
        shade = [(28, 92, 60), (205, 205, 200), (214, 160, 28)][int(random.integers(3))]
        pen.rectangle((x - wide / 2, y - high, x + wide / 2, y), fill=shade)
        pen.rectangle((x - wide / 3, y - 0.6 * high, x + wide / 3, y - 0.5 * high), fill=(230, 230, 225))
    else:
        arm = 2.2 * scale * (1 if s < 0 else -1)
        pen.line([(x, y), (x + arm, y - 0.3 * scale)], fill=(96, 98, 100), width=max(1, int(0.1 * scale)))


def image_of(colours: np.ndarray) -> Image.Image:
    """Colours from 0 to 1, shape (height, width, 3), as an image."""
    return Image.fromarray((np.clip(colours, 0, 1) * 255).astype(np.uint8))


def _points(columns: np.ndarray, rows: np.ndarray) -> list[tuple[float, float]]:
    return [(float(u), float(v)) for u, v in zip(columns, rows, strict=True)]


def _shade(colour: np.ndarray) -> Colour:
    red, green, blue = (int(value) for value in np.clip(colour, 0, 255))
    return red, green, blue
