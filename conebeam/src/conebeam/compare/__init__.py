"""Results against references: differences with both uncertainties."""

from conebeam.compare.difference import (
    Absolute,
    AtMaximum,
    AtPosition,
    Comparison,
    Local,
    compare_curves,
    parse_base,
    parse_normalisation,
)
from conebeam.compare.reference import Curve, curve_of, read_curve

__all__ = [
    "Absolute",
    "AtMaximum",
    "AtPosition",
    "Comparison",
    "Curve",
    "Local",
    "compare_curves",
    "curve_of",
    "parse_base",
    "parse_normalisation",
    "read_curve",
]
