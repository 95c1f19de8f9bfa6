"""Everything retrim raises on purpose.

One root, so that a caller may catch all of it at once.  A message is one
sentence that says what is wrong, where, and what to do about it; the command
line prints it as it is and exits with status 2.
"""

from __future__ import annotations


class RetrimError(Exception):
    """Root of all errors that retrim raises on purpose."""


class ConfigError(RetrimError):
    """An option, recipe or plan says something it must not say."""


class ShapeError(RetrimError):
    """A weight's or an input's shape does not fit what is asked of it."""


class DensityError(RetrimError):
    """A density is out of range, or no structure of this form reaches it."""


class WeightError(RetrimError):
    """A weight holds what cannot be computed with (NaN, infinity)."""


class ArtifactError(RetrimError):
    """A file is damaged, foreign, newer than this version, or cannot be written."""


class ProfileError(RetrimError):
    """The profile of a machine is damaged, newer, of another machine, or cannot be written."""


class DeviceError(RetrimError):
    """A device's profile, a table of levels or a file of the system is missing, damaged or absurd."""


class CheckpointError(RetrimError):
    """A training checkpoint is damaged or belongs to another job."""


class CorpusError(RetrimError):
    """Training text is missing, empty or no text."""


class DataError(RetrimError):
    """A data set's file is missing, damaged, or says something it must not say."""


class RuntimeUnavailableError(RetrimError):
    """The processor lacks what was asked for by name."""


class MissingExtraError(RetrimError):
    """A name needs an optional dependency that is not installed."""


class Interrupted(RetrimError):  # noqa: N818 - it is none
    """Long work was asked to stop; what it had done is kept, and it can go on."""
