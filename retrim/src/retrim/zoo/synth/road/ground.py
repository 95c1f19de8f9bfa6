"""The ground: pavement, markings, shoulders, verges, and the shadows on it.

Every pixel below the horizon is looked up on the ground plane, and what lies
there is computed for all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from retrim.zoo.synth.road.geometry import Road
from retrim.zoo.synth.road.texture import SIDE, lookup, tile

WHITE, YELLOW = (0.86, 0.86, 0.84), (0.78, 0.58, 0.16)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A lane marking along the road.

    Parameters
    ----------
    s : float
        Across the road, in metres.
    colour : tuple of float
    width : float
        In metres.
    period, painted : float
        Of a dashed line, in metres; a solid one has period 0.
    phase : float
        In metres.
    double : float
        Distance of the two lines of a double one; 0 for one line.
    wear : float
        0 is fresh paint, 1 none.
    dots : bool
        Raised dots in the gaps.
    """

    s: float
    colour: tuple[float, float, float] = WHITE
    width: float = 0.13
    period: float = 0.0
    painted: float = 3.05
    phase: float = 0.0
    double: float = 0.0
    wear: float = 0.2
    dots: bool = False


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A soft-edged box on the ground, below a car."""

    z: float
    s: float
    length: float
    width: float
    dark: float


@dataclass(frozen=True, kw_only=True)
class Pavement:
    """What the road is made of.

    Parameters
    ----------
    tone : float
        Brightness of the pavement, 0 to 1.
    tint : tuple of float
    slabs : float
        Length of concrete slabs in metres; 0 for asphalt, which has none.
    seam : float
        How dark the joint along each line is; it lies `seam_aside` from it.
    stains, grain, tracks : float
        Strength of stains, of grain, and of the tracks of tyres.
    shoulders : (left, right)
        Their widths in metres.
    shoulder_tone : float
        Over the pavement's.
    verge : tuple of float
        Colour beyond the shoulders.
    trees : float
        How much of the road lies in the shadow of trees, 0 to 1.
    bands : tuple of (z, width)
        Shadows of bridges and poles across the road, in metres.
    offset : tuple of float
        Into the textures.
    """

    tone: float
    tint: tuple[float, float, float]
    slabs: float
    seam: float
    seam_aside: float
    stains: float
    grain: float
    tracks: float
    shoulders: tuple[float, float]
    shoulder_tone: float
    verge: tuple[float, float, float]
    trees: float
    bands: tuple[tuple[float, float], ...] = ()
    offset: tuple[float, float] = field(default=(0.0, 0.0))


def paint(
    road: Road, lines: Sequence[Line], lane: float, pavement: Pavement, shadows: Sequence[Shadow]
) -> tuple[int, np.ndarray]:
    """The ground's first row in the image, and its colours from there on.

    Parameters
    ----------
    lane : float
        Width of a lane in metres.

    Returns
    -------
    first : int
    colours : ndarray of float32, shape (height - first, width, 3)
    """
    width, height = road.size
    depth = road.depth(np.arange(height) + 0.5)
    first = int(np.argmax(np.isfinite(depth))) if np.isfinite(depth[-1]) else height
    sight = _Sight(road, depth[first:], width)
    light = _pavement(sight, lines, lane, pavement)
    colours = _zones(sight, lines, pavement, light)
    _mark(sight, lines, colours)
    shade = _shade(sight, pavement, shadows)
    colours *= shade[..., None]
    return first, colours


class _Sight:
    """Ground coordinates of every pixel, float32."""

    def __init__(self, road: Road, depth: np.ndarray, width: int) -> None:
        scale = (depth / road.focal)[:, None]
        columns = np.arange(width)[None] + 0.5 - width / 2
        self.z = depth.astype(np.float32)[:, None]
        self.s = (columns * scale - road.centre(depth)[:, None]).astype(np.float32)
        self.pixel = scale.astype(np.float32)
        """Width of a pixel on the ground, in metres."""
        self.step = np.maximum(-np.gradient(depth), 1e-3).astype(np.float32)[:, None]
        """Length of a pixel on the ground, in metres."""

    def along(self, period: float, painted: float, phase: float) -> np.ndarray:
        """Share of each row's length that is painted, shape (rows, 1)."""
        distance = np.abs(np.mod(self.z + phase, period) - period / 2)
        sharp = np.clip((painted / 2 - distance) / self.step + 0.5, 0, 1)
        return np.asarray(np.where(self.step < 0.4 * period, sharp, painted / period))

    def across(self, s: float, width: float) -> np.ndarray:
        """Share of each pixel's width that a strip along the road covers."""
        reach = np.minimum(width / self.pixel, 1)
        covered = (width / 2 - np.abs(self.s - np.float32(s))) / self.pixel + 0.5
        return np.asarray(np.clip(covered, 0, reach))


