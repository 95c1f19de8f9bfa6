"""Instruction sets: what this build has, what this processor runs, which one is used."""

from __future__ import annotations

import os

from retrim.errors import RuntimeUnavailableError
from retrim.runtime import _core

VARIABLE = "RETRIM_ISA"


def available() -> list[str]:
    """Instruction sets that this processor runs, fastest first; the last is ``portable``."""
    return [name for name, runs in _core.isas() if runs]


def selected() -> str:
    """The one in use: what the environment variable RETRIM_ISA names, else the fastest.

    Raises
    ------
    RuntimeUnavailableError
        If RETRIM_ISA names one that is unknown or that the processor lacks.
    """
    here = available()
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return here[0]
    if wanted not in here:
        raise RuntimeUnavailableError(
            f"{VARIABLE} must be one of {', '.join(here)} on this processor, not {wanted!r}"
        )
    return wanted


def restriction() -> str | None:
    """What the environment variable RETRIM_ISA names, checked; None where it names nothing.

    Raises
    ------
    RuntimeUnavailableError
        As `selected`.
    """
    return selected() if os.environ.get(VARIABLE) else None


def allowed() -> list[str]:
    """Instruction sets that may run here: all that are available, or the one that RETRIM_ISA names."""
    named = restriction()
    return available() if named is None else [named]


def chosen(name: str | None) -> str:
    """`name` where it is given, else `selected`.

    Raises
    ------
    RuntimeUnavailableError
        If the processor lacks it.
    """
    if name is None:
        return selected()
    here = available()
    if name not in here:
        raise RuntimeUnavailableError(f"isa must be one of {', '.join(here)} on this processor, not {name!r}")
    return name


def index(name: str) -> int:
    """Number of an instruction set in the compiled core."""
    return [known for known, _ in _core.isas()].index(name)
