"""The oracle itself, against values from tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrim.runtime import oracle


def test_linear_is_the_textbook_product() -> None:
    x = np.array([[1, 2, 3]], np.float32)
    weight = np.array([[1, 0, -1], [0.5, 0.5, 0.5]], np.float32)
    y = oracle.linear(x, weight, np.array([10, 20], np.float32))
    assert y.dtype == np.float64
    assert y.tolist() == [[8.0, 23.0]]
    assert oracle.linear(x, weight, None, "relu").tolist() == [[0.0, 3.0]]


def test_gelu_is_x_times_the_normal_distribution() -> None:
    # Phi(1) = 0.841344746068543, Phi(-2) = 0.022750131948179 (Abramowitz and Stegun, table 26.1)
    y = oracle.activate(np.array([1.0, -2.0, 0.0]), "gelu")
    np.testing.assert_allclose(y, [0.841344746068543, -0.045500263896358, 0.0], rtol=1e-13)


def test_gelu_tanh_is_the_approximation_of_hendrycks_and_gimpel() -> None:
    # arXiv 1606.08415, section 2: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
    y = oracle.activate(np.array([1.0, -1.0]), "gelu_tanh")
    np.testing.assert_allclose(y, [0.8411919906082768, -0.15880800939172324], rtol=1e-13)
    assert np.abs(y - oracle.activate(np.array([1.0, -1.0]), "gelu")).max() == pytest.approx(1.5e-4, rel=0.05)


def test_a_residual_is_added_after_the_activation() -> None:
    x, weight = np.array([[1.0, -4.0]]), np.array([[1.0, 1.0]])
    assert oracle.linear(x, weight, None, "relu", np.array([[10.0]])).tolist() == [[10.0]]
    q, scale = oracle.quantize_static(x, 0.5)
    weight_q, ones = weight.astype(np.int8), np.ones(1, np.float32)
    assert oracle.linear_int8(q, scale, weight_q, ones, None, "relu", np.array([[10.0]])).tolist() == [[10.0]]
    assert oracle.linear_int8(q, scale, weight_q, ones, np.array([4.0])).tolist() == [[1.0]]


tokens = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 4), st.integers(1, 9)),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)


@given(x=tokens)
@settings(deadline=None, max_examples=300)
def test_tokens_are_near_their_whole_numbers(x: np.ndarray) -> None:
    q, scale = oracle.quantize_tokens(x)
    assert q.dtype == np.int8 and scale.dtype == np.float32
    assert q.shape == x.shape and scale.shape == x.shape[:-1]
    largest = np.abs(x).max(axis=-1, initial=0)
    assert (np.abs(q.astype(int)).max(axis=-1, initial=0) == np.where(largest > 1e-35, 127, 0)).all()
    off = np.abs(q * scale.astype(np.float64)[..., None] - x)
    assert (off <= np.maximum(0.5001 * scale.astype(np.float64), 1.1e-35)[..., None]).all()


def test_halves_go_to_the_even_number_and_arithmetic_is_that_of_float32() -> None:
    x = np.array([[127, 0.5, 1.5, -2.5, -127]], np.float32)
    assert oracle.quantize_tokens(x)[0].tolist() == [[127, 0, 2, -2, -127]]
    assert oracle.quantize_static(x, 1)[0].tolist() == [[127, 0, 2, -2, -127]]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 512)).astype(np.float32)
    q, scale = oracle.quantize_tokens(x)
    for token in range(64):  # one operation after another
        largest = max(abs(value) for value in x[token])
        inverse = np.float32(np.float32(127) / largest)
        assert scale[token] == np.float32(largest / np.float32(127))
        assert q[token].tolist() == [round(float(np.float32(value * inverse))) for value in x[token]]
    q, _ = oracle.quantize_static(x, 0.01)
    inverse = np.float32(1) / np.float32(0.01)
    assert q[3].tolist() == [max(-127, min(127, round(float(np.float32(v * inverse))))) for v in x[3]]


def test_what_is_beyond_a_static_scale_saturates() -> None:
    q, scale = oracle.quantize_static(np.array([[3.4e38, -3.4e38, 1.28, -1.28, 0]], np.float32), 0.01)
    assert q.tolist() == [[127, -127, 127, -127, 0]]
    assert scale.tolist() == [np.float32(0.01)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_token_that_is_not_finite_gives_nan_everywhere(value: float) -> None:
    x = np.ones((3, 4), np.float32)
    x[1, 2] = value
    weight_q, scales = np.ones((5, 4), np.int8), np.ones(5, np.float32)
    for q, scale in (oracle.quantize_tokens(x), oracle.quantize_static(x, 0.1)):
        assert not q[1].any()
        y = oracle.linear_int8(q, scale, weight_q, scales, np.zeros(5), "gelu")
        np.testing.assert_array_equal(np.isnan(y).all(axis=1), [False, True, False])
        assert np.isfinite(y[[0, 2]]).all()


def test_sums_of_whole_numbers_are_exact() -> None:
    rng = np.random.default_rng(0)
    q, weight_q = (rng.integers(-127, 128, (n, 4096)).astype(np.int8) for n in (7, 9))
    scale, weight_scales = rng.random(7).astype(np.float32), rng.random(9).astype(np.float32)
    y = oracle.linear_int8(q, scale, weight_q, weight_scales)
    sums = q.astype(np.int64) @ weight_q.astype(np.int64).T
    assert y.dtype == np.float64
    np.testing.assert_array_equal(
        y, sums * scale.astype(np.float64)[:, None] * weight_scales.astype(np.float64)
    )
