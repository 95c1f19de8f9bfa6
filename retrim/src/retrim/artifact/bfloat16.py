"""bfloat16 in NumPy, which has no such type: the upper half of a float32, kept as uint16."""

from __future__ import annotations

import numpy as np


def to_bits(values: np.ndarray) -> np.ndarray:
    """Round to bfloat16, to nearest and of two equally near ones to the even one.

    Parameters
    ----------
    values : ndarray of float32

    Returns
    -------
    ndarray of uint16, of the same shape
        NaN stays NaN (a quiet one, of the same sign), what lies beyond the
        largest bfloat16 becomes infinite.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + (odd + np.uint32(0x7FFF))) >> np.uint32(16)).astype(np.uint16)
    nan = np.isnan(values)
    if nan.any():  # the carry would run through an all-ones NaN
        rounded[nan] = (bits[nan] >> np.uint32(16)).astype(np.uint16) | np.uint16(0x40)
    return rounded.reshape(np.shape(values))


def from_bits(bits: np.ndarray) -> np.ndarray:
    """The float32 of each bfloat16: exact.

    Parameters
    ----------
    bits : ndarray of uint16

    Returns
    -------
    ndarray of float32, of the same shape
    """
    wide = bits.astype(np.uint32) << np.uint32(16)
    return np.asarray(wide).view(np.float32)
