"""Sizes of the network: range, pillars, widths, anchors."""

from __future__ import annotations

from dataclasses import dataclass

from retrim.errors import ConfigError

STRIDE = 2
"""Of the map that the head sees, in pillars."""

ROTATIONS = (0.0, 1.57)
"""Yaws of the anchors; the second is what public weights were trained with, not quite pi / 2."""


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """The box that objects of a class are measured against.

    Parameters
    ----------
    name : str
        Class.
    size : (length, width, height)
        In metres.
    bottom : float
        z of the lower face in metres.
    matched, unmatched : float
        Overlaps at and above which an anchor takes an object, and below which it is background.
    """

    name: str
    size: tuple[float, float, float]
    bottom: float
    matched: float
    unmatched: float

    def __post_init__(self) -> None:
        if min(self.size) <= 0:
            raise ConfigError(f"size of anchor {self.name!r} must be three numbers > 0, not {self.size}")
        if not 0 < self.unmatched <= self.matched < 1:
            raise ConfigError(
                f"overlaps of anchor {self.name!r} must be 0 < unmatched <= matched < 1, not {self.unmatched} and "
                f"{self.matched}"
            )


# Of OpenPCDet's configuration; the bottoms of the last two are no real heights
# (the paper's centres), which the network makes up for.
_ANCHORS = (
    Anchor(name="Car", size=(3.9, 1.6, 1.56), bottom=-1.78, matched=0.6, unmatched=0.45),
    Anchor(name="Pedestrian", size=(0.8, 0.6, 1.73), bottom=-0.6, matched=0.5, unmatched=0.35),
    Anchor(name="Cyclist", size=(1.76, 0.6, 1.73), bottom=-0.6, matched=0.5, unmatched=0.35),
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of PointPillars; the defaults are those of the published network of three classes.

    Parameters
    ----------
    low, high : (x, y, z)
        Corners of the space that is looked at, in metres.
    pillar : float
        Side of a pillar in metres.
    points : int
        Most points in a pillar.
    pillars : int
        Most pillars in a scan.
    features : int
        Of a pillar.
    widths : tuple of int
        Channels of the backbone's blocks, at strides 2, 4, 8.
    depths : tuple of int
        Layers of each block after the strided one.
    joined : int
        Channels that each block gives to the head.
    anchors : tuple of Anchor
        One for each class.
    score : float
        Least score of a detection.
    candidates : int
        Best detections before suppression.
    overlap : float
        From above; a detection that overlaps a better one by more is suppressed.
    detections : int
        Most after suppression.
    """

    low: tuple[float, float, float] = (0.0, -39.68, -3.0)
    high: tuple[float, float, float] = (69.12, 39.68, 1.0)
    pillar: float = 0.16
    points: int = 32
    pillars: int = 16000
    features: int = 64
    widths: tuple[int, int, int] = (64, 128, 256)
    depths: tuple[int, int, int] = (3, 5, 5)
    joined: int = 128
    anchors: tuple[Anchor, ...] = _ANCHORS
    score: float = 0.1
    candidates: int = 4096
    overlap: float = 0.01
    detections: int = 500

    def __post_init__(self) -> None:
        if any(high <= low for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"high must be above low in x, y and z, not {self.high} and {self.low}")
        if self.pillar <= 0:
            raise ConfigError(f"pillar must be a number > 0, not {self.pillar}")
        for axis in (0, 1):
            cells = (self.high[axis] - self.low[axis]) / self.pillar
            if abs(cells - round(cells)) > 1e-3 or round(cells) % 8:
                raise ConfigError(
                    f"{'xy'[axis]} must span a multiple of 8 pillars of {self.pillar} m, not {cells:.2f} of them"
                )
        for name in ("points", "pillars", "features", "joined", "candidates", "detections"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be a whole number >= 1, not {getattr(self, name)}")
        if min(self.widths) < 1 or min(self.depths) < 0:
            raise ConfigError(f"widths must be >= 1 and depths >= 0, not {self.widths} and {self.depths}")
        if not self.anchors or len(set(self.classes)) != len(self.anchors):
            raise ConfigError(f"anchors must be one for each class, not for {self.classes}")
        for name in ("score", "overlap"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be a number from 0 to below 1, not {getattr(self, name)}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return tuple(anchor.name for anchor in self.anchors)

    @property
    def grid(self) -> tuple[int, int]:
        """Pillars along y and x: rows and columns of the map."""
        x, y = (round((self.high[axis] - self.low[axis]) / self.pillar) for axis in (0, 1))
        return y, x

    @property
    def map(self) -> tuple[int, int]:
        """Rows and columns of the map that the head sees."""
        return self.grid[0] // STRIDE, self.grid[1] // STRIDE

    @property
    def anchors_at_place(self) -> int:
        """Anchors at each place of the map."""
        return len(self.anchors) * len(ROTATIONS)


PAPER = Config()
"""The published network of three classes."""

SMALL = Config(
    low=(0.0, -23.04, -3.0),
    high=(46.08, 23.04, 1.0),
    pillar=0.24,
    points=16,
    pillars=8000,
    features=32,
    widths=(32, 64, 128),
    depths=(2, 3, 3),
    joined=64,
    anchors=(
        Anchor(name="Car", size=(3.9, 1.6, 1.56), bottom=-1.7, matched=0.6, unmatched=0.45),
        Anchor(name="Pedestrian", size=(0.8, 0.6, 1.73), bottom=-1.6, matched=0.5, unmatched=0.35),
        Anchor(name="Cyclist", size=(1.76, 0.6, 1.73), bottom=-1.6, matched=0.5, unmatched=0.35),
    ),
    candidates=512,
    detections=100,
)
"""Less space, coarser pillars, thinner blocks: trains in minutes on one processor core."""
