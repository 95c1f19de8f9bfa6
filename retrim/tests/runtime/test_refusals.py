"""What a packed layer refuses, and the sentences it says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from retrim.errors import ArtifactError, ConfigError, RetrimError, ShapeError
from retrim.runtime import PackedMatrix


def refused(kind: type[RetrimError], sentence: str) -> Any:
    return pytest.raises(kind, match=f"^{re.escape(sentence)}$")


def test_an_unknown_activation(make: Any) -> None:
    with refused(ConfigError, "activation must be one of None, relu, gelu, gelu_tanh, not 'swish'"):
        PackedMatrix(make(32, 8).pack, None, "swish")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(31,), (33,), (32, 1), ()])
def test_a_bias_that_does_not_fit(make: Any, shape: tuple[int, ...]) -> None:
    with refused(ShapeError, f"bias must have shape (32,), not {shape}"):
        PackedMatrix(make(32, 8).pack, np.zeros(shape, np.float32))


def test_a_damaged_pack(make: Any) -> None:
    pack = make(32, 8).pack.copy()
    pack[0] ^= 1
    with refused(ArtifactError, "a pack must start with RTRIMBC1: the file is damaged or newer"):
        PackedMatrix(pack)


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (np.zeros((2, 8)), "float64"),
        (np.zeros((2, 8), np.float16), "float16"),
        (np.zeros((2, 8), ">f4"), ">f4"),
        ([[0.0] * 8], "list"),
    ],
)
def test_an_input_of_another_type(make: Any, x: Any, found: str) -> None:
    with refused(ShapeError, f"x must be a float32 array, not {found}"):
        make(32, 8).matrix(x)


@pytest.mark.parametrize("shape", [(2, 7), (8, 2), (9,), (), (8, 0)])
def test_an_input_of_another_shape(make: Any, shape: tuple[int, ...]) -> None:
    with refused(ShapeError, f"x must have shape (..., 8), not {shape}"):
        make(32, 8).matrix(np.zeros(shape, np.float32))


def test_an_out_that_cannot_be_written(make: Any) -> None:
    matrix, x = make(32, 8).matrix, np.zeros((2, 8), np.float32)
    locked = np.zeros((2, 32), np.float32)
    locked.setflags(write=False)
    for out in (
        locked,
        np.zeros((2, 31), np.float32),
        np.zeros((1, 32), np.float32),
        np.zeros((2, 32)),
        np.zeros((2, 64), np.float32)[:, ::2],
        [[0.0] * 32] * 2,
    ):
        with refused(ShapeError, "out must be a writable C-contiguous float32 array of shape (2, 32)"):
            matrix(x, out=out)


def test_an_out_that_overlaps_x(make: Any) -> None:
    memory = np.zeros((4, 32), np.float32)
    with refused(ShapeError, "out must not overlap x: give it memory of its own"):
        make(32, 32).matrix(memory[:3], out=memory[1:])


@pytest.mark.parametrize("threads", [0, -1, 257, 1.0, True, "2"])
def test_a_count_of_threads_that_is_none(make: Any, threads: Any) -> None:
    with refused(ConfigError, f"threads must be a whole number from 1 to 256, not {threads!r}"):
        make(32, 8).matrix(np.zeros((2, 8), np.float32), threads=threads)
