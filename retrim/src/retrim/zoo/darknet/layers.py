"""Darknet's layers.

Each takes its inputs as arguments, tensors of shape (n, channels, height, width).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from retrim.zoo.darknet.sections import Section

EPS = 1e-5
"""Added to batch norm's variance, as AlexeyAB's darknet does; the original adds 1e-6 to the deviation."""

SLOPE = 0.1
"""Of leaky ReLU below 0."""


def activation_of(section: Section, default: str) -> nn.Module:
    """The activation that a section names."""
    name = section.text("activation", default)
    made: dict[str, nn.Module] = {
        "leaky": nn.LeakyReLU(SLOPE),
        "relu": nn.ReLU(),
        "relu6": nn.ReLU6(),
        "linear": nn.Identity(),
        "mish": nn.Mish(),
        "swish": nn.SiLU(),
        "logistic": nn.Sigmoid(),
    }
    if name not in made:
        raise section.wrong(
            f"have an activation of {', '.join(made)}", f"activation={name}", "choose a network without it"
        )
    return made[name]


class Convolution(nn.Module):
    """A convolution with batch norm or a bias, and an activation."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels, eps=EPS) if conv.bias is None else None
        self.activation = activation
        nn.init.kaiming_normal_(conv.weight, a=SLOPE)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(x)
        if self.norm is not None:
            hidden = self.norm(hidden)
        activated: torch.Tensor = self.activation(hidden)
        return activated


class MaxPool(nn.Module):
    """The maximum of windows of `size`, which begin `padding` // 2 before the map's edge.

    Of `padding` places that are added in all, the larger half is right and below; none of
    them is ever the maximum.
    """

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before, odd = divmod(self.padding, 2)
        if odd:
            after = before + 1
            x = functional.pad(x, (before, after, before, after), value=-math.inf)
            before = 0
        return functional.max_pool2d(x, self.size, self.stride, before)


class Upsample(nn.Module):
    """Each place repeated `stride` times either way."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(x, scale_factor=float(self.stride), mode="nearest")


class Route(nn.Module):
    """Layers one after the other, or of each the same of `groups` equal parts."""

    def __init__(self, groups: int, group: int) -> None:
        super().__init__()
        self.groups, self.group = groups, group

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        parts = [part.chunk(self.groups, dim=1)[self.group] for part in maps]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class Shortcut(nn.Module):
    """The layer before, with others added.

    Where channels differ, the first ones that both have are added; the result has as many as the layer before.
    """

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        for other in others:
            common, missing = other[:, : x.shape[1]], x.shape[1] - other.shape[1]
            x = x + (functional.pad(common, (0, 0, 0, 0, 0, missing)) if missing > 0 else common)
        activated: torch.Tensor = self.activation(x)
        return activated


class AveragePool(nn.Module):
    """The mean of each channel, as a map of one place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


class Yolo(nn.Module):
    """A head's map by anchor: (n, anchors, 5 + classes, height, width), as it is."""

    def __init__(self, anchors: int) -> None:
        super().__init__()
        self.anchors = anchors

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(len(x), self.anchors, x.shape[1] // self.anchors, *x.shape[2:])
