"""Layers from sections, with the shapes that go from one to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from torch import nn

from retrim.zoo.darknet.heads import Head, head_of
from retrim.zoo.darknet.layers import (
    AveragePool,
    Convolution,
    MaxPool,
    Route,
    Shortcut,
    Upsample,
    Yolo,
    activation_of,
)
from retrim.zoo.darknet.options import check_options
from retrim.zoo.darknet.sections import Section

IMAGE = -1
"""Index of the input, where a layer takes it."""


@dataclass(frozen=True)
class Shape:
    """Of a layer's output, at the size of the input that the cfg names.

    Attributes
    ----------
    channels, height, width : int
    stride : Fraction or None
        Pixels of the input a place; None where it depends on the size of the input.
    """

    channels: int
    height: int
    width: int
    stride: Fraction | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True)
class Layer:
    """A layer and where it is in the network.

    Attributes
    ----------
    module : Module
    sources : tuple of int
        Layers that it takes, by index; `IMAGE` is the input.
    shape : Shape
    head : Head or None
        Of `[yolo]`.
    """

    module: nn.Module
    sources: tuple[int, ...]
    shape: Shape
    head: Head | None = None


def build_layers(sections: Sequence[Section]) -> list[Layer]:
    """All layers of a network.

    Parameters
    ----------
    sections : sequence of Section
        `[net]` first.

    Raises
    ------
    ConfigError
        If layers, options or shapes are not supported, or do not fit together.
    """
    check_options(sections)
    net, *rest = sections
    image = Shape(net.whole("channels", 3), net.whole("height", 416), net.whole("width", 416), Fraction(1))
    layers: list[Layer] = []
    for section in rest:
        layers.append(_MAKERS[section.name](section, layers, image))
    if not any(layer.head for layer in layers):
        raise net.wrong("be followed by a [yolo]", "none", "name a detector's cfg")
    return layers


def _convolutional(section: Section, layers: list[Layer], image: Shape) -> Layer:
    sources, shape = _before(section, layers, image)
    size, groups = section.whole("size", 1), section.whole("groups", 1)
    padding = size // 2 if section.whole("pad", 0, 0) else section.whole("padding", 0, 0)
    filters = section.whole("filters", 1)
    if shape.channels % groups or filters % groups:
        raise section.wrong(
            f"divide {shape.channels} channels and {filters} filters",
            f"groups={groups}",
            "correct groups or filters",
        )
    stride, bias = section.whole("stride", 1), not section.whole("batch_normalize", 0, 0)
    conv = nn.Conv2d(shape.channels, filters, size, stride, padding, groups=groups, bias=bias)
    module = Convolution(conv, activation_of(section, "logistic"))
    return Layer(
        module, sources, replace(_pooled(section, shape, size, stride, 2 * padding), channels=filters)
    )


def _maxpool(section: Section, layers: list[Layer], image: Shape) -> Layer:
    sources, shape = _before(section, layers, image)
    stride = section.whole("stride", 1)
    size = section.whole("size", stride)
    padding = section.whole("padding", size - 1, 0)
    if padding >= size:
        raise section.wrong("have a padding below its size", f"padding={padding}, size={size}", "correct one")
    return Layer(MaxPool(size, stride, padding), sources, _pooled(section, shape, size, stride, padding))


def _upsample(section: Section, layers: list[Layer], image: Shape) -> Layer:
    sources, shape = _before(section, layers, image)
    stride = section.whole("stride", 2)
    finer = None if shape.stride is None else shape.stride / stride
    enlarged = Shape(shape.channels, shape.height * stride, shape.width * stride, finer)
    return Layer(Upsample(stride), sources, enlarged)


def _route(section: Section, layers: list[Layer], image: Shape) -> Layer:
    sources = _named(section, "layers", layers)
    shapes = [_shape(section, source, layers, image) for source in sources]
    groups, group = section.whole("groups", 1), section.whole("group_id", 0, 0)
    _check_sizes(section, shapes)
    if group >= groups or any(shape.channels % groups for shape in shapes):
        raise section.wrong(
            f"take one of equal groups of {_list(shape.channels for shape in shapes)} channels",
            f"groups={groups}, group_id={group}",
            "correct them",
        )
    channels = sum(shape.channels // groups for shape in shapes)
    return Layer(Route(groups, group), sources, replace(shapes[0], channels=channels))


def _shortcut(section: Section, layers: list[Layer], image: Shape) -> Layer:
    before, shape = _before(section, layers, image)
    others = _named(section, "from", layers)
    _check_sizes(section, [shape, *(_shape(section, other, layers, image) for other in others)])
    return Layer(Shortcut(activation_of(section, "linear")), (*before, *others), shape)


def _dropout(section: Section, layers: list[Layer], image: Shape) -> Layer:
    sources, shape = _before(section, layers, image)
    probability = section.number_of("probability", 0.5)
    if not 0 <= probability < 1:
        raise section.wrong("have a probability from 0 to below 1", probability, "correct it")
    return Layer(nn.Dropout(probability), sources, shape)


def _avgpool(section: Section, layers: list[Layer], image: Shape) -> Layer:
    sources, shape = _before(section, layers, image)
    return Layer(AveragePool(), sources, Shape(shape.channels, 1, 1, None))


def _yolo(section: Section, layers: list[Layer], image: Shape) -> Layer:
    sources, shape = _before(section, layers, image)
    stride = shape.stride
    if (
        stride is None
        or stride.denominator != 1
        or any(side * stride != whole for side, whole in zip(shape.size, image.size, strict=True))
    ):
        raise section.wrong(
            f"see a map that divides the input of {image.width} x {image.height} pixels",
            f"one of {shape.width} x {shape.height}",
            "choose width and height in [net] that are multiples of its stride",
        )
    head = head_of(section, int(stride))
    if shape.channels != head.channels:
        raise section.wrong(
            f"see {len(head.anchors)} anchors x (5 + {head.classes} classes) = {head.channels} channels",
            shape.channels,
            "correct filters of the layer before, mask or classes",
        )
    return Layer(Yolo(len(head.anchors)), sources, shape, head)


_MAKERS: dict[str, Callable[[Section, list[Layer], Shape], Layer]] = {
    "convolutional": _convolutional,
    "maxpool": _maxpool,
    "upsample": _upsample,
    "route": _route,
    "shortcut": _shortcut,
    "dropout": _dropout,
    "avgpool": _avgpool,
    "yolo": _yolo,
}


def _before(section: Section, layers: list[Layer], image: Shape) -> tuple[tuple[int, ...], Shape]:
    """The layer before, as a source and a shape."""
    index = len(layers) - 1  # `IMAGE` for the first
    return (index,), _shape(section, index, layers, image)


def _shape(section: Section, source: int, layers: list[Layer], image: Shape) -> Shape:
    if source == IMAGE:
        return image
    if layers[source].head is not None:
        raise section.wrong(
            "not take a [yolo]", f"section {source} as input", "put a [route] to another layer between"
        )
    return layers[source].shape


def _named(section: Section, key: str, layers: list[Layer]) -> tuple[int, ...]:
    """Layers that an option names: negative numbers count back from this layer."""
    listed = section.wholes(key)
    found = tuple(index if index >= 0 else len(layers) + index for index in listed)
    if not found or not all(0 <= index < len(layers) for index in found):
        raise section.wrong(
            f"name one or more of the {len(layers)} layers before it",
            f"{key}={section.text(key, '')}",
            f"correct {key}",
        )
    return found


def _pooled(section: Section, shape: Shape, size: int, stride: int, padding: int) -> Shape:
    """Shape after windows of `size` on a map with `padding` more places, either way."""
    height, width = ((side + padding - size) // stride + 1 for side in shape.size)
    if min(height, width) < 1:
        raise section.wrong(
            f"leave something of a map of {shape.width} x {shape.height}",
            f"size={size}",
            "enlarge width and height",
        )
    coarser = None if shape.stride is None else shape.stride * stride
    return Shape(shape.channels, height, width, coarser)


def _check_sizes(section: Section, shapes: Sequence[Shape]) -> None:
    if len({shape.size for shape in shapes}) > 1:
        sizes = _list(f"{shape.width} x {shape.height}" for shape in shapes)
        raise section.wrong(
            "join maps of one size",
            f"maps of {sizes}",
            "correct the layers that it names, or [net]'s width and height",
        )


def _list(values: Iterable[object]) -> str:
    return ", ".join(str(value) for value in values)
