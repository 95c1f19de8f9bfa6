"""Quantised weights: nearest, symmetric, and never out of range."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrim.artifact.int8 import quantize_rows

matrices = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)


@given(weight=matrices)
@settings(deadline=None, max_examples=300)
def test_every_weight_is_within_half_a_step(weight: np.ndarray) -> None:
    q, scales = quantize_rows(weight)
    assert q.dtype == np.int8
    assert scales.dtype == np.float32
    assert q.min() >= -127
    assert (scales > 0).all() and np.isfinite(scales).all()
    off = np.abs(q * scales.astype(np.float64)[:, None] - weight)
    assert (off <= scales.astype(np.float64)[:, None] * (0.5 + 1e-4)).all()
    negative, same = quantize_rows(-weight)
    np.testing.assert_array_equal(negative, -q)
    np.testing.assert_array_equal(same, scales)


def test_the_largest_of_a_row_is_127_and_halves_go_to_the_even_one() -> None:
    weight = np.array([[127, 0.5, 1.5, -2.5], [0, 0, 0, 0], [-1e-3, 5e-4, 0, 0]], np.float32)
    q, scales = quantize_rows(weight)
    assert q.tolist() == [[127, 0, 2, -2], [0, 0, 0, 0], [-127, 64, 0, 0]]
    np.testing.assert_array_equal(scales, np.array([1, 1, np.float32(1e-3) / np.float32(127)], np.float32))


def test_rows_of_tiny_weights_have_a_scale_that_no_processor_flushes() -> None:
    q, scales = quantize_rows(np.array([[1e-45, 2e-38, 0]], np.float32))
    assert scales[0] == np.finfo(np.float32).tiny
    assert q.tolist() == [[0, 2, 0]]
