"""Classifiers by the names that experiments and recipes write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.zoo import resnet, vgg
from retrim.zoo.public import load_public

Images = Literal["imagenet", "cifar"]

_BUILDERS: Mapping[str, Callable[[int, Images], nn.Module]] = MappingProxyType(
    {
        "resnet18": lambda classes, images: resnet.resnet18(classes, stem=images),
        "resnet50": lambda classes, images: resnet.resnet50(classes, stem=images),
        "resnet20": lambda classes, images: resnet.resnet20(classes),
        "resnet32": lambda classes, images: resnet.resnet32(classes),
        "resnet56": lambda classes, images: resnet.resnet56(classes),
        "vgg16": lambda classes, images: vgg.vgg16(classes, head=images),
        "vgg16_bn": lambda classes, images: vgg.vgg16_bn(classes, head=images),
    }
)
_CIFAR_ONLY = ("resnet20", "resnet32", "resnet56")

NAMES = tuple(_BUILDERS)
"""All classifiers that `build` knows."""


def build(
    name: str,
    classes: int,
    *,
    images: Images = "imagenet",
    seed: int | None = None,
    weights: Path | str | None = None,
) -> nn.Module:
    """A classifier with random weights, or with those of a file.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    classes : int
    images : {"imagenet", "cifar"}
        Stem of `resnet18` and `resnet50`, head of `vgg16` and `vgg16_bn`;
        `resnet20`, `resnet32` and `resnet56` are for CIFAR's images alone.
    seed : int, optional
        Of the random weights; torch's own generator is left as it was.  Without
        it they come from that generator.
    weights : Path, optional
        Published weights to start from; see `retrim.zoo.public.load_public`.

    Raises
    ------
    ConfigError
        If the name or an option is unknown.
    ArtifactError
        If the weights do not fit.
    """
    if name not in _BUILDERS:
        raise ConfigError(f"classifier must be one of {', '.join(NAMES)}, not {name!r}")
    if images not in ("imagenet", "cifar"):
        raise ConfigError(f"images must be 'imagenet' or 'cifar', not {images!r}")
    if name in _CIFAR_ONLY and images != "cifar":
        raise ConfigError(f"images must be 'cifar' for {name}, not {images!r}")
    if seed is None:
        model = _BUILDERS[name](classes, images)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _BUILDERS[name](classes, images)
    return model if weights is None else load_public(model, weights)
