"""How a packed model will be run, as whoever packs it says, and a profile that knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from retrim.artifact import Artifact
from retrim.artifact.layout import PRECISIONS
from retrim.errors import ConfigError
from retrim.recipe.expectation import measure, rivals
from retrim.runtime import profile_file, tuning
from retrim.runtime import threads as threads_
from retrim.runtime.profile import Profile

AUTO = "auto"
"""In place of precisions: for each weight the one in which it runs fastest."""
Measuring = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How a packed model will be run.

    Parameters
    ----------
    precisions : tuple of str
        In which every weight is packed, the one that runs first; ("auto",) for
        the fastest of each weight.
    tokens, threads : int
    profile : Path, optional
        Default: that of this machine.
    seconds : float
        To spend at most on measuring what the profile does not have.
    """

    precisions: tuple[str, ...] = ("fp32",)
    tokens: int = 128
    threads: int = 1
    profile: Path | None = None
    seconds: float = 0.0

    @property
    def auto(self) -> bool:
        """Whether each weight gets the precision in which it is fastest."""
        return self.precisions == (AUTO,)

    def __post_init__(self) -> None:
        known = set(self.precisions) <= set(PRECISIONS) and len(set(self.precisions)) == len(self.precisions)
        if not self.auto and not (known and self.precisions):
            raise ConfigError(
                f"precision must be {AUTO} alone, or one or more of {', '.join(PRECISIONS)}, each once, not "
                f"{', '.join(self.precisions) or 'nothing'}"
            )
        threads_.check(self.threads)


def measured(artifact: Artifact, wishes: Wishes, measuring: Measuring = lambda done, steps: None) -> Profile:
    """The profile that was wished for, with what it lacked of an artifact's layers measured and written.

    Raises
    ------
    ProfileError
    """
    path = wishes.profile or profile_file.default_path()
    if path is None:  # none is wanted
        return Profile()
    before = profile_file.begin(path)
    profile = measure(
        artifact,
        before,
        (wishes.tokens,),
        wishes.threads,
        seconds=wishes.seconds,
        rivals=rivals() if wishes.seconds else (),
        progress=measuring,
    )
    if profile.entries != before.entries:
        profile_file.write(path, profile)
        tuning.forget()
    return profile
