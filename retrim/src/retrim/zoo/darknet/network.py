"""The network that a `.cfg` describes.

Parameters are named after darknet's layers: `layers.{i}.conv.weight`, `layers.{i}.conv.bias`
(without batch norm), `layers.{i}.norm.weight` and so on, with `i` as darknet counts, `[net]` left out.

References
----------
Redmon and Farhadi, YOLOv3, arXiv:1804.02767, section 2.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.zoo.darknet.build import IMAGE, Layer, build_layers
from retrim.zoo.darknet.header import Header
from retrim.zoo.darknet.heads import Head
from retrim.zoo.darknet.layers import Convolution
from retrim.zoo.darknet.sections import Section, read_sections

_PRIOR = 0.01  # of an object at any anchor, which training from random weights begins with


class DarknetNetwork(nn.Module):
    """A detector.

    Parameters
    ----------
    sections : sequence of Section
        `[net]` first.

    Attributes
    ----------
    heads : tuple of Head
        In the order of their `[yolo]`.
    size : (height, width)
        Of the input, as the cfg names it; others are taken too.
    channels : int
        Of the input.
    stride : int
        Height and width of an input must be multiples of it.
    header : Header
        Of the file that the weights are from.

    Raises
    ------
    ConfigError
        If layers, options or shapes are not supported, or do not fit together.
    """

    def __init__(self, sections: Sequence[Section]) -> None:
        super().__init__()
        built = build_layers(sections)
        net = sections[0]
        self.size = net.whole("height", 416), net.whole("width", 416)
        self.channels = net.whole("channels", 3)
        self.layers = nn.ModuleList(layer.module for layer in built)
        self.heads: tuple[Head, ...] = tuple(layer.head for layer in built if layer.head is not None)
        self.stride = math.lcm(*(layer.shape.stride.numerator for layer in built if layer.shape.stride))
        self.header = Header()
        self._sources = [layer.sources for layer in built]
        self._is_head = [layer.head is not None for layer in built]
        self._done_with = _done_with(self._sources)
        self._expect_little(built)

    @classmethod
    def read(cls, path: Path | str) -> DarknetNetwork:
        """The network of a `.cfg` file, with random weights."""
        return cls(read_sections(path))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Raw maps of all heads.

        Parameters
        ----------
        images : Tensor, shape (n, 3, height, width)
            RGB, from 0 to 1.

        Returns
        -------
        tuple of Tensor, shape (n, anchors, 5 + classes, height / stride, width / stride)
            t_x, t_y, t_w, t_h, objectness and classes, before any function; see `detections_of`.

        Raises
        ------
        ConfigError
            If height or width is no multiple of `stride`.
        """
        self._check(images)
        maps: list[torch.Tensor] = []
        kept = {IMAGE: images}
        for index, layer in enumerate(self.layers):
            seen = layer(*(kept[source] for source in self._sources[index]))
            if self._is_head[index]:
                maps.append(seen)
            else:
                kept[index] = seen
            for source in self._done_with[index]:
                kept.pop(source, None)
        return tuple(maps)

    def _check(self, images: torch.Tensor) -> None:
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != self.channels:
            raise ConfigError(f"images must have the shape (n, {self.channels}, height, width), not {shape}")
        if min(shape[2:]) < 1 or shape[2] % self.stride or shape[3] % self.stride:
            raise ConfigError(
                f"images must have a height and width that are multiples of {self.stride}, not {shape[2]} x {shape[3]}: "
                "letterbox them"
            )

    def _expect_little(self, built: Sequence[Layer]) -> None:
        """Let heads begin sure that nothing is there, and of no class more than of another."""
        for layer in built:
            before = built[layer.sources[0]].module
            if layer.head is None or not isinstance(before, Convolution) or before.conv.bias is None:
                continue
            with torch.no_grad():
                bias = before.conv.bias.view(-1, layer.head.numbers)
                bias[:, 4] = -math.log((1 - _PRIOR) / _PRIOR)
                bias[:, 5:] = -math.log(max(layer.head.classes - 1, 1))


def _done_with(sources: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Outputs that no layer takes any more, after each layer."""
    last = {index: index for index in range(len(sources))}
    last |= {source: index for index, taken in enumerate(sources) for source in taken}
    done: list[list[int]] = [[] for _ in sources]
    for source, index in last.items():
        done[index].append(source)
    return done
