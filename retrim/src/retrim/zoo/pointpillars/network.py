"""The network, with the parameter names of OpenPCDet.

References
----------
Lang et al., PointPillars, arXiv:1812.05784, sections 2.1 to 2.3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from retrim.zoo.pointpillars.config import STRIDE, Config
from retrim.zoo.pointpillars.pillars import Pillars

_EPS, _MOMENTUM = 1e-3, 0.01
_PRIOR = 0.01  # of an object at any anchor, which training begins with
_HALVES = 2
_FEATURES = 10  # x, y, z, r and two differences of three


class Predictions(NamedTuple):
    """Of all anchors, in the order of `anchors`.

    Attributes
    ----------
    classes : Tensor, shape (scans, anchors, classes)
        Logits.
    codes : Tensor, shape (scans, anchors, 7)
    directions : Tensor, shape (scans, anchors, 2)
        Logits.
    """

    classes: torch.Tensor
    codes: torch.Tensor
    directions: torch.Tensor


class PointPillars(nn.Module):
    """PointPillars.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vfe = PillarFeatures(config)
        self.backbone_2d = Backbone(config)
        self.dense_head = Head(config)

    def forward(self, pillars: Pillars) -> Predictions:
        """Predictions of a batch of scans."""
        seen: Predictions = self.dense_head(self.backbone_2d(self.image(pillars)))
        return seen

    def image(self, pillars: Pillars) -> torch.Tensor:
        """Pillar features where the pillars stand, shape (scans, features, rows, columns)."""
        rows, columns = self.config.grid
        features = self.vfe(pillars)
        flat = features.new_zeros(pillars.scans * rows * columns, features.shape[1])
        flat = flat.index_copy(0, pillars.cells, features)
        image: torch.Tensor = flat.view(pillars.scans, rows, columns, -1).permute(0, 3, 1, 2)
        return image


class PillarLayer(nn.Module):
    """A linear layer on every point, and the maximum over a pillar's."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs, eps=_EPS, momentum=_MOMENTUM)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (pillars, points, inputs) to (pillars, outputs)."""
        pillars, points, inputs = features.shape
        hidden = self.norm(self.linear(features.reshape(-1, inputs)))
        # ReLU is monotonous: after the maximum it is the same, and has less to do.
        pooled: torch.Tensor = hidden.view(pillars, points, hidden.shape[1]).amax(dim=1).relu()
        return pooled


class PillarFeatures(nn.Module):
    """What is said about each point, and learnt about each pillar.

    Places without a point are zeros that go through layer and normalisation like
    points, as public weights expect.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.pfn_layers = nn.ModuleList([PillarLayer(_FEATURES, config.features)])

    def forward(self, pillars: Pillars) -> torch.Tensor:
        """Features of pillars, shape (pillars, features)."""
        features = self.decorated(pillars)
        for layer in self.pfn_layers:
            features = layer(features)
        return features

    def decorated(self, pillars: Pillars) -> torch.Tensor:
        """x, y, z, r, offset from the pillar's mean, offset from its centre; (pillars, points, 10)."""
        points, counts = pillars.points, pillars.counts
        place = points[:, :, :3]
        mean = place.sum(dim=1, keepdim=True) / counts.view(-1, 1, 1)
        rows, columns = self.config.grid
        cells = torch.stack((pillars.cells % columns, pillars.cells // columns % rows), dim=1)
        low, high = points.new_tensor(self.config.low), points.new_tensor(self.config.high)
        centre = low[:2] + (cells + 0.5) * self.config.pillar
        middle = ((low[2] + high[2]) / 2).expand(len(counts), 1)
        centre = torch.cat((centre, middle), dim=1).unsqueeze(1)
        features = torch.cat((points, place - mean, place - centre), dim=2)
        filled = torch.arange(points.shape[1]) < counts.unsqueeze(1)
        return features * filled.unsqueeze(2)


class Backbone(nn.Module):
    """Three blocks of convolutions, each half as fine as the one before; joined at stride 2."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        inputs = (config.features, *config.widths[:-1])
        self.blocks = nn.ModuleList(
            _block(*sizes) for sizes in zip(inputs, config.widths, config.depths, strict=True)
        )
        self.deblocks = nn.ModuleList(
            _deblock(width, config.joined, STRIDE**level) for level, width in enumerate(config.widths)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map for the head, shape (scans, 3 * joined, rows / 2, columns / 2)."""
        joined = []
        for block, deblock in zip(self.blocks, self.deblocks, strict=True):
            image = block(image)
            joined.append(deblock(image))
        return torch.cat(joined, dim=1)


class Head(nn.Module):
    """Three 1x1 convolutions: class, box and direction of every anchor."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        inputs, count = len(config.widths) * config.joined, config.anchors_at_place
        self.classes = len(config.anchors)
        self.conv_cls = nn.Conv2d(inputs, count * self.classes, 1)
        self.conv_box = nn.Conv2d(inputs, count * 7, 1)
        self.conv_dir_cls = nn.Conv2d(inputs, count * _HALVES, 1)
        nn.init.constant_(self.conv_cls.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]
        nn.init.normal_(self.conv_box.weight, mean=0, std=0.001)

    def forward(self, image: torch.Tensor) -> Predictions:
        """Predictions of all anchors."""
        return Predictions(
            _by_anchor(self.conv_cls(image), self.classes),
            _by_anchor(self.conv_box(image), 7),
            _by_anchor(self.conv_dir_cls(image), _HALVES),
        )


def _by_anchor(image: torch.Tensor, numbers: int) -> torch.Tensor:
    return image.permute(0, 2, 3, 1).reshape(image.shape[0], -1, numbers)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)


def _block(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.ZeroPad2d(1),
        nn.Conv2d(inputs, outputs, 3, stride=STRIDE, bias=False),
        _norm(outputs),
        nn.ReLU(),
    ]
    for _ in range(depth):
        layers += [nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), _norm(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def _deblock(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, stride, stride=stride, bias=False), _norm(outputs), nn.ReLU()
    )
