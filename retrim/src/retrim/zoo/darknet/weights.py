"""Darknet's `.weights` files: a header, and all numbers of all convolutions in order.

Of each convolution with batch norm: bias, scale, mean, variance, weights; of others:
bias, weights.  float32, little-endian; weights as torch keeps them, (out, in, height, width).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from retrim.errors import ArtifactError, ConfigError
from retrim.files import replacing
from retrim.zoo.darknet.header import Header, read_header
from retrim.zoo.darknet.layers import Convolution
from retrim.zoo.darknet.network import DarknetNetwork

_VALUE = np.dtype("<f4")


def load_weights(network: DarknetNetwork, path: Path | str, *, layers: int | None = None) -> DarknetNetwork:
    """Put the weights of a file into a network, all of them or none; sets `network.header`.

    Parameters
    ----------
    network : DarknetNetwork
        Changed in place.
    path : Path
    layers : int, optional
        Only the first so many layers, as darknet counts: 75 for `darknet53.conv.74`.
        What the file holds of later ones is left alone.

    Returns
    -------
    DarknetNetwork
        `network`, for chaining.

    Raises
    ------
    ArtifactError
        If the file is damaged or of another network; `network` is as it was.
    ConfigError
        If there are not so many layers.
    """
    header, values = read_weights(path)
    places = _places(network, layers)
    wanted = sum(tensor.numel() for _, tensor in places)
    if len(values) < wanted or (layers is None and len(values) > wanted):
        what = "the network" if layers is None else f"the first {layers} layers"
        raise ArtifactError(
            f"weights {str(path)!r} must hold {wanted} values for {what}, but hold {len(values)}: name the file and "
            "the cfg of one network"
        )
    parts = np.split(values[:wanted], np.cumsum([tensor.numel() for _, tensor in places])[:-1])
    for (name, _), part in zip(places, parts, strict=True):
        _check(name, part, path)
    with torch.no_grad():
        for (_, tensor), part in zip(places, parts, strict=True):
            tensor.copy_(torch.from_numpy(part).view(tensor.shape))
    network.header = header
    return network


def save_weights(network: DarknetNetwork, path: Path | str, *, layers: int | None = None) -> None:
    """Write a network's weights, or those of its first `layers` layers, in float32.

    Raises
    ------
    ArtifactError
        If the file cannot be written; what was there is then still there.
    """
    with replacing(Path(path), "weights", ArtifactError) as beside, beside.open("wb") as file:
        file.write(network.header.packed())
        for _, tensor in _places(network, layers):
            file.write(tensor.detach().float().cpu().contiguous().numpy().astype(_VALUE).tobytes())


def count_values(network: DarknetNetwork, layers: int | None = None) -> int:
    """Numbers that a file of the network, or of its first `layers` layers, holds."""
    return sum(tensor.numel() for _, tensor in _places(network, layers))


def read_weights(path: Path | str) -> tuple[Header, np.ndarray]:
    """Header and values (n,) of a file, float32.

    Raises
    ------
    ArtifactError
        If it cannot be read, or is no such file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"weights {str(path)!r} must be a file that can be read, but cannot: {error.strerror or error}"
        ) from error
    header = read_header(content, str(path))
    rest = len(content) - header.size
    if rest % _VALUE.itemsize:
        raise ArtifactError(
            f"weights {str(path)!r} must hold whole values of 4 bytes, but hold {rest // 4} and {rest % 4} bytes "
            "more: fetch the file again"
        )
    return header, np.frombuffer(content, _VALUE, offset=header.size).astype(np.float32)


def _places(network: DarknetNetwork, layers: int | None) -> list[tuple[str, torch.Tensor]]:
    """Names and tensors, in the order of the file."""
    if layers is not None and not 1 <= layers <= len(network.layers):
        raise ConfigError(f"layers must be a number from 1 to {len(network.layers)}, not {layers}")
    return [
        (f"layers.{index}.{name}", tensor)
        for index, layer in enumerate(network.layers[:layers])
        if isinstance(layer, Convolution)
        for name, tensor in _tensors(layer)
    ]


def _tensors(layer: Convolution) -> Iterator[tuple[str, torch.Tensor]]:
    conv, norm = layer.conv, layer.norm
    if norm is not None:
        yield "norm.bias", norm.bias
        yield "norm.weight", norm.weight
        yield "norm.running_mean", _buffer(norm.running_mean)
        yield "norm.running_var", _buffer(norm.running_var)
    elif conv.bias is not None:
        yield "conv.bias", conv.bias
    yield "conv.weight", conv.weight


def _buffer(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None  # noqa: S101 - batch norm is built with running statistics
    return tensor


def _check(name: str, part: np.ndarray, path: Path | str) -> None:
    if not np.isfinite(part).all():
        raise ArtifactError(
            f"weights {str(path)!r} must be finite, but {np.count_nonzero(~np.isfinite(part))} of the {len(part)} "
            f"values of {name} are not: fetch the file again"
        )
    if name.endswith("running_var") and (part < 0).any():
        raise ArtifactError(
            f"weights {str(path)!r} must have variances >= 0, but {name} has {part.min():g}: name the file and the "
            "cfg of one network"
        )
