"""Packed layers against the float64 oracle, on every instruction set of this processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrim.artifact.layout import pack_rows
from retrim.runtime import oracle
from retrim.runtime.matrix import ACTIVATIONS, PackedMatrix

# the fixture sets one variable for all examples of a test: there is nothing to set anew for each
random_layers = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def keywords(draw: st.DrawFn) -> dict[str, Any]:
    """A layer of any shape, density, height and activation, some of its outputs idle."""
    outputs = draw(st.integers(1, 260), label="outputs")
    return {
        "outputs": outputs,
        "inputs": draw(st.integers(1, 150), label="inputs"),
        "density": draw(st.sampled_from([0.0, 0.05, 0.34, 1.0]), label="density"),
        "height": draw(st.sampled_from([32, 64, 128]), label="height"),
        "bias": draw(st.booleans(), label="bias"),
        "activation": draw(st.sampled_from(list(ACTIVATIONS)), label="activation"),
        "idle": draw(st.sampled_from([0, outputs // 3, outputs * 9 // 10, outputs]), label="idle"),
        "seed": draw(st.integers(0, 2**32 - 1), label="seed"),
    }


def assert_agrees(case: Any, x: np.ndarray, y: np.ndarray) -> None:
    expected = case.expected(x)
    assert y.shape == expected.shape
    assert y.dtype == np.float32
    error = np.abs(y - expected).max(initial=0)
    assert error <= case.tolerance(x), f"{error} is more than {case.tolerance(x)}"


@given(shape=keywords(), tokens=st.one_of(st.integers(0, 30), st.integers(100, 140)), seed=st.integers(0, 99))
@random_layers
def test_it_agrees_with_the_oracle_and_threads_change_no_bit(
    instruction_set: str, make: Any, shape: dict[str, Any], tokens: int, seed: int
) -> None:
    case = make(**shape)
    matrix, x = case.matrix, case.x(tokens, seed)
    y = matrix(x, threads=1)
    assert_agrees(case, x, y)
    for threads in (2, 3, 5):
        assert matrix(x, threads=threads).tobytes() == y.tobytes(), f"{threads} threads"


@pytest.mark.parametrize("height", [32, 64, 128])
def test_every_tile_of_tokens_agrees(instruction_set: str, make: Any, height: int) -> None:
    """Large enough for several threads to be worth waking from 4 tokens on."""
    case = make(1024, 512, density=1 / 3, height=height)
    for tokens in (1, *range(2, 14), 24, 25, 32, 101, 128):
        x = case.x(tokens)
        y = case.matrix(x, threads=1)
        assert_agrees(case, x, y)
        for threads in (2, 3, 5):
            assert case.matrix(x, threads=threads).tobytes() == y.tobytes(), f"{tokens}, {threads} threads"


def test_few_panels_and_many_threads_agree(instruction_set: str, make: Any) -> None:
    for outputs, tokens in ((32, 211), (64, 70), (1024, 3)):
        case = make(outputs, 1500, density=0.9)
        x = case.x(tokens)
        y = case.matrix(x, threads=1)
        assert_agrees(case, x, y)
        assert case.matrix(x, threads=2).tobytes() == case.matrix(x, threads=16).tobytes() == y.tobytes()


def test_a_token_does_not_feel_its_neighbours(instruction_set: str, make: Any) -> None:
    """A row of a batch has the bits that it has in every other batch of two tokens or more."""
    case = make(96, 200, activation="gelu")
    x = case.x(70)
    y = case.matrix(x)
    for first, last in ((0, 2), (3, 10), (7, 31), (20, 69)):
        assert case.matrix(x[first:last]).tobytes() == y[first:last].tobytes()


def ones(activation: Any) -> PackedMatrix:
    """A layer whose 33 outputs are all activation(x)."""
    weight = np.ones((33, 1), np.float32)
    return PackedMatrix(pack_rows(weight, weight > 0), None, activation)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("tokens", [1, 5])
def test_an_activation_is_accurate_in_its_tails(instruction_set: str, activation: Any, tokens: int) -> None:
    """A layer whose outputs all lie far out in the tail is held to its own small scale."""
    for centre in np.linspace(-9, 9, 37, dtype=np.float32):
        x = np.full((tokens, 1), centre)
        expected = oracle.linear(x, np.ones((33, 1)), None, activation)
        error = np.abs(ones(activation)(x) - expected).max()
        assert error <= 1e-5 * np.abs(expected).max() + 1e-37


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_what_is_not_finite_is_as_in_the_oracle(instruction_set: str, activation: Any) -> None:
    x = np.array([[np.nan], [np.inf], [-np.inf], [3e38], [-3e38], [0.0]], np.float32)
    expected = oracle.linear(x, np.ones((33, 1)), None, activation).astype(np.float32)
    matrix = ones(activation)
    near = {"rtol": 1e-6, "atol": 1e-35}
    np.testing.assert_allclose(matrix(x), expected, **near)
    for row in range(len(x)):  # the kernel of one token
        np.testing.assert_allclose(matrix(x[row : row + 1]), expected[row : row + 1], **near)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_a_byte_of_zero_stands_for_nan(instruction_set: str, activation: Any, tokens: int) -> None:
    """Of outputs that are computed and of idle ones, side by side and not."""
    bias = np.zeros(64, np.float32)
    bias[[3, 40]], bias[[4, 41]], bias[[5, 42]] = np.nan, np.inf, -np.inf
    least = 0 if activation is None else 128
    x = np.full((tokens, 64), 128, np.uint8)
    for kept in (slice(None), slice(32), slice(None, None, 2)):
        mask = np.zeros((64, 64), bool)
        mask[kept] = True
        pack = pack_rows(np.ones((64, 64), np.float32), mask, 32, "int8")
        matrix = PackedMatrix(pack, bias, activation, input_scale=0.1, output_scale=1.0)
        assert (matrix(x)[:, [3, 4, 5, 40, 41, 42, 7]] == [0, 255, least, 0, 255, least, 128]).all()


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_an_idle_output_holds_its_activated_bias(make: Any, activation: Any) -> None:
    case = make(128, 40, idle=100, activation=activation)
    matrix = case.matrix
    assert matrix.view.rows is not None
    assert len(matrix.view.rows) == 32
    x = case.x(9)
    out = np.full((9, 128), np.nan, np.float32)
    assert_agrees(case, x, matrix(x, out=out))


def test_nothing_kept_leaves_the_bias(make: Any) -> None:
    case = make(600, 9, density=0.0)
    assert case.matrix.view.packed_rows == 0
    np.testing.assert_array_equal(case.matrix(case.x(3)), np.tile(case.bias, (3, 1)))


def test_it_keeps_leading_dimensions(make: Any) -> None:
    case = make(48, 30)
    x = case.x(24)
    y = case.matrix(x)
    for shape in ((2, 12), (2, 3, 4), (24,)):
        np.testing.assert_array_equal(
            case.matrix(x.reshape(*shape, 30)), y.reshape(*shape, 48), err_msg=str(shape)
        )
    np.testing.assert_array_equal(case.matrix(x[3]), case.matrix(x[3:4])[0])


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
def test_an_empty_batch_is_empty(make: Any, shape: tuple[int, ...]) -> None:
    matrix = make(48, 30).matrix
    for threads in (1, 2):
        y = matrix(np.zeros((*shape, 30), np.float32), threads=threads)
        assert y.shape == (*shape, 48)
        assert y.dtype == np.float32


def strided(x: np.ndarray) -> dict[str, np.ndarray]:
    """`x` again, laid out in every way that is not C-contiguous."""
    tokens, inputs = x.shape
    record = np.zeros(tokens, [("odd", "u1"), ("x", "f4", (inputs,))])
    record["x"] = x
    odd = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    odd[:] = x
    wide = np.full((tokens, inputs + 5), np.nan, np.float32)
    wide[:, :inputs] = x
    return {
        "wider rows": wide[:, :inputs],
        "every second row": np.repeat(x, 2, axis=0)[::2],
        "backwards": np.ascontiguousarray(x[::-1])[::-1],
        "every second feature": np.repeat(x, 2, axis=1)[:, ::2],
        "features backwards": np.ascontiguousarray(x[:, ::-1])[:, ::-1],
        "transposed": np.asfortranarray(x),
        "a field of records": record["x"],
        "at an odd address": odd,
    }


def test_it_reads_x_however_it_lies(instruction_set: str, make: Any) -> None:
    case = make(48, 30)
    x = case.x(17)
    y = case.matrix(x)
    for name, same in strided(x).items():
        np.testing.assert_array_equal(case.matrix(same), y, err_msg=name)
    record = np.zeros(1, [("x", "f4", (30,)), ("odd", "u1")])  # one row, its stride no multiple of 4
    record["x"] = x[3]
    np.testing.assert_array_equal(case.matrix(record["x"]), case.matrix(x[3:4]))
    one_row = np.broadcast_to(x[3], x.shape)
    np.testing.assert_array_equal(case.matrix(one_row), np.tile(y[3], (17, 1)))


def test_it_writes_into_out_and_nowhere_else(instruction_set: str, make: Any) -> None:
    for outputs in (1, 31, 64, 97):
        case = make(outputs, 40)
        x = case.x(13)
        frame = np.full((15, outputs), 7.5, np.float32)
        assert case.matrix(x, out=frame[1:-1]).base is frame
        np.testing.assert_array_equal(frame[1:-1], case.matrix(x))
        assert (frame[[0, -1]] == 7.5).all()


def test_the_pack_is_computed_on_in_place(make: Any) -> None:
    case = make(64, 40, density=1.0, bias=False)
    pack = case.pack.copy()
    matrix = PackedMatrix(pack)
    matrix.view.values[:] = 0
    assert not matrix(case.x(3)).any()
    assert not pack[-64:].any()


def test_a_pack_outlives_its_name(make: Any) -> None:
    case = make(64, 40)
    matrix, x = PackedMatrix(case.pack.copy(), case.bias.copy()), case.x(3)
    junk = [np.ones(case.pack.shape, np.uint8) for _ in range(20)]
    assert_agrees(case, x, matrix(x))
    assert len(junk) == 20
