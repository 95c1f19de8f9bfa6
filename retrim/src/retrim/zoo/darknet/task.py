"""Darknet's detectors on COCO, as experiments and the training loop see them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from retrim.errors import ConfigError, DataError
from retrim.zoo import coco
from retrim.zoo.coco.augmentation import Sample, cut
from retrim.zoo.darknet.detections import Detections, detections_of
from retrim.zoo.darknet.heads import Head
from retrim.zoo.darknet.loss import DetectionLoss
from retrim.zoo.darknet.network import DarknetNetwork
from retrim.zoo.darknet.sections import Section, read_sections
from retrim.zoo.darknet.weights import load_weights
from retrim.zoo.task import Task

_PROBE = 512


@dataclass(frozen=True)
class ImageBatch:
    """Images and what should be found in them.

    Attributes
    ----------
    images : Tensor, shape (n, 3, height, width)
        From 0 to 1.
    truths : list of n Tensor, shape (m, 5)
        Class, centre x and y, width, height in pixels of the input.
    """

    images: torch.Tensor
    truths: list[torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class DarknetTask(Task):
    """A detector from a `.cfg` on images with boxes, in COCO's layouts.

    Parameters
    ----------
    folder : Path
        See `retrim.zoo.coco.open_coco`.
    cfg : Path
    weights : Path, optional
        Of the whole network, to start from.
    batch : int
        Images in a training batch; what is left at the end of an epoch is left out.
    size : int
        Pixels of the input's height and width; 0: as the cfg says.
    keep_aspect : bool
        Letterbox images, or stretch them to the input as AlexeyAB's darknet does.
    augmentation : Augmentation or None
        None trains on the images as they are; its `keep_aspect` is the task's.
    losses : DetectionLoss
    score_above : float
        Scores of detections that the metric counts.
    overlap : float
        Of two detections of a class above which the worse one is dropped.
    workers : int
        Threads that read images.
    """

    folder: Path
    cfg: Path
    weights: Path | None = None
    batch: int = 16
    size: int = 0
    keep_aspect: bool = True
    augmentation: coco.Augmentation | None = field(default_factory=coco.Augmentation)
    losses: DetectionLoss = field(default_factory=DetectionLoss)
    score_above: float = 0.005
    overlap: float = 0.45
    workers: int = 2

    metric: ClassVar[str] = "ap50"

    def __post_init__(self) -> None:
        for name in ("batch", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be a whole number >= 1, not {getattr(self, name)}")
        if self.size < 0:
            raise ConfigError(f"size must be a number of pixels, or 0 for the cfg's, not {self.size}")
        for name in ("score_above", "overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be a number from 0 to 1, not {getattr(self, name)}")

    def build(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = DarknetNetwork(self._sections)
        return model if self.weights is None else load_weights(model, self.weights)

    @property
    def steps(self) -> int:
        return max(1, len(self.training) // self.batch)

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[ImageBatch]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.training))
        with ThreadPoolExecutor(self.workers) as pool:
            for step in range(start, self.steps):
                chosen = order[step * self.batch : (step + 1) * self.batch].tolist()
                yield _batch(list(pool.map(lambda one: self._sample(one, seed, epoch), chosen)))

    def loss(self, model: nn.Module, batch: ImageBatch) -> torch.Tensor:
        return self.losses(model(batch.images), batch.truths, _heads(model))

    def probe(self) -> Sequence[ImageBatch]:
        count = min(_PROBE, len(self.training))
        chosen = np.linspace(0, len(self.training) - 1, count).astype(int).tolist()
        return [
            _batch([self._plain(one) for one in chosen[first : first + self.batch]])
            for first in range(0, count, self.batch)
        ]

    def score(self, model: nn.Module) -> dict[str, float]:
        """Average precisions in percent: `ap50`, `ap75` and `ap` (mean over overlaps .50 to .95).

        Raises
        ------
        DataError
            If no image has an object that counts.
        """
        found = coco.average_precision(self.held_out.truths(), self.predict(model, self.held_out))
        if math.isnan(found["AP50"]):
            raise DataError(
                f"images held out in {str(self.folder)!r} must have objects to score on, but have none: check their labels"
            )
        return {"ap50": found["AP50"], "ap": found["AP"], "ap75": found["AP75"]}

    def predict(self, model: nn.Module, images: coco.CocoDataset) -> list[coco.Detections]:
        """What the network finds in each image, in pixels of the image; in evaluation mode."""
        training = model.training
        model.eval()
        found: list[coco.Detections] = []
        try:
            with torch.inference_mode(), ThreadPoolExecutor(self.workers) as pool:
                for first in range(0, len(images), self.batch):
                    part = range(first, min(first + self.batch, len(images)))
                    pictures, boxes = zip(*pool.map(lambda one: self._fitted(images, one), part), strict=True)
                    maps = model(_pixels(pictures))
                    here = detections_of(maps, _heads(model), score=self.score_above, overlap=self.overlap)
                    found += [_in_image(one, box) for one, box in zip(here, boxes, strict=True)]
        finally:
            model.train(training)
        return found

    @cached_property
    def training(self) -> coco.CocoDataset:
        """Images to train on."""
        return self._open(coco.TRAINING)

    @cached_property
    def held_out(self) -> coco.CocoDataset:
        """Images to score on."""
        return self._open(coco.HELD_OUT)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width of the input."""
        net = self._sections[0]
        return (self.size, self.size) if self.size else (net.whole("height", 416), net.whole("width", 416))

    @cached_property
    def _sections(self) -> tuple[Section, ...]:
        return read_sections(self.cfg)

    @cached_property
    def _moved(self) -> coco.Augmentation | None:
        return self.augmentation and replace(self.augmentation, keep_aspect=self.keep_aspect)

    def _open(self, split: str) -> coco.CocoDataset:
        found = coco.open_coco(self.folder, split)
        if not len(found):
            raise DataError(f"data folder {str(self.folder)!r} must hold images of {split!r}, but holds none")
        return found

    def _fitted(self, images: coco.CocoDataset, index: int) -> tuple[np.ndarray, coco.Letterbox]:
        """An image at the network's size, and where it came from."""
        image, _ = images[index]
        box = coco.Letterbox.fit(images.frames[index].size, self.shape, keep_aspect=self.keep_aspect)
        return box.image(image), box

    def _plain(self, index: int) -> Sample:
        """A training image as it is."""
        image, instances = self.training[index]
        box = coco.Letterbox.fit(self.training.frames[index].size, self.shape, keep_aspect=self.keep_aspect)
        return box.image(image), cut(instances, box)

    def _sample(self, index: int, seed: int, epoch: int) -> Sample:
        """A training image, moved and coloured where the task says so."""
        if self._moved is None:
            return self._plain(index)
        return self._moved.sample(self.training, index, self.shape, seed=seed, epoch=epoch)


def _heads(model: nn.Module) -> tuple[Head, ...]:
    found: tuple[Head, ...] = model.heads  # type: ignore[assignment]
    return found


def _batch(samples: Sequence[Sample]) -> ImageBatch:
    images, instances = zip(*samples, strict=True)
    return ImageBatch(_pixels(images), [truth_of(found.single()) for found in instances])


def truth_of(instances: coco.Instances) -> torch.Tensor:
    """Class, centre and size of each box, shape (n, 5), as the loss takes them."""
    boxes = instances.boxes
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.from_numpy(np.column_stack((instances.labels, centre, size)).astype(np.float32))


def _pixels(images: Sequence[np.ndarray]) -> torch.Tensor:
    """Images of uint8 (h, w, 3) as float32 from 0 to 1, shape (n, 3, h, w)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)


def _in_image(found: Detections, box: coco.Letterbox) -> coco.Detections:
    """Detections in pixels of the image that `box` was made of."""
    return coco.Detections(
        boxes=box.to_image(found.boxes.numpy()), scores=found.scores.numpy(), labels=found.labels.numpy()
    )
