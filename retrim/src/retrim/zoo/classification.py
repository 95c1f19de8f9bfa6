"""Image classification as a task: CIFAR-10 in memory, or folders of images as ImageNet's.

Augmentation is the usual one: on CIFAR-10 a shift by up to 4 pixels and a flip,
on folders a crop of random size and shape (torchvision's ranges) and a flip.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from retrim.errors import ConfigError, DataError
from retrim.zoo.cifar import Cifar, read_cifar10
from retrim.zoo.classifiers import build
from retrim.zoo.image_folder import ImageFolder
from retrim.zoo.task import Task

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
PROBE = 512
SHIFT = 4

Batch = tuple[torch.Tensor, torch.Tensor]
"""Normalised images (n, 3, h, w) and their classes (n,)."""


class Classification(Task):
    """What classifiers on any data have in common."""

    metric: ClassVar[str] = "top1"
    batch: int

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Cross entropy."""
        images, classes = batch
        return functional.cross_entropy(model(images).float(), classes)

    @abstractmethod
    def held_out(self) -> Iterator[Batch]:
        """Batches of the data held out, not augmented."""

    @torch.inference_mode()
    def score(self, model: nn.Module) -> dict[str, float]:
        """Percent of images whose class ranks first, and among the first five."""
        mode = model.training
        model.eval()
        first = fifth = count = 0
        for images, classes in self.held_out():
            logits = model(images)
            ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == classes[:, None]
            first += int(ranked[:, 0].sum())
            fifth += int(ranked.sum())
            count += len(classes)
        model.train(mode)
        return {"top1": 100 * first / count, "top5": 100 * fifth / count}


