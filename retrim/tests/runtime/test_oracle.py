"""The oracle itself, against values from tables."""

from __future__ import annotations

import numpy as np
import pytest

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
