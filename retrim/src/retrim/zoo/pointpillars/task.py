"""PointPillars on KITTI, as experiments and the training loop see it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from retrim.errors import ConfigError, DataError
from retrim.zoo.kitti import CLASSES, DIFFICULTIES, HELD_OUT, TRAINING, Augmentation, Frame, average_precision
from retrim.zoo.kitti.bank import Bank
from retrim.zoo.kitti.boxes import objects_of
from retrim.zoo.kitti.dataset import read_frames
from retrim.zoo.kitti.metric import Kind
from retrim.zoo.kitti.objects import Objects
from retrim.zoo.pointpillars.config import PAPER, Config
from retrim.zoo.pointpillars.decoding import Detections, detections_of
from retrim.zoo.pointpillars.loss import DetectionLoss
from retrim.zoo.pointpillars.network import PointPillars
from retrim.zoo.pointpillars.pillars import Pillars, gather
from retrim.zoo.pointpillars.targets import Targets, targets_of
from retrim.zoo.public import load_public
from retrim.zoo.task import Task

_PROBE = 64
_KINDS: tuple[Kind, ...] = ("3d", "bev")
_RUNNING = ("global_step",)  # OpenPCDet counts its steps among the parameters


@dataclass(frozen=True)
class ScanBatch:
    """Scans and what should be found in them."""

    pillars: Pillars
    targets: Targets


@dataclass(frozen=True, kw_only=True)
class PointPillarsTask(Task):
    """Cars, pedestrians and cyclists of KITTI, or of anything in its layout.

    Parameters
    ----------
    folder : Path
        See `retrim.zoo.kitti.read_frames`.
    config : Config
    batch : int
        Scans in a training batch; what is left at the end of an epoch is left out.
    augmentation : Augmentation or None
        None trains on the scans as they are.
    losses : DetectionLoss
    weights : Path, optional
        Of the whole network, to start from.
    """

    folder: Path
    config: Config = PAPER
    batch: int = 4
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    losses: DetectionLoss = field(default_factory=DetectionLoss)
    weights: Path | None = None

    metric: ClassVar[str] = "ap_3d"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"batch must be a whole number >= 1, not {self.batch}")
        unknown = [name for name in self.config.classes if name not in CLASSES]
        if unknown:
            raise ConfigError(f"classes must be among {', '.join(CLASSES)}, not {', '.join(unknown)}")

    def build(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = PointPillars(self.config)
        return model if self.weights is None else load_public(model, self.weights, ignore=_RUNNING)

    @property
    def steps(self) -> int:
        return max(1, len(self.training) // self.batch)

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[ScanBatch]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.training))
        for step in range(start, self.steps):
            chosen = order[step * self.batch : (step + 1) * self.batch]
            yield self._batch([int(index) for index in chosen], (seed, epoch))

    def loss(self, model: nn.Module, batch: ScanBatch) -> torch.Tensor:
        return self.losses(model(batch.pillars), batch.targets)

    def probe(self) -> Sequence[ScanBatch]:
        count = min(_PROBE, len(self.training))
        return [
            self._batch(list(range(first, min(first + self.batch, count))), None)
            for first in range(0, count, self.batch)
        ]

    def score(self, model: nn.Module) -> dict[str, float]:
        """Average precisions in percent.

        `ap_3d` and `ap_bev` are means over classes at moderate difficulty; the others are
        named `Car_3d_moderate` and so on.  Classes of which nothing counts are left out.
        """
        labels = [frame.objects for frame in self.held_out]
        return scores(labels, self.predict(model, self.held_out), self.config.classes)

    def predict(self, model: nn.Module, frames: Sequence[Frame]) -> list[Objects]:
        """What the network finds in each frame, as KITTI's objects."""
        names = np.array(self.config.classes)
        return [
            objects_of(found.boxes, names[found.kinds], found.scores, frame.calibration, frame.image_size)
            for frame, found in zip(frames, self.detect(model, frames), strict=True)
        ]

    def detect(self, model: nn.Module, frames: Sequence[Frame]) -> list[Detections]:
        """What the network finds in each frame, in the scanner's coordinates; in evaluation mode."""
        training = model.training
        model.eval()
        found: list[Detections] = []
        try:
            with torch.inference_mode():
                for first in range(0, len(frames), self.batch):
                    scans = [frame.points() for frame in frames[first : first + self.batch]]
                    found += detections_of(model(gather(scans, self.config)), self.config)
        finally:
            model.train(training)
        return found

    @cached_property
    def training(self) -> list[Frame]:
        """Frames to train on."""
        return read_frames(self.folder, TRAINING)

    @cached_property
    def held_out(self) -> list[Frame]:
        """Frames to score on."""
        return read_frames(self.folder, HELD_OUT)

    @cached_property
    def bank(self) -> Bank:
        """Objects of the frames to train on."""
        return Bank.of(self.training, self.config.classes)

    def _batch(self, indices: list[int], key: tuple[int, int] | None) -> ScanBatch:
        scans, boxes, kinds = zip(*(self._sample(index, key) for index in indices), strict=True)
        return ScanBatch(gather(scans, self.config), targets_of(list(boxes), list(kinds), self.config))

    def _sample(self, index: int, key: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frame = self.training[index]
        points = frame.points()
        boxes, kinds = frame.boxes(self.config.classes)
        if self.augmentation is None or key is None:
            return points, boxes, kinds
        generator = np.random.default_rng([*key, index])
        if self.augmentation.objects:
            points, boxes, kinds = self.bank.filled(
                points, boxes, kinds, self.augmentation.objects, generator
            )
        return (*self.augmentation.moved(points, boxes, generator), kinds)


def scores(
    labels: Sequence[Objects], detections: Sequence[Objects], classes: Sequence[str]
) -> dict[str, float]:
    """Average precisions of each class, kind and difficulty, and their means; see `PointPillarsTask.score`."""
    found = {
        f"{name}_{kind}_{difficulty}": average_precision(labels, detections, name, kind, difficulty)
        for kind in _KINDS
        for name in classes
        for difficulty in DIFFICULTIES
    }
    found = {key: value for key, value in found.items() if not math.isnan(value)}
    means = {}
    for kind in _KINDS:
        values = [found[key] for name in classes if (key := f"{name}_{kind}_moderate") in found]
        if not values:
            raise DataError(
                f"frames held out must have a moderate object of {', '.join(classes)}, but have none: name others in "
                "ImageSets/val.txt"
            )
        means[f"ap_{kind}"] = sum(values) / len(values)
    return {**means, **found}
