"""The slow, obvious float64 linear layer that every kernel is held to."""

from __future__ import annotations

import math

import numpy as np

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def activate(y: np.ndarray, activation: str | None) -> np.ndarray:
    """Apply an activation in float64: relu, gelu (exact) or gelu_tanh.

    Both forms of GELU are y times a share between 0 and 1, written so that the
    share keeps its relative accuracy where it is tiny.
    """
    if activation is None:
        return y
    if activation == "relu":
        return np.where(y < 0, 0.0, y)
    if activation == "gelu":
        share = 0.5 * _erfc(-y / math.sqrt(2.0))
    else:
        u = 2.0 * math.sqrt(2.0 / math.pi) * (y + 0.044715 * y**3)
        small = np.exp(-np.abs(u))  # (1 + tanh(u / 2)) / 2 = 1 / (1 + exp(-u))
        share = np.where(u < 0, small, 1.0) / (1.0 + small)
    finite: np.ndarray = np.where(np.isneginf(y), -0.0, y)  # -inf has no share
    result: np.ndarray = finite * share
    return result


def linear(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, activation: str | None = None
) -> np.ndarray:
    """activation(x W^T + b) in float64.

    Parameters
    ----------
    x : ndarray, shape (..., in)
    weight : ndarray, shape (out, in)
    bias : ndarray, shape (out,), optional

    Returns
    -------
    ndarray of float64, shape (..., out)
    """
    y = x.astype(np.float64) @ weight.astype(np.float64).T
    return activate(y if bias is None else y + bias.astype(np.float64), activation)
