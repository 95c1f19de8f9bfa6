"""Layers whose packs are row groups, against the float64 oracle, on every instruction set of this processor."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrim.artifact import lists
from retrim.artifact.bfloat16 import from_bits, to_bits
from retrim.artifact.layout import ListView, pack_lists, pack_rows
from retrim.errors import ConfigError
from retrim.runtime import PackedMatrix, oracle, variants
from retrim.runtime.entry import Request
from retrim.runtime.matrix import ACTIVATIONS

HEIGHTS = (1, 2, 4, 8)
random_layers = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True)
class Lists:
    """A random layer of row groups with several levels."""

    matrix: PackedMatrix
    bias: np.ndarray
    activation: Any

    @property
    def view(self) -> ListView:
        assert isinstance(self.matrix.view, ListView)
        return self.matrix.view

    def x(self, tokens: int, seed: int = 0) -> np.ndarray:
        x = np.random.default_rng((seed, tokens)).standard_normal((tokens, self.view.inputs), np.float32)
        return from_bits(to_bits(x)) if self.view.precision == "bf16" else x

    def check(self, x: np.ndarray, y: np.ndarray, level: int, residual: np.ndarray | None = None) -> None:
        weight = lists.unpack(self.view, level)[0]
        expected = oracle.linear(x, weight, self.bias, self.activation, residual)
        terms = np.abs(x).astype(np.float64) @ np.abs(weight).T + np.abs(self.bias)
        room = max(1e-5 * np.abs(expected).max(initial=0), 2.0**-22 * terms.max(initial=0))
        allowed = np.full(expected.shape, room)
        if y.dtype == np.uint16:
            y, allowed = from_bits(y), allowed + 2.0**-8 * np.abs(expected)
        assert y.shape == expected.shape
        assert (np.abs(y - expected) <= allowed).all()


def layer(
    outputs: int,
    inputs: int,
    height: int,
    precision: str = "fp32",
    levels: int = 1,
    density: float = 0.4,
    activation: Any = None,
    seed: int = 0,
) -> Lists:
    rng = np.random.default_rng(seed)
    share = rng.random((-(-outputs // height), inputs)) / density
    masks = [np.repeat(share < (at + 1) / levels, height, axis=0)[:outputs] for at in range(levels)]
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    bias = rng.standard_normal(outputs).astype(np.float32)
    return Lists(
        PackedMatrix(pack_lists(weight, masks, height, precision), bias, activation), bias, activation
    )


@given(
    shape=st.tuples(st.integers(1, 130), st.integers(1, 150)),
    height=st.sampled_from(HEIGHTS),
    precision=st.sampled_from(["fp32", "bf16"]),
    levels=st.integers(1, 8),
    density=st.sampled_from([0.03, 0.34, 1.0]),
    activation=st.sampled_from(list(ACTIVATIONS)),
    tokens=st.integers(0, 40) | st.integers(100, 140),
    seed=st.integers(0, 2**32 - 1),
)
@random_layers
def test_they_agree_with_the_oracle_and_threads_change_no_bit(
    instruction_set: str,
    shape: tuple[int, int],
    height: int,
    precision: str,
    levels: int,
    density: float,
    activation: Any,
    tokens: int,
    seed: int,
) -> None:
    case = layer(*shape, height, precision, levels, density, activation, seed)
    x = case.x(tokens, seed % 99)
    for level in (1, (levels + 1) // 2, levels):
        matrix = case.matrix.at(level)
        y = matrix(x, threads=1)
        case.check(x, y, level)
        for threads in (2, 3, 5):
            assert matrix(x, threads=threads).tobytes() == y.tobytes(), f"{threads} threads"
    assert case.matrix(x).tobytes() == y.tobytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("height", HEIGHTS)
def test_every_tile_of_tokens_agrees(instruction_set: str, height: int, precision: str) -> None:
    """Large enough for several threads to be worth waking; a token has the bits of every batch of two and more."""
    case = layer(256, 512, height, precision, density=1 / 3)
    x = case.x(200)
    whole = case.matrix(x, threads=1)
    case.check(x, whole, 1)
    for tokens in (1, *range(2, 19), 24, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 97, 128, 129, 145):
        y = case.matrix(x[:tokens], threads=1)
        if tokens > 1:
            assert y.tobytes() == whole[:tokens].tobytes(), tokens
        else:
            case.check(x[:1], y, 1)
        for threads in (2, 5):
            assert case.matrix(x[:tokens], threads=threads).tobytes() == y.tobytes(), f"{tokens}, {threads}"


@pytest.mark.parametrize("height", HEIGHTS)
def test_halves_go_in_and_out(instruction_set: str, height: int) -> None:
    for tokens in (1, 3, 18, 70):
        case = layer(70, 90, height, "bf16", activation="gelu")
        x, residual = case.x(tokens), np.random.default_rng(1).standard_normal((tokens, 70), np.float32)
        case.check(x, case.matrix(x, residual=residual), 1, residual)
        halves = to_bits(residual)
        y = case.matrix(to_bits(x), residual=halves)
        assert y.dtype == np.uint16
        case.check(x, y, 1, from_bits(halves))
        into = np.empty((tokens, 70), np.float32)
        case.check(x, case.matrix(to_bits(x), out=into), 1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_more_columns_than_sixteen_bits_tell(instruction_set: str, precision: str) -> None:
    inputs = 65600
    weight = np.zeros((40, inputs), np.float32)
    weight[:, [3, 65535, 65536, inputs - 1]] = np.random.default_rng(0).standard_normal((40, 4))
    bias = np.zeros(40, np.float32)
    matrix = PackedMatrix(pack_lists(weight, weight != 0, 4, precision), bias)
    case = Lists(matrix, bias, None)
    assert case.view.columns.dtype == np.int32
    for tokens in (1, 2, 20):
        x = case.x(tokens)
        case.check(x, matrix(x), 1)


def test_it_reads_and_writes_what_it_should(instruction_set: str) -> None:
    for height, outputs in ((1, 33), (4, 97), (8, 3)):
        case = layer(outputs, 40, height)
        x = case.x(21)
        wide = np.full((21, 47), np.nan, np.float32)
        wide[:, :40] = x
        frame = np.full((23, outputs), 7.5, np.float32)
        y = case.matrix(wide[:, :40], out=frame[1:-1])
        np.testing.assert_array_equal(y, case.matrix(x))
        assert (frame[[0, -1]] == 7.5).all()
        into = np.full((21, outputs + 3), 7.5, np.float32)
        case.matrix.into(x, into[:, :outputs])
        np.testing.assert_array_equal(into[:, :outputs], y)
        assert (into[:, outputs:] == 7.5).all()
        assert case.matrix(np.zeros((0, 40), np.float32)).shape == (0, outputs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tokens", [1, 2, 5, 20])
def test_what_is_not_finite_stays_where_it_is_kept(instruction_set: str, precision: str, tokens: int) -> None:
    weight = np.ones((8, 5), np.float32)
    mask = np.repeat([[True, False, True, True, False], [True, False, False, True, False]], 4, axis=0)
    matrix = PackedMatrix(pack_lists(weight, mask, 4, precision))
    x = np.ones((tokens, 5), np.float32)
    x[0] = [1, np.nan, np.inf, 1, np.nan]
    y = matrix(x)
    assert np.isposinf(y[0, :4]).all()
    assert (y[0, 4:] == 2).all()
    assert (y[1:, :4] == 3).all()


@pytest.mark.parametrize("height", [1, 4])
@pytest.mark.parametrize("tokens", [1, 2, 20])
def test_infinity_in_the_last_of_an_odd_number_of_columns(
    instruction_set: str, height: int, tokens: int
) -> None:
    """As the documentation has it: in bfloat16 it meets a weight of zero in the rest of its lane."""
    weight, mask = np.ones((8, 9), np.float32), np.zeros((8, 9), bool)
    mask[:, [0, 3, 5]] = True
    x = np.ones((tokens, 9), np.float32)
    x[0, 5] = np.inf
    for precision in ("fp32", "bf16"):
        y = PackedMatrix(pack_lists(weight, mask, height, precision))(x)
        assert (np.isposinf(y[0]) if precision == "fp32" else np.isnan(y[0])).all()
        assert (y[1:] == 3).all()


def test_a_level_shares_the_pack() -> None:
    case = layer(64, 40, 4, levels=3)
    matrix = case.matrix
    assert matrix.levels == 3
    one = matrix.at(1)
    assert one.view is matrix.view
    x = case.x(9)
    case.check(x, one(x), 1)
    case.check(x, matrix(x), 3)
    case.check(x, one.at(2)(x), 2)
    assert PackedMatrix(pack_rows(np.ones((4, 4), np.float32), np.ones((4, 4), bool))).at(1).levels == 1
    for level in (0, 4, True, "1"):
        sentence = f"level must be a whole number from 1 to the pack's 3, not {level!r}"
        with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
            matrix.at(level)  # type: ignore[arg-type]


def test_what_kernels_do_not_run() -> None:
    ones = np.ones((8, 8), np.float32)
    sentence = "a pack of row groups must be of fp32 or bf16 to run, not of int8: pack it in bf16"
    with pytest.raises(ConfigError, match=f"^{sentence}$"):
        PackedMatrix(pack_lists(ones, ones > 0, 4, "int8"))
    sentence = "variant must be one of packed for bf16 in row groups, not 'direct'"
    with pytest.raises(ConfigError, match=f"^{sentence}$"):
        PackedMatrix(pack_lists(ones, ones > 0, 4, "bf16"), variant="direct")
    assert variants("fp32", 1, 4) == ("packed",)
    assert variants("int8", 1, 8) == ()


def test_a_profile_tells_them_from_blocks() -> None:
    case = layer(64, 40, 4, density=0.5)
    request = Request.of(case.view, 3, 1)
    assert (request.rows, request.group, request.density) == (4, 1, case.view.stored_density)
    assert request.dense().rows == 32
    case.matrix.tune([(1, None, "packed")])