@dataclass(frozen=True, kw_only=True)
class CifarTask(Classification):
    """A classifier on CIFAR-10.

    Parameters
    ----------
    data : Path
        See `retrim.zoo.cifar.read_cifar10`.
    network : str
        See `retrim.zoo.classifiers.build`.
    weights : Path, optional
        Published weights to start from.
    batch : int
    images : int
        Training images used, the same for every seed; 0: all.
    """

    data: Path
    network: str = "resnet20"
    weights: Path | None = None
    batch: int = 128
    images: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ConfigError(f"batch must be a whole number >= 1, not {self.batch}")
        if self.images < 0:
            raise ConfigError(f"images must be a whole number >= 0, not {self.images}")

    @cached_property
    def cifar(self) -> Cifar:
        """The data set, read once."""
        return read_cifar10(self.data)

    @cached_property
    def used(self) -> np.ndarray:
        """Training images in use: a fixed random subset, or all."""
        count = len(self.cifar.train_classes)
        if self.images > count:
            raise ConfigError(f"images must be at most the {count} of the training set, not {self.images}")
        order = np.random.default_rng(0).permutation(count)
        return order[: self.images] if self.images else np.arange(count)

    @property
    def steps(self) -> int:
        """Whole batches in an epoch."""
        found = len(self.used) // self.batch
        if not found:
            raise ConfigError(f"batch must be at most the {len(self.used)} training images, not {self.batch}")
        return found

    def build(self, seed: int) -> nn.Module:
        """The network, with public weights or random ones."""
        return build(self.network, 10, images="cifar", seed=seed, weights=self.weights)

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Shuffled, shifted by up to 4 pixels either way, flipped half the time."""
        order = np.random.default_rng([seed, epoch]).permutation(self.used)
        for number in range(start, self.steps):
            chosen = order[number * self.batch : (number + 1) * self.batch]
            draw = np.random.default_rng([seed, epoch, number])
            images = shifted_and_flipped(self.cifar.train_images[chosen], draw)
            yield normalised(images), torch.from_numpy(self.cifar.train_classes[chosen])

    def probe(self) -> Sequence[Batch]:
        """The first 512 images in use."""
        chosen = self.used[:PROBE]
        return [
            (normalised(self.cifar.train_images[chosen]), torch.from_numpy(self.cifar.train_classes[chosen]))
        ]

    def held_out(self) -> Iterator[Batch]:
        """All test images, 500 at a time."""
        images, classes = self.cifar.test_images, torch.from_numpy(self.cifar.test_classes)
        for first in range(0, len(classes), 500):
            yield normalised(images[first : first + 500]), classes[first : first + 500]


@dataclass(frozen=True, kw_only=True)
class FolderTask(Classification):
    """A classifier on folders of images, `train/<class>/…` and `val/<class>/…`, as ImageNet's.

    Parameters
    ----------
    data : Path
    network : str
        See `retrim.zoo.classifiers.build`.
    weights : Path, optional
        Published weights to start from.
    batch : int
    size : int
        Pixels of a side that the network sees.
    workers : int
        Threads that read images.
    """

    data: Path
    network: str = "resnet18"
    weights: Path | None = None
    batch: int = 256
    size: int = 224
    workers: int = 8

    def __post_init__(self) -> None:
        for name in ("batch", "size", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be a whole number >= 1, not {getattr(self, name)}")

    @cached_property
    def train(self) -> ImageFolder:
        """Training images."""
        return ImageFolder(self.data / "train", self.size)

    @cached_property
    def val(self) -> ImageFolder:
        """Images held out."""
        found = ImageFolder(self.data / "val", self.size)
        if found.classes != self.train.classes:
            odd = sorted(set(found.classes) ^ set(self.train.classes))[0]
            raise DataError(
                f"train and val of {str(self.data)!r} must have the same classes, but differ in {odd!r}"
            )
        return found

    @property
    def steps(self) -> int:
        """Whole batches in an epoch, or one if there are fewer images than that."""
        return max(1, len(self.train) // self.batch)

    def build(self, seed: int) -> nn.Module:
        """The network, with public weights or random ones."""
        return build(
            self.network, len(self.train.classes), images="imagenet", seed=seed, weights=self.weights
        )

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Shuffled, cropped at random, flipped half the time."""
        order = np.random.default_rng([seed, epoch]).permutation(len(self.train))
        with ThreadPoolExecutor(self.workers) as pool:
            for number in range(start, self.steps):
                chosen = order[number * self.batch : (number + 1) * self.batch].tolist()
                images = pool.map(lambda one: self.train.augmented(one, (seed, epoch, one)), chosen)
                yield normalised(np.stack(list(images))), self.train.classes_of(chosen)

    def probe(self) -> Sequence[Batch]:
        """512 training images (or all), evenly spaced, 64 at a time."""
        count = min(PROBE, len(self.train))
        return list(self._plain(self.train, np.linspace(0, len(self.train) - 1, count).astype(int).tolist()))

    def held_out(self) -> Iterator[Batch]:
        """All images of val, 64 at a time."""
        return self._plain(self.val, list(range(len(self.val))))

    def _plain(self, images: ImageFolder, chosen: Sequence[int]) -> Iterator[Batch]:
        with ThreadPoolExecutor(self.workers) as pool:
            for first in range(0, len(chosen), 64):
                some = chosen[first : first + 64]
                yield normalised(np.stack(list(pool.map(images.plain, some)))), images.classes_of(some)


def normalised(images: np.ndarray) -> torch.Tensor:
    """Images of uint8 (n, 3, h, w) as float32 with ImageNet's mean and deviation, channels last."""
    scaled = torch.from_numpy(images).float().div_(255)
    return scaled.sub_(MEAN).div_(STD).contiguous(memory_format=torch.channels_last)


def shifted_and_flipped(images: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Each image (3, h, w) shifted by up to 4 pixels, zeros coming in, and flipped half the time."""
    count, _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    down, right = draw.integers(0, 2 * SHIFT + 1, (2, count))
    rows = down[:, None] + np.arange(height)
    columns = right[:, None] + np.arange(width)
    flip = draw.random(count) < 0.5
    columns[flip] = columns[flip, ::-1]
    each = np.arange(count)[:, None, None]
    taken = padded.transpose(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
    return np.ascontiguousarray(taken.transpose(0, 3, 1, 2))
