"""Images moved, mirrored and coloured at random, and four of them in one, as YOLO is trained.

The window is darknet's: each edge moves on its own by up to `jitter` of the
image's side, from where the letterbox has it; so image and boxes change in scale,
place and aspect, and parts are cut away.

References
----------
Redmon and Farhadi, YOLOv3, arXiv:1804.02767, section 2.6, and darknet's
configuration files for the amounts.
Bochkovskiy, Wang and Liao, YOLOv4, arXiv:2004.10934, section 3.3: mosaic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrim.errors import ConfigError
from retrim.zoo.coco.colours import coloured, drawn_factor
from retrim.zoo.coco.instances import Instances, joined
from retrim.zoo.coco.letterbox import GREY, Letterbox

LEAST_SHARE = 0.1
"""Of a box's area that must be left of it where it is cut."""
LEAST_SIDE_PX = 2.0
"""Of a box's width and height that must be left, in pixels of the network."""

_MIDDLE = (0.3, 0.7)  # where the four images of a mosaic may meet, over the input's sides

Sample = tuple[np.ndarray, Instances]


class Samples(Protocol):
    """A data set: anything that has a length and gives images and instances."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges that changes are drawn from.

    Parameters
    ----------
    jitter : float
        How far an edge of the window moves at most, over the image's width or height;
        0.15 for Yolo-Fastest, 0.3 for YOLOv3.
    flip : float
        Probability that left and right change places.
    hue : float
        Largest shift, in turns of the circle of colours.
    saturation, exposure : float
        Largest factors; as often they are divided by.
    mosaic : float
        Probability that three more images of the data set share the input.
    keep_aspect : bool
        Whether images start from the letterbox, or from filling the input.
    """

    jitter: float = 0.15
    flip: float = 0.5
    hue: float = 0.1
    saturation: float = 1.5
    exposure: float = 1.5
    mosaic: float = 0.0
    keep_aspect: bool = True

    def __post_init__(self) -> None:
        for name, most in (("jitter", 0.45), ("flip", 1.0), ("hue", 0.5), ("mosaic", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be a number from 0 to {most}, not {getattr(self, name)}")
        for name in ("saturation", "exposure"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a finite factor >= 1, not {getattr(self, name)}")

    def sample(self, data: Samples, index: int, shape: tuple[int, int], *, seed: int, epoch: int) -> Sample:
        """One image of the network's size; a function of the arguments alone.

        Parameters
        ----------
        data : sequence of (image, Instances)
            A `CocoDataset`, or images kept in memory.
        index : int
        shape : (height, width)
        seed, epoch : int

        Returns
        -------
        image : ndarray of uint8, shape (height, width, 3)
        instances : Instances
            In pixels of the network, cut to it; those of which little is left are dropped.
        """
        generator = np.random.default_rng([seed, epoch, index])
        if generator.random() >= self.mosaic:
            return self.single(*data[index], shape, generator)
        others = generator.integers(0, len(data), 3)
        return self.four([data[int(i)] for i in (index, *others)], shape, generator)

    def single(
        self, image: np.ndarray, instances: Instances, shape: tuple[int, int], generator: np.random.Generator
    ) -> Sample:
        """An image on its own; ten numbers are drawn."""
        size = image.shape[1], image.shape[0]
        moves = generator.uniform(-self.jitter, self.jitter, 4) * np.tile(size, 2)
        left, top, right, bottom = np.array(self._fitted(size, shape).window) + moves
        box = Letterbox(size=size, shape=shape, window=(left, top, right, bottom))
        return self._placed(image, instances, box, self._mirrored(generator), generator)

    def four(self, samples: list[Sample], shape: tuple[int, int], generator: np.random.Generator) -> Sample:
        """Four images that meet in a point near the middle, each with its inner corner there.

        Each is as large as alone in the input, times factors for width and height
        from 1 - 2 `jitter` to 1; what goes beyond its quarter is cut away.
        """
        rows, columns = shape
        x, y = (round(side * generator.uniform(*_MIDDLE)) for side in (columns, rows))
        x, y = min(max(x, 1), columns - 1), min(max(y, 1), rows - 1)
        canvas = np.full((rows, columns, 3), GREY, dtype=np.uint8)
        parts = []
        for quarter, (image, instances) in enumerate(samples):
            right, lower = quarter % 2, quarter // 2
            (left, end), (top, foot) = (x, columns) if right else (0, x), (y, rows) if lower else (0, y)
            part = foot - top, end - left
            mirrored = self._mirrored(generator)
            box = self._cornered(image, part, shape, (bool(right) != mirrored, bool(lower)), generator)
            picture, found = self._placed(image, instances, box, mirrored, generator)
            canvas[top:foot, left:end] = picture
            parts.append(_shifted(found, left, top))
        return canvas, joined(parts)

    def _cornered(
        self,
        image: np.ndarray,
        part: tuple[int, int],
        shape: tuple[int, int],
        first: tuple[bool, bool],
        generator: np.random.Generator,
    ) -> Letterbox:
        """A window of `part` (height, width) that begins at the image's `first` column and row, or ends at its last."""
        size = image.shape[1], image.shape[0]
        scale = self._fitted(size, shape).scale * generator.uniform(1 - 2 * self.jitter, 1, 2)
        across, down = part[1] / scale[0], part[0] / scale[1]
        left = 0.0 if first[0] else size[0] - across
        top = 0.0 if first[1] else size[1] - down
        return Letterbox(size=size, shape=part, window=(left, top, left + across, top + down))

    def _fitted(self, size: tuple[int, int], shape: tuple[int, int]) -> Letterbox:
        return Letterbox.fit(size, shape, keep_aspect=self.keep_aspect)

    def _mirrored(self, generator: np.random.Generator) -> bool:
        return bool(generator.random() < self.flip)

    def _placed(
        self,
        image: np.ndarray,
        instances: Instances,
        box: Letterbox,
        mirrored: bool,
        generator: np.random.Generator,
    ) -> Sample:
        """Resampled, coloured and perhaps mirrored; five numbers are drawn."""
        hue = generator.uniform(-self.hue, self.hue)
        saturation, exposure = (drawn_factor(most, generator) for most in (self.saturation, self.exposure))
        (top, left), patch = box.patch(image)
        canvas = np.full((*box.shape, 3), GREY, dtype=np.uint8)
        canvas[top : top + patch.shape[0], left : left + patch.shape[1]] = coloured(
            patch, hue=hue, saturation=saturation, exposure=exposure
        )
        found = cut(instances, box)
        if not mirrored:
            return canvas, found
        return np.ascontiguousarray(canvas[:, ::-1]), _reflected(found, box.shape[1])


def cut(instances: Instances, box: Letterbox) -> Instances:
    """Instances in pixels of the network, cut to it; without those of which little is left."""
    whole = box.to_network(instances.boxes)
    rows, columns = box.shape
    seen = np.clip(whole, 0, np.array([columns, rows, columns, rows], dtype=np.float64))
    sides = seen[:, 2:] - seen[:, :2]
    share = sides.prod(axis=1) / (whole[:, 2:] - whole[:, :2]).prod(axis=1)
    kept = (share >= LEAST_SHARE) & (sides >= LEAST_SIDE_PX).all(axis=1)
    area = instances.area * share * box.scale.prod()
    return Instances.of(seen[kept], instances.labels[kept], instances.crowd[kept], area[kept])


def _reflected(instances: Instances, columns: int) -> Instances:
    left, top, right, bottom = instances.boxes.T
    boxes = np.column_stack((columns - right, top, columns - left, bottom))
    return Instances.of(boxes, instances.labels, instances.crowd, instances.area)


def _shifted(instances: Instances, across: int, down: int) -> Instances:
    boxes = instances.boxes + np.array([across, down, across, down], dtype=np.float32)
    return Instances.of(boxes, instances.labels, instances.crowd, instances.area)
