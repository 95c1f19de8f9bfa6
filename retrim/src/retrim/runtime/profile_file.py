"""The file of a machine's profile: where it lies, how it is read, merged and written."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrim.errors import ConfigError, ProfileError
from retrim.files import replacing
from retrim.runtime.entry import Entry
from retrim.runtime.machine import Machine, here
from retrim.runtime.profile import Profile

VARIABLE = "RETRIM_PROFILE"
NONE = "none"
"""Value of the variable that stands for no profile at all."""
VERSION = 1
_FORMAT = "retrim-profile"
_MOST_BYTES = 1 << 28
_ANEW = "remove it and call `retrim profile --calibrate`"


def default_path() -> Path | None:
    """Where this machine's profile lies: what RETRIM_PROFILE names, else a file in the user's cache folder.

    None if the variable is ``none``, or the user has no home.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return None if named == NONE else Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(cache) if cache else Path.home() / ".cache"
    except RuntimeError:
        return None
    return folder / "retrim" / f"profile-{here().key}.json"


def is_named(path: Path) -> bool:
    """Whether somebody named this file, so that what is wrong with it must be said."""
    return bool(os.environ.get(VARIABLE)) or path != default_path()


def read(path: Path) -> Profile:
    """Read a profile, of whatever machine.

    Raises
    ------
    ProfileError
        If the file cannot be read, is damaged, newer or of another kind.
    """
    name = repr(str(path))
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ProfileError(
            f"profile {name} must be a file that can be read: {error.strerror or error}"
        ) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise ProfileError(
            f"profile {name} must be written by retrim, but is damaged or of another kind: {_ANEW}"
        )
    version = found.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ProfileError(
            f"profile {name} must be of format {VERSION} at most, not {version}: upgrade retrim"
        )
    if version != VERSION or set(found) != {"format", "version", "machine", "entries"}:
        raise ProfileError(f"profile {name} must be of format {VERSION}, but is damaged: {_ANEW}")
    return Profile(_machine(found["machine"], name), _entries(found["entries"], name))


def _machine(found: Any, name: str) -> Machine:
    right = isinstance(found, dict) and set(found) == {"processor", "isa", "kernels"}
    right = right and isinstance(found["isa"], list) and all(isinstance(x, str) for x in found["isa"])
    if not right or not all(isinstance(found[key], str) for key in ("processor", "kernels")):
        raise ProfileError(f"profile {name} must name its machine, but is damaged: {_ANEW}")
    return Machine(processor=found["processor"], isa=tuple(found["isa"]), kernels=found["kernels"])


def _entries(found: Any, name: str) -> tuple[Entry, ...]:
    if not isinstance(found, list):
        raise ProfileError(f"profile {name} must have a list of entries, but is damaged: {_ANEW}")
    entries = []
    for i, item in enumerate(found):
        try:
            entries.append(Entry.read(item))
        except ConfigError as error:
            raise ProfileError(f"profile {name}, entry {i}: {error}: {_ANEW}") from None
    return tuple(entries)


def check(profile: Profile, path: Path) -> None:
    """Refuse a profile of another machine or of other kernels.

    Raises
    ------
    ProfileError
    """
    name, now = repr(str(path)), here()
    if profile.machine.key != now.key:
        raise ProfileError(
            f"profile {name} must be of this machine ({now.processor}), not of {profile.machine.processor}: "
            "name another file and call `retrim profile --calibrate`"
        )
    if profile.machine.kernels != now.kernels:
        raise ProfileError(
            f"profile {name} must be of these kernels ({now.kernels}), not of {profile.machine.kernels}: call "
            "`retrim profile --calibrate`"
        )


def read_here(path: Path) -> Profile:
    """Read a profile of this machine and these kernels.

    Raises
    ------
    ProfileError
    """
    found = read(path)
    check(found, path)
    return found


def write(path: Path, profile: Profile) -> None:
    """Write a profile of this machine, merged with what is there, beside its place, then rename.

    Raises
    ------
    ProfileError
        If the file cannot be written, or is something else than a profile of this machine.
    """
    profile = begin(path).adding(profile.entries)
    head = {"format": _FORMAT, "version": VERSION, "machine": asdict(profile.machine)}
    lines = ",\n".join("  " + json.dumps(entry.to_dict()) for entry in profile.entries)
    text = json.dumps(head, ensure_ascii=False)[:-1] + f',\n "entries": [\n{lines}\n ]}}\n'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProfileError(
            f"folder {str(path.parent)!r} must be one that can be made: {error.strerror}; choose another file"
        ) from None
    with replacing(path, "profile", ProfileError) as beside:
        beside.write_text(text, "utf-8")


def begin(path: Path) -> Profile:
    """What `path` holds for these kernels, to be added to; empty where it holds nothing.

    Raises
    ------
    ProfileError
        If somebody named a file that must not be written over: one that is
        damaged, newer, or of another machine.
    """
    try:
        if not path.exists():
            return Profile()
        found = read(path)
        if found.machine.key != here().key:
            check(found, path)
    except (OSError, ProfileError):
        if is_named(path):
            raise
        return Profile()
    return found if found.machine.kernels == here().kernels else Profile()
