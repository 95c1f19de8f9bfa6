"""Weights as whole numbers of eight bits: symmetric, one scale a row."""

from __future__ import annotations

import numpy as np

from retrim.errors import WeightError

LARGEST = 127
"""Largest magnitude: -128 is left out, so that a weight and its negative are alike."""

_LEAST_SCALE = np.finfo(np.float32).tiny  # below it, processors that flush subnormals give zero


def quantize_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest whole multiples of a scale for each row.

    Parameters
    ----------
    weight : ndarray of float32, shape (out, in)

    Returns
    -------
    q : ndarray of int8, shape (out, in)
        rint(w / scale), between -127 and 127; halves to the even one.
    scales : ndarray of float32, shape (out,)
        max|w| / 127, and 1 for a row of zeros.

    Raises
    ------
    WeightError
        If a weight is NaN or infinite.
    """
    largest = np.maximum(weight.max(axis=1, initial=0), -weight.min(axis=1, initial=0))
    if not np.isfinite(largest).all():
        raise WeightError(
            "a weight must be finite to be packed in int8, but holds NaN or infinity: "
            "go back to a checkpoint from before training diverged"
        )
    scales = np.maximum(largest / np.float32(LARGEST), _LEAST_SCALE)
    scales[largest == 0] = 1
    q = np.divide(weight, scales[:, None], dtype=np.float32)
    np.rint(q, out=q)
    np.clip(q, -LARGEST, LARGEST, out=q)
    return q.astype(np.int8), scales.astype(np.float32)
