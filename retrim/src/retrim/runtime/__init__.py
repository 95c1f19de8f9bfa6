"""Running packed models: kernels' Python face and their oracle.  Imports NumPy alone."""

from __future__ import annotations

from retrim.runtime.matrix import PackedMatrix

__all__ = ["PackedMatrix"]
