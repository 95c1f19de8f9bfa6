"""Ultra-Fast-Lane-Detection on TuSimple, as experiments and the training loop see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional

from retrim.errors import ConfigError
from retrim.zoo.public import load_public
from retrim.zoo.task import Task
from retrim.zoo.tusimple import HELD_OUT, TRAINING, Frame, mean_score, read_frames, score_frame
from retrim.zoo.tusimple.dataset import Part
from retrim.zoo.ultrafast.augmentation import Augmentation, moved_image
from retrim.zoo.ultrafast.config import PAPER, Config
from retrim.zoo.ultrafast.decoding import decode
from retrim.zoo.ultrafast.lanes import Polyline, continued, labels, moved, ordered, sampled
from retrim.zoo.ultrafast.loss import LaneLoss
from retrim.zoo.ultrafast.network import UltraFast

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's colours: what the trunk's public weights expect."""

_PROBE = 256
_STRIDE = 8  # of the segmentation branch


@dataclass(frozen=True)
class LaneBatch:
    """Images and labels.

    Attributes
    ----------
    images : Tensor of float, shape (n, 3, height, width)
        Normalised.
    labels : Tensor of int64, shape (n, anchors, lanes)
        Cells; `cells` where there is no lane.
    segmentation : Tensor of int64, shape (n, height / 8, width / 8), or None
        Lane 1, 2, …; 0 elsewhere.
    """

    images: torch.Tensor
    labels: torch.Tensor
    segmentation: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """Frames of one part, decoded and brought to the network's size.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, height, width, 3)
    frames : list of Frame
    sizes : list of (width, height)
        Of the images on file.
    lanes : list of list of Polyline
        In their slots, in pixels of the images on file.
    """

    images: np.ndarray
    frames: list[Frame]
    sizes: list[tuple[int, int]]
    lanes: list[list[Polyline]]

    @classmethod
    def read(cls, frames: Sequence[Frame], config: Config) -> Loaded:
        """Decode all images; they stay in memory."""
        images = np.empty((len(frames), config.height, config.width, 3), dtype=np.uint8)
        sizes = []
        for index, frame in enumerate(frames):
            image = frame.read()
            sizes.append(image.size)
            images[index] = image.resize((config.width, config.height), Image.Resampling.BILINEAR)
        lanes = [ordered(frame, size, config.lanes) for frame, size in zip(frames, sizes, strict=True)]
        return cls(images, list(frames), sizes, lanes)