def _pavement(sight: _Sight, lines: Sequence[Line], lane: float, pavement: Pavement) -> np.ndarray:
    """Brightness of the ground over its colour."""
    stains, grain = tile(1.1), tile(0.5)
    first, second = pavement.offset
    near = np.clip(0.06 / sight.pixel, 0, 1)
    light = 1 + pavement.stains * lookup(stains, sight.z * 5 + first, sight.s * 22 + second)
    light += pavement.grain * near * lookup(grain, sight.z * 30 + second, sight.s * 40 + first)
    inside = np.mod(sight.s - np.float32(lines[0].s), np.float32(lane)) - np.float32(lane / 2)
    light -= pavement.tracks * np.exp(-(((np.abs(inside) - 0.8) / 0.35) ** 2))
    light -= 0.6 * pavement.tracks * np.exp(-((inside / 0.5) ** 2))
    if pavement.slabs:
        row = np.floor((sight.z + first) / pavement.slabs).astype(np.int32)
        column = np.floor((sight.s - np.float32(lines[0].s)) / np.float32(lane)).astype(np.int32)
        light += 0.03 * tile(0.0)[row * 7 & (SIDE - 1), column * 13 & (SIDE - 1)]
        light *= 1 - 0.35 * sight.along(pavement.slabs, 0.02, first)
    if pavement.seam:
        for line in lines:
            light *= 1 - pavement.seam * sight.across(line.s + pavement.seam_aside, 0.03)
    return np.asarray(light)


def _zones(sight: _Sight, lines: Sequence[Line], pavement: Pavement, light: np.ndarray) -> np.ndarray:
    left, right = lines[0].s, lines[-1].s
    beyond = np.maximum(left - 0.3 - sight.s, sight.s - right - 0.3)
    shoulder = np.clip(beyond / sight.pixel, 0, 1)[..., None]
    limit = np.where(sight.s < left, pavement.shoulders[0], pavement.shoulders[1])
    near = np.clip(0.1 / sight.pixel, 0.25, 1)[..., None]
    rough = 0.25 * lookup(tile(1.1), sight.z * 4, sight.s * 9)
    verge = np.clip((beyond - limit - rough) / np.maximum(sight.pixel, 0.15), 0, 1)[..., None]
    road = np.array(pavement.tint, dtype=np.float32) * np.float32(pavement.tone)
    colours = road * (1 + (np.float32(pavement.shoulder_tone) - 1) * shoulder)
    grass = np.array(pavement.verge, dtype=np.float32) * (
        1 + 0.22 * near * lookup(tile(0.8), sight.z * 25, sight.s * 40)[..., None]
    )
    colours = colours * (1 - verge) * light[..., None] + grass * verge
    return np.asarray(colours, dtype=np.float32)


def _mark(sight: _Sight, lines: Sequence[Line], colours: np.ndarray) -> None:
    """Paint the markings."""
    for colour in (WHITE, YELLOW):
        of_colour = [line for line in lines if line.colour == colour]
        if not of_colour:
            continue
        cover = np.zeros(sight.s.shape, dtype=np.float32)
        for line in of_colour:
            np.maximum(cover, _cover(sight, line), out=cover)
        cover = cover[..., None]
        colours *= 1 - cover
        colours += cover * np.array(colour, dtype=np.float32)


def _cover(sight: _Sight, line: Line) -> np.ndarray:
    if line.double:
        cover = np.maximum(
            sight.across(line.s - line.double / 2, line.width),
            sight.across(line.s + line.double / 2, line.width),
        )
    else:
        cover = sight.across(line.s, line.width)
    if line.period:
        cover = cover * sight.along(line.period, line.painted, line.phase)
    columns = np.flatnonzero((cover > 0).any(0))
    if len(columns) and line.wear:
        part = slice(columns[0], columns[-1] + 1)
        worn = lookup(tile(0.8, 1), sight.z * 25 + line.phase * 50, sight.s[:, part] * 60)
        cover[:, part] *= np.clip(1.35 - 1.5 * line.wear + 0.45 * worn * min(1.0, 3 * line.wear), 0.0, 1)
    if line.dots:
        cover = np.maximum(cover, _dots(sight, line))
    return np.asarray(cover)


def _dots(sight: _Sight, line: Line) -> np.ndarray:
    """Raised dots, 0.1 m wide, one in every 3 m or so."""
    period = line.period / 4 if line.period else 3.0
    dots = sight.across(line.s, 0.11) * sight.along(period, 0.12, line.phase + period / 2)
    return np.asarray(dots)


def _shade(sight: _Sight, pavement: Pavement, shadows: Sequence[Shadow]) -> np.ndarray:
    """Light that reaches the ground, 0 to 1."""
    shade = np.ones(sight.s.shape, dtype=np.float32)
    if pavement.trees:
        leaves = lookup(tile(1.7, 2), sight.z * 30 + pavement.offset[1], sight.s * 40 + pavement.offset[0])
        level = np.float32(1.6 - 2.6 * pavement.trees)
        side = 0.25 * sight.s * (1 if pavement.offset[0] > SIDE / 2 else -1)
        shade *= 1 - 0.5 * np.clip((leaves + side - level) * 2.5, 0, 1)
    for z, width in pavement.bands:
        distance = np.abs(sight.z + 0.15 * sight.s - z)
        shade *= 1 - 0.5 * np.clip((width / 2 - distance) / (sight.step + 0.2) + 0.5, 0, 1)
    for shadow in shadows:
        rows = np.flatnonzero((sight.z[:, 0] > shadow.z - 1) & (sight.z[:, 0] < shadow.z + shadow.length + 1))
        if len(rows):
            part = slice(rows[0], rows[-1] + 1)
            ahead = np.abs(sight.z[part] - shadow.z - shadow.length / 2) - shadow.length / 2
            aside = np.abs(sight.s[part] - np.float32(shadow.s)) - np.float32(shadow.width / 2)
            shade[part] *= 1 - shadow.dark * np.clip(0.5 - ahead / 0.8, 0, 1) * np.clip(
                0.5 - aside / 0.5, 0, 1
            )
    return np.asarray(shade)
