"""Sizes of the network: input, row anchors, cells, trunk and head."""

from __future__ import annotations

from dataclasses import dataclass

from retrim.errors import ConfigError

ANCHORS = tuple(row / 720 for row in range(160, 720, 10))
"""TuSimple's 56 rows, over the height of the image."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of Ultra-Fast-Lane-Detection; the defaults are the paper's for TuSimple.

    Parameters
    ----------
    height, width : int
        Of the input, multiples of 32.
    anchors : tuple of float
        Rows at which lanes are located, over the height of the image, increasing.
    cells : int
        Cells that a row is divided into ("gridding").
    lanes : int
        Even: half of them left of the car, half right.
    depths : tuple of int
        Blocks of the trunk's four stages.
    channels : int
        Of the trunk's first stage.
    pooled : int
        Channels that the head sees.
    hidden : int
        Units between the head's two layers.
    auxiliary : bool
        Whether to build the segmentation branch that helps training.
    """

    height: int = 288
    width: int = 800
    anchors: tuple[float, ...] = ANCHORS
    cells: int = 100
    lanes: int = 4
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    channels: int = 64
    pooled: int = 8
    hidden: int = 2048
    auxiliary: bool = False

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            if getattr(self, name) < 32 or getattr(self, name) % 32:
                raise ConfigError(f"{name} must be a multiple of 32, not {getattr(self, name)}")
        rising = all(first < second for first, second in zip(self.anchors, self.anchors[1:], strict=False))
        if len(self.anchors) < 3 or not rising or not 0 <= self.anchors[0] < self.anchors[-1] < 1:
            raise ConfigError(
                f"anchors must be three or more increasing numbers from 0 to below 1, not {self.anchors}"
            )
        if self.lanes < 2 or self.lanes % 2:
            raise ConfigError(f"lanes must be an even number >= 2, not {self.lanes}")
        if self.cells < 2:
            raise ConfigError(f"cells must be a whole number >= 2, not {self.cells}")
        for name in ("channels", "pooled", "hidden"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be a whole number >= 1, not {getattr(self, name)}")

    @property
    def features(self) -> int:
        """Numbers that the head sees."""
        return self.pooled * (self.height // 32) * (self.width // 32)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the logits of one image: cells + 1, anchors, lanes."""
        return (self.cells + 1, len(self.anchors), self.lanes)


PAPER = Config()
"""ResNet-18 at 288 x 800."""

SMALL = Config(height=96, width=256, channels=24, pooled=32, hidden=256)
"""A thinner one at 96 x 256, which trains in minutes on one processor core."""
