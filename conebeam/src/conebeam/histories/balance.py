"""Entries of the energy balance that every history loop keeps."""

from __future__ import annotations

EMITTED, DEPOSITED, ESCAPED, WORST, COLLISIONS = 0, 1, 2, 3, 4
BALANCE_SIZE = 5
