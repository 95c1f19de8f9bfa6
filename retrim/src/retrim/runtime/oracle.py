"""The slow, obvious float64 linear layer that every kernel is held to.

In int8 what a token is rounded to is part of the definition, operation by
operation in float32, so that kernels round alike and their sums, whole numbers,
are the very same.
"""

from __future__ import annotations

import math

import numpy as np

_LEAST_LARGEST = np.float32(1e-35)
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
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """activation(x W^T + b) + residual in float64.

    Parameters
    ----------
    x : ndarray, shape (..., in)
    weight : ndarray, shape (out, in)
    bias : ndarray, shape (out,), optional
    residual : ndarray, shape (..., out), optional

    Returns
    -------
    ndarray of float64, shape (..., out)
    """
    return _finish(x.astype(np.float64) @ weight.astype(np.float64).T, bias, activation, residual)


def quantize_tokens(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers for each token, by its own largest magnitude.

    With the token's largest magnitude a, everything in float32 and each
    operation rounded, q = rint(x * (127 / a)), halves to the even number, held
    to -127 ... 127.

    Parameters
    ----------
    x : ndarray of float32, shape (..., in)

    Returns
    -------
    q : ndarray of int8, shape (..., in)
        Zeros where a is at most 1e-35 (127 / a may be infinite) or not finite.
    scale : ndarray of float32, shape (...)
        a / 127; q times it is near x.  NaN for a token that holds NaN or
        infinity.
    """
    x = x.astype(np.float32, copy=False)
    largest = np.abs(x).max(axis=-1, initial=0)
    finite = np.isfinite(largest)
    scaled = finite & (largest > _LEAST_LARGEST)
    inverse = np.float32(127) / np.where(scaled, largest, np.float32(127))
    scale = np.where(finite, largest, np.float32(np.nan)) / np.float32(127)
    return _rounded(np.where(scaled[..., None], x, np.float32(0)), inverse[..., None]), scale


def quantize_static(x: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers for every token by one scale that is known before.

    q = rint(x * (1 / scale)) in float32, halves to the even number, held to
    -127 ... 127.

    Parameters
    ----------
    x : ndarray of float32, shape (..., in)
    scale : float
        Rounded to float32 first.

    Returns
    -------
    q : ndarray of int8, shape (..., in)
    scale : ndarray of float32, shape (...)
        As given; NaN for a token that holds NaN or infinity, whose q are zeros.
    """
    x = x.astype(np.float32, copy=False)
    finite = np.isfinite(x).all(axis=-1)
    q = _rounded(np.where(finite[..., None], x, np.float32(0)), np.float32(1) / np.float32(scale))
    return q, np.where(finite, np.float32(scale), np.float32(np.nan))


def linear_int8(
    q: np.ndarray,
    scale: np.ndarray,
    weight_q: np.ndarray,
    weight_scales: np.ndarray,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    residual: np.ndarray | None = None,
) -> np.ndarray:
    """activation(s v (q Q^T) + b) + residual: exact sums of whole numbers, the rest in float64.

    Parameters
    ----------
    q : ndarray of int8, shape (..., in)
    scale : ndarray of float32, shape (...) or ()
        s, that of each token or of all.
    weight_q : ndarray of int8, shape (out, in)
        Q.
    weight_scales : ndarray of float32, shape (out,)
        v, that of each output.
    bias : ndarray, shape (out,), optional
    residual : ndarray, shape (..., out), optional

    Returns
    -------
    ndarray of float64, shape (..., out)
    """
    # float64 holds sums of fewer than 2^39 such products exactly, and multiplies faster than int64
    sums = q.astype(np.float64) @ weight_q.astype(np.float64).T
    y = sums * np.asarray(scale, np.float64)[..., None] * weight_scales.astype(np.float64)
    return _finish(y, bias, activation, residual)


def _rounded(x: np.ndarray, inverse: np.ndarray | np.float32) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.clip(np.rint(x * inverse), -127, 127).astype(np.int8)


def _finish(
    y: np.ndarray, bias: np.ndarray | None, activation: str | None, residual: np.ndarray | None
) -> np.ndarray:
    y = activate(y if bias is None else y + bias.astype(np.float64), activation)
    return y if residual is None else y + residual.astype(np.float64)
