"""The network: a residual trunk, and a head that sees the whole image.

Parameter names are those of cfzd/Ultra-Fast-Lane-Detection.

References
----------
arXiv:2004.11757, section 3.1 and figure 4; the auxiliary branch after the
authors' code.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from retrim.zoo.resnet import Basic, Trunk
from retrim.zoo.ultrafast.config import PAPER, Config

_WIDTH = 128  # of the auxiliary branch


class UltraFast(nn.Module):
    """Ultra-Fast-Lane-Detection."""

    def __init__(self, config: Config = PAPER) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(Basic, config.depths, width=config.channels)
        self.pool = nn.Conv2d(self.model.channels[-1], config.pooled, 1)
        self.cls = nn.Sequential(
            nn.Linear(config.features, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, math.prod(config.shape)),
        )
        for index in (0, 2):
            nn.init.normal_(self.cls[index].weight, 0, 0.01)  # type: ignore[arg-type]
        if config.auxiliary:
            self._add_auxiliary()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (n, cells + 1, anchors, lanes), of images (n, 3, height, width).

        The last of the cells + 1 choices is "no lane in this row".
        """
        return self._head(self.model(x)[-1])

    def forward_with_segmentation(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits as `forward`, and those of the auxiliary branch.

        Returns
        -------
        logits : Tensor, shape (n, cells + 1, anchors, lanes)
        segmentation : Tensor, shape (n, lanes + 1, height / 8, width / 8)
            Class 0 is the background.
        """
        second, third, fourth = self.model(x)
        size = second.shape[-2:]
        maps = [
            self.aux_header2(second),
            _enlarge(self.aux_header3(third), size),
            _enlarge(self.aux_header4(fourth), size),
        ]
        return self._head(fourth), self.aux_combine(torch.cat(maps, 1))

    def _head(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.cls(self.pool(features).flatten(1))
        return logits.view(-1, *self.config.shape)

    def _add_auxiliary(self) -> None:
        _, second, third, fourth = self.model.channels
        self.aux_header2 = nn.Sequential(_Unit(second, _WIDTH), *(_Unit(_WIDTH, _WIDTH) for _ in range(3)))
        self.aux_header3 = nn.Sequential(_Unit(third, _WIDTH), *(_Unit(_WIDTH, _WIDTH) for _ in range(2)))
        self.aux_header4 = nn.Sequential(_Unit(fourth, _WIDTH), _Unit(_WIDTH, _WIDTH))
        self.aux_combine = nn.Sequential(
            _Unit(3 * _WIDTH, 2 * _WIDTH, 2),
            _Unit(2 * _WIDTH, _WIDTH, 2),
            _Unit(_WIDTH, _WIDTH, 2),
            _Unit(_WIDTH, _WIDTH, 4),
            nn.Conv2d(_WIDTH, self.config.lanes + 1, 1),
        )
        for part in (self.aux_header2, self.aux_header3, self.aux_header4, self.aux_combine):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)


class _Unit(nn.Module):
    """A 3x3 convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn(self.conv(x)))


def _enlarge(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
