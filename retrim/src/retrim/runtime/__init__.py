"""Running packed models: kernels' Python face, their oracle, and what is known of their speed.  Imports NumPy alone."""

from __future__ import annotations

from retrim.runtime.level_set import LevelSet, Nested, Repacked, Resident
from retrim.runtime.matrix import PackedMatrix, variants
from retrim.runtime.repack import Stock, Stocked

__all__ = ["LevelSet", "Nested", "PackedMatrix", "Repacked", "Resident", "Stock", "Stocked", "variants"]
