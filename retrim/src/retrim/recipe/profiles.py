"""What `retrim profile` does: measure layers, and show what the profile says of them.  Works without torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrim.artifact import load
from retrim.artifact.layout import PRECISIONS
from retrim.errors import ProfileError
from retrim.recipe.expectation import advice, expect, measure, rivals, together
from retrim.recipe.wishes import Measuring
from retrim.runtime import profile_file, tuning
from retrim.runtime.calibration import calibrate as calibrate_
from retrim.runtime.calibration import common_requests
from retrim.runtime.entry import TORCH, Request
from retrim.runtime.profile import Profile

TOKENS = (128, 1, 8)


def calibrate(
    artifact: Path | None,
    tokens: tuple[int, ...],
    threads: int,
    *,
    seconds: float,
    path: Path | None = None,
    measuring: Measuring = lambda done, steps: None,
) -> None:
    """Measure the layers of an artifact, or common ones, and write what was measured.

    Raises
    ------
    ArtifactError
    ProfileError
        If there is nowhere to write to, or there is what must not be written over.
    """
    place = place_of(path)
    profile = profile_file.begin(place)
    if artifact is None:
        requests = common_requests(tokens, threads)
        profile = calibrate_(profile, requests, seconds=seconds, rivals=rivals(), progress=measuring)
    else:
        profile = measure(
            load(artifact), profile, tokens, threads, seconds=seconds, rivals=rivals(), progress=measuring
        )
    profile_file.write(place, profile)
    tuning.forget()


def show(
    artifact: Path | None, tokens: tuple[int, ...], threads: int, *, path: Path | None = None
) -> dict[str, Any]:
    """What a profile says of an artifact's layers, or of all that were measured.

    Returns
    -------
    dict
        Ready for JSON: ``path``, ``machine``, ``entries`` (as in the file) and
        ``layers``; for an artifact also ``advice`` and ``speedup``.

    Raises
    ------
    ArtifactError
    ProfileError
        If the file is missing, damaged, or of another machine or other kernels.
    """
    place = place_of(path)
    if not place.exists():
        raise ProfileError(
            f"profile {str(place)!r} must be measured before it is shown: call `retrim profile --calibrate"
            f"{'' if artifact is None else f' {artifact}'}`"
        )
    profile = profile_file.read_here(place)
    found: dict[str, Any] = {
        "path": str(place),
        "machine": asdict(profile.machine) | {"isa": list(profile.machine.isa)},
        "entries": [entry.to_dict() for entry in profile.entries],
    }
    if artifact is None:
        return found | {"layers": _measured(profile)}
    packed = load(artifact)
    first = expect(packed, profile, tokens[0], threads)
    rest = [e for count in tokens[1:] for e in expect(packed, profile, count, threads)]
    return found | {
        "layers": [e.row() for e in (*first, *rest)],
        "advice": [words for e in first if (words := advice(e, profile)) is not None],
        "speedup": together([e for e in first if e.pack is e.weight.packs[0]]),
    }


def place_of(path: Path | None) -> Path:
    """A profile's file: the one that is named, or this machine's.

    Raises
    ------
    ProfileError
        If there is nowhere for it to be.
    """
    place = path or profile_file.default_path()
    if place is None:
        raise ProfileError(
            f"a profile must have a file, but {profile_file.VARIABLE} is {profile_file.NONE!r} or there is no home "
            "folder: name one with --profile"
        )
    return place


def _measured(profile: Profile) -> list[dict[str, Any]]:
    """Every layer that was measured, with the kernels that are chosen for it."""
    requests: dict[Request, None] = {}
    for entry in profile.entries:
        if entry.isa != TORCH:
            requests[Request(**{name: getattr(entry, name) for name in Request.__dataclass_fields__})] = None
    rows = []
    for request in sorted(requests, key=_order):
        choice = profile.choose(request)
        row = asdict(request)
        row["shape"] = [row.pop("outputs"), row.pop("inputs")]
        rows.append(row | {"choice": None if choice is None else choice.to_dict()})
    return rows


def _order(request: Request) -> tuple[Any, ...]:
    kind = PRECISIONS.index(request.precision), request.activations or ""
    return *kind, request.outputs, request.inputs, request.density, request.tokens
