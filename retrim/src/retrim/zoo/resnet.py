"""Residual networks: those for ImageNet, and the narrow ones for CIFAR.

Parameter names are those of the implementations whose weights are public:
torchvision for `ResNet`, akamaster/pytorch_resnet_cifar10 for `CifarResNet`.

References
----------
He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385:
table 1 (ImageNet), section 4.2 (CIFAR).  As in torchvision, a bottleneck that
halves the image does so in its 3x3 convolution, not in the first 1x1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from retrim.errors import ConfigError
from retrim.zoo.public import load_public

__all__ = [
    "Basic",
    "Bottleneck",
    "CifarResNet",
    "ResNet",
    "Trunk",
    "load_public",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet50",
    "resnet56",
]

Stem = Literal["imagenet", "cifar"]


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) to (n, width, ceil(h / stride), ceil(w / stride))."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last four times wider, and a shortcut around them."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = _convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) to (n, 4 width, ceil(h / stride), ceil(w / stride))."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Trunk(nn.Module):
    """A residual network up to its last block: what classifiers and lane detectors share.

    Parameters
    ----------
    block : type
        `Basic` or `Bottleneck`.
    depths : sequence of int
        Blocks of each of the four stages.
    width : int
        Channels of the first stage, before a bottleneck's expansion; they double
        at every stage.
    stem : {"imagenet", "cifar"}
        7x7 of stride 2 and max-pooling, or 3x3 of stride 1 without, for images
        of 32 x 32.
    """

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        depths: Sequence[int],
        *,
        width: int = 64,
        stem: Stem = "imagenet",
    ) -> None:
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise ConfigError(f"stem must be 'imagenet' or 'cifar', not {stem!r}")
        if len(depths) != 4 or min(depths) < 1:
            raise ConfigError(f"depths must be four whole numbers >= 1, not {tuple(depths)}")
        if width < 1:
            raise ConfigError(f"width must be a whole number >= 1, not {width}")
        small = stem == "cifar"
        self.conv1 = _convolution(3, width, 3) if small else _convolution(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.channels = tuple(width * 2**stage * block.expansion for stage in range(4))
        """Channels after each stage."""
        inputs = (width, *self.channels[:3])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, inputs[stage], width * 2**stage, depths[stage], stride=1 if stage == 0 else 2)
            for stage in range(4)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Feature maps after stages 2, 3 and 4 (strides 8, 16 and 32 with the ImageNet stem)."""
        x = self.layer1(self.maxpool(functional.relu(self.bn1(self.conv1(x)))))
        second = self.layer2(x)
        third = self.layer3(second)
        return second, third, self.layer4(third)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `stages`, from images (n, 3, h, w)."""
        return self.stages(x)


class ResNet(Trunk):
    """A residual network for classification, with torchvision's names.

    Parameters
    ----------
    classes : int
    block, depths, width, stem
        See `Trunk`.
    """

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        depths: Sequence[int],
        classes: int = 1000,
        *,
        width: int = 64,
        stem: Stem = "imagenet",
    ) -> None:
        super().__init__(block, depths, width=width, stem=stem)
        _check_classes(classes)
        self.fc = nn.Linear(self.channels[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Logits, shape (n, classes), of images (n, 3, h, w)."""
        logits: torch.Tensor = self.fc(self.stages(x)[-1].mean((2, 3)))
        return logits


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without weights (option A of the paper).

    Where the image is halved, the shortcut takes every other pixel and pads the
    new channels with zeros, one half before and one half behind.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.new = stride, width - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) to (n, width, ceil(h / stride), ceil(w / stride))."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride > 1 or self.new:
            before = self.new // 2
            x = functional.pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.new - before)
            )
        return functional.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet of 6 n + 2 layers for images of 32 x 32, with 16, 32 and 64 channels.

    Parameters
    ----------
    depth : int
        20, 32, 44, 56, …: blocks in a stage are (depth - 2) / 6.
    classes : int
    """

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ConfigError(f"depth must be 6 n + 2 (20, 32, 44, 56, …), not {depth}")
        _check_classes(classes)
        blocks = (depth - 2) // 6
        self.conv1 = _convolution(3, 16, 3)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(CifarBlock, 16, 16, blocks, stride=1)
        self.layer2 = _stage(CifarBlock, 16, 32, blocks, stride=2)
        self.layer3 = _stage(CifarBlock, 32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (n, classes), of images (n, 3, 32, 32)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(x.mean((2, 3)))
        return logits


def resnet18(classes: int = 1000, *, stem: Stem = "imagenet") -> ResNet:
    """11,689,512 parameters at 1000 classes."""
    return ResNet(Basic, (2, 2, 2, 2), classes, stem=stem)


def resnet50(classes: int = 1000, *, stem: Stem = "imagenet") -> ResNet:
    """25,557,032 parameters at 1000 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes, stem=stem)


def resnet20(classes: int = 10) -> CifarResNet:
    """269,722 parameters at 10 classes."""
    return CifarResNet(20, classes)


def resnet32(classes: int = 10) -> CifarResNet:
    """464,154 parameters at 10 classes."""
    return CifarResNet(32, classes)


def resnet56(classes: int = 10) -> CifarResNet:
    """853,018 parameters at 10 classes."""
    return CifarResNet(56, classes)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def _stage(
    block: type[Basic] | type[Bottleneck] | type[CifarBlock],
    inputs: int,
    width: int,
    depth: int,
    *,
    stride: int,
) -> nn.Sequential:
    outputs = width * getattr(block, "expansion", 1)
    first = block(inputs, width, stride)
    return nn.Sequential(first, *(block(outputs, width, 1) for _ in range(depth - 1)))


def _check_classes(classes: int) -> None:
    if classes < 1:
        raise ConfigError(f"classes must be a whole number >= 1, not {classes}")