@dataclass(frozen=True, kw_only=True)
class LaneTask(Task):
    """Lanes of TuSimple, or of anything in its layout.

    Parameters
    ----------
    folder : Path
        See `retrim.zoo.tusimple.read_frames`.
    config : Config
    batch : int
        Images in a training batch; what is left at the end of an epoch is left out.
    augmentation : Augmentation or None
        None trains on the images as they are.
    losses : LaneLoss
    weights : Path, optional
        Of the whole network, to start from.
    trunk : Path, optional
        Of torchvision's classifier that the trunk is taken from.
    """

    folder: Path
    config: Config = PAPER
    batch: int = 32
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    losses: LaneLoss = field(default_factory=LaneLoss)
    weights: Path | None = None
    trunk: Path | None = None

    metric: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"batch must be a whole number >= 1, not {self.batch}")
        if self.weights is not None and self.trunk is not None:
            raise ConfigError(
                "weights and trunk must not both be given: the network's weights hold the trunk's"
            )

    def build(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = UltraFast(self.config)
        if self.trunk is not None:
            load_public(model.model, self.trunk, ignore=("fc.",))
        return model if self.weights is None else load_public(model, self.weights, ignore=("aux_",))

    @property
    def steps(self) -> int:
        return max(1, len(self.training.frames) // self.batch)

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[LaneBatch]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.training.frames))
        for step in range(start, self.steps):
            chosen = order[step * self.batch : (step + 1) * self.batch]
            yield self._batch(self.training, [int(index) for index in chosen], (seed, epoch))

    def loss(self, model: nn.Module, batch: LaneBatch) -> torch.Tensor:
        if batch.segmentation is None or not model.training:
            return self.losses(model(batch.images), batch.labels)
        assert isinstance(model, UltraFast)  # noqa: S101 - `build` made it
        logits, segmentation = model.forward_with_segmentation(batch.images)
        return self.losses(logits, batch.labels) + functional.cross_entropy(segmentation, batch.segmentation)

    def probe(self) -> Sequence[LaneBatch]:
        count = min(_PROBE, len(self.training.frames))
        return [
            self._batch(self.training, list(range(first, min(first + self.batch, count))), None)
            for first in range(0, count, self.batch)
        ]

    def score(self, model: nn.Module) -> dict[str, float]:
        predicted = self.predict(model, self.held_out)
        score = mean_score(
            [
                score_frame(lanes, frame.lanes, frame.rows)
                for lanes, frame in zip(predicted, self.held_out.frames, strict=True)
            ]
        )
        return {
            "accuracy": 100 * score.accuracy,
            "false_positives": 100 * score.false_positives,
            "false_negatives": 100 * score.false_negatives,
        }

    def predict(self, model: nn.Module, loaded: Loaded) -> list[np.ndarray]:
        """Lanes of each frame at the rows of its label, shape (lanes found, rows)."""
        training = model.training
        model.eval()
        found: list[np.ndarray] = []
        try:
            with torch.inference_mode():
                for first in range(0, len(loaded.frames), self.batch):
                    part = slice(first, first + self.batch)
                    logits = model(_normalised(loaded.images[part]))
                    found += decode(logits, self.config, loaded.frames[part], loaded.sizes[part])
        finally:
            model.train(training)
        return found

    @cached_property
    def training(self) -> Loaded:
        """Frames to train on, in memory."""
        return self._load(TRAINING)

    @cached_property
    def held_out(self) -> Loaded:
        """Frames to score on, in memory."""
        return self._load(HELD_OUT)

    def _load(self, part: Part) -> Loaded:
        return Loaded.read(read_frames(self.folder, part), self.config)

    def _batch(self, loaded: Loaded, indices: list[int], key: tuple[int, int] | None) -> LaneBatch:
        samples = [self._sample(loaded, index, key) for index in indices]
        segmentation = None
        if self.config.auxiliary:
            masks = [
                _segmentation(lanes, loaded.sizes[index], self.config)
                for index, (_, _, lanes) in zip(indices, samples, strict=True)
            ]
            segmentation = torch.from_numpy(np.stack(masks))
        return LaneBatch(
            _normalised(np.stack([image for image, _, _ in samples])),
            torch.from_numpy(np.stack([label for _, label, _ in samples])),
            segmentation,
        )

    def _sample(
        self, loaded: Loaded, index: int, key: tuple[int, int] | None
    ) -> tuple[np.ndarray, np.ndarray, list[Polyline]]:
        """Image, labels and lanes of one frame; moved at random where a key (seed, epoch) is given."""
        size, image, lanes = loaded.sizes[index], loaded.images[index], loaded.lanes[index]
        move = self.augmentation is not None and key is not None
        if self.augmentation is not None and key is not None:
            matrix, mirrored = self.augmentation.drawn(np.random.default_rng([*key, index]), size)
            image = moved_image(image, matrix, size)
            lanes = [moved(points, matrix) for points in (lanes[::-1] if mirrored else lanes)]
        rows = np.array(self.config.anchors) * size[1]
        columns = np.stack([sampled(points, rows, size[0]) for points in lanes])
        if move:
            columns = np.stack([continued(lane, rows, size[0]) for lane in columns])
        return image, labels(columns, size[0], self.config.cells), lanes


def _normalised(images: np.ndarray) -> torch.Tensor:
    """Images (n, height, width, 3) of uint8 as the trunk takes them, (n, 3, height, width)."""
    scaled = (
        torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    )
    mean, deviation = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(DEVIATION).view(3, 1, 1)
    return scaled.sub_(255 * mean).div_(255 * deviation)


def _segmentation(lanes: list[Polyline], size: tuple[int, int], config: Config) -> np.ndarray:
    """Lanes drawn at an eighth of the network's size, int64."""
    width, height = config.width // _STRIDE, config.height // _STRIDE
    image = Image.new("L", (width, height))
    pen = ImageDraw.Draw(image)
    for number, points in enumerate(lanes, 1):
        if len(points) > 1:
            scaled = points * np.array([width / size[0], height / size[1]])
            pen.line([(float(x), float(y)) for x, y in scaled], fill=number, width=1)
    return np.asarray(image, dtype=np.int64)
