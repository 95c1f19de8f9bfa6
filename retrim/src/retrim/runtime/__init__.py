"""Running packed models: kernels' Python face, their oracle, and what is known of their speed.  Imports NumPy alone."""

from __future__ import annotations

from retrim.runtime.level_set import LevelSet, Repacked, Resident
from retrim.runtime.matrix import PackedMatrix, variants

__all__ = ["LevelSet", "PackedMatrix", "Repacked", "Resident", "variants"]
