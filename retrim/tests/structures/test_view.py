"""Weights as matrices: which entry goes where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from retrim.errors import ShapeError
from retrim.structures import BlockColumns, Channels, Elements, Filters


def test_a_convolution_is_the_matrix_of_its_patches() -> None:
    weight, image = torch.randn(4, 3, 2, 2, dtype=torch.float64), torch.randn(1, 3, 2, 2, dtype=torch.float64)
    matrix = Elements().view(weight, "conv2d")
    patch = image.permute(0, 2, 3, 1).reshape(-1)  # rows, columns, channels
    torch.testing.assert_close(matrix @ patch, functional.conv2d(image, weight).reshape(-1))


def test_a_transposed_layer_is_turned() -> None:
    weight = np.arange(6).reshape(2, 3)  # (in, out)
    np.testing.assert_array_equal(Filters().view(weight, "conv1d"), weight.T)
    assert Filters().view_shape((2, 3), "conv1d") == (3, 2)


def test_channels_of_a_convolution_drop_whole_channels(array: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 6, 3, 3)).astype(np.float32)
    weight[:, [0, 2, 5]] *= 10
    structure = Channels()
    projected, support = structure.project(structure.view(array(weight), "conv2d"), 0.5)
    restored = np.asarray(structure.unview(projected, weight.shape, "conv2d"))
    np.testing.assert_array_equal(restored[:, [0, 2, 5]], weight[:, [0, 2, 5]])
    assert not restored[:, [1, 3, 4]].any()
    assert support.density == 0.5


def test_filters_of_a_convolution_drop_whole_filters(array: Any) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 6, 3, 3)).astype(np.float32)
    weight[[1, 3]] *= 10
    structure = Filters()
    projected, _ = structure.project(structure.view(array(weight), "conv2d"), 0.5)
    restored = np.asarray(structure.unview(projected, weight.shape, "conv2d"))
    np.testing.assert_array_equal(restored[[1, 3]], weight[[1, 3]])
    assert not restored[[0, 2]].any()


@pytest.mark.parametrize("structure", [Elements(), Channels(), BlockColumns(2)], ids=repr)
@pytest.mark.parametrize(
    ("shape", "kind", "sentence"),
    [
        ((4,), "linear", "a linear weight must have 2 non-empty dimensions, not shape (4,)"),
        ((4, 0), "conv1d", "a conv1d weight must have 2 non-empty dimensions, not shape (4, 0)"),
        ((4, 4), "conv2d", "a conv2d weight must have 4 non-empty dimensions, not shape (4, 4)"),
        ((4, 4), "dense", "kind must be one of linear, conv1d, conv2d, not 'dense'"),
    ],
)
def test_shapes_that_do_not_fit_the_kind_are_refused(
    structure: Any, shape: tuple[int, ...], kind: Any, sentence: str
) -> None:
    weight = np.zeros(shape)
    for attempt in (
        lambda: structure.view(weight, kind),
        lambda: structure.view_shape(shape, kind),
        lambda: structure.unview(weight, shape, kind),
    ):
        with pytest.raises(ShapeError) as caught:
            attempt()
        assert str(caught.value) == sentence
