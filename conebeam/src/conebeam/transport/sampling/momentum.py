"""Place in a table over t = x², found from the bits of a float32."""

from __future__ import annotations

import numpy as np

from conebeam.compilation import kernel
from conebeam.transport import physics

_OFFSET = np.float32(physics.MOMENTUM_OFFSET)
_SHIFT = physics.MOMENTUM_SHIFT
_BITS = physics.MOMENTUM_BITS
_MASK = (1 << physics.MOMENTUM_SHIFT) - 1
_UNIT = np.float32(2.0**-physics.MOMENTUM_SHIFT)


@kernel
def place(t: np.float32) -> tuple[int, np.float32]:
    """Index of the table point below t (1/Å²) and the way to the next one, 0 to 1."""
    bits = np.int64(np.float32(t + _OFFSET).view(np.int32)) - _BITS
    return int(bits >> _SHIFT), np.float32(bits & _MASK) * _UNIT
