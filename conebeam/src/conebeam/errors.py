"""Everything conebeam raises on purpose.

One root, so that a caller may catch all of it at once.  A message is one
sentence that says what is wrong, where, and what to do about it; the command
line prints it as it is and exits with status 2.
"""

from __future__ import annotations


class ConebeamError(Exception):
    """Root of all errors that conebeam raises on purpose."""


class ConfigError(ConebeamError):
    """A scene or an option says something it must not say."""


class GeometryError(ConebeamError):
    """A solid, lattice or cell is impossible, or cells overlap by mistake."""


class DataError(ConebeamError):
    """A material, spectrum or table is wrong or out of range."""


class ResultError(ConebeamError):
    """A result file is damaged, foreign, newer, or cannot be written."""
