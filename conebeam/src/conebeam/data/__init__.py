"""Atomic data out of xraylib, tables kept on disk, and published reference values."""
