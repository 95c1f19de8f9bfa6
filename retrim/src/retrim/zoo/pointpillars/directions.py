"""The half circle that a yaw lies in: what the sine of a difference cannot tell.

The halves begin at 45 degrees, so that cars along and across the road lie in
the middle of theirs.
"""

from __future__ import annotations

import numpy as np

OFFSET = 0.78539


def half(yaw: np.ndarray) -> np.ndarray:
    """0 from 45 to 225 degrees, else 1; int64."""
    turn = (yaw - OFFSET) % (2 * np.pi)
    return np.clip((turn // np.pi).astype(np.int64), 0, 1)


def facing(yaw: np.ndarray, half: np.ndarray) -> np.ndarray:
    """The same line as `yaw`, in the given half, in [-pi, pi)."""
    turned = (yaw - OFFSET) % np.pi + OFFSET + np.pi * half
    return np.asarray((turned + np.pi) % (2 * np.pi) - np.pi)
