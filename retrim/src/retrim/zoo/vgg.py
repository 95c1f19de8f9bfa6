"""VGG-16, plain or with batch normalisation, with torchvision's parameter names.

References
----------
Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image
Recognition, arXiv:1409.1556, table 1, column D.  The head for CIFAR is the
usual one of its descendants: one linear layer on 512 features.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from retrim.errors import ConfigError

Head = Literal["imagenet", "cifar"]

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_GRID = 7
_HIDDEN = 4096


class VGG(nn.Module):
    """Thirteen 3x3 convolutions in five stages, each followed by max-pooling, and a head.

    Parameters
    ----------
    classes : int
    norm : bool
        Batch normalisation after each convolution.
    head : {"imagenet", "cifar"}
        Three linear layers on 7 x 7 averages with dropout (`classifier.0`, `.3`,
        `.6`), or one (`classifier`) on the mean over what is left of the image.
    """

    def __init__(self, classes: int = 1000, *, norm: bool = False, head: Head = "imagenet") -> None:
        super().__init__()
        if head not in ("imagenet", "cifar"):
            raise ConfigError(f"head must be 'imagenet' or 'cifar', not {head!r}")
        if classes < 1:
            raise ConfigError(f"classes must be a whole number >= 1, not {classes}")
        self.features = _features(norm)
        self.avgpool = nn.AdaptiveAvgPool2d(_GRID if head == "imagenet" else 1)
        width = _STAGES[-1][-1]
        self.classifier = _head(classes) if head == "imagenet" else nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(_bias(module))
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(_bias(module))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (n, classes), of images (n, 3, h, w), h and w >= 32."""
        logits: torch.Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


def vgg16(classes: int = 1000, *, head: Head = "imagenet") -> VGG:
    """138,357,544 parameters at 1000 classes."""
    return VGG(classes, head=head)


def vgg16_bn(classes: int = 1000, *, head: Head = "imagenet") -> VGG:
    """138,365,992 parameters at 1000 classes; 14,728,266 at 10 with the head for CIFAR."""
    return VGG(classes, norm=True, head=head)


def _features(norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 3
    for stage in _STAGES:
        for width in stage:
            layers.append(nn.Conv2d(inputs, width, 3, padding=1))
            if norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            inputs = width
        layers.append(nn.MaxPool2d(2, stride=2))
    return nn.Sequential(*layers)


def _head(classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(_STAGES[-1][-1] * _GRID * _GRID, _HIDDEN),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(_HIDDEN, _HIDDEN),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(_HIDDEN, classes),
    )


def _bias(module: nn.Conv2d | nn.Linear) -> torch.Tensor:
    bias = module.bias
    assert bias is not None  # noqa: S101 - all are made with one
    return bias
