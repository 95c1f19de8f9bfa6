"""What to expect of a packed model's layers on this machine, by its profile, and what would be faster.

Works without torch, whose dense layers are then no rivals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrim.artifact import Artifact, Pack, PackedWeight
from retrim.artifact.layout import lane_width, pack_rows, parse
from retrim.errors import RetrimError
from retrim.runtime.calibration import Progress, Rival, calibrate, requests_of
from retrim.runtime.entry import Request
from retrim.runtime.profile import Choice, Profile
from retrim.structures import BlockColumns, Structure, from_dict

_MUCH_MORE = 1.25  # times what a structure keeps, for a pack to store
_FASTER = 0.97  # of the time of sparse kernels, for dense ones to take their place
_PAYS = 1.1  # expected of a remedy, and times what there is
_LEAST = 1.05  # over dense, for a structure to pay
_PANEL = 32


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """One pack of a weight, on some number of tokens and threads.

    Attributes
    ----------
    name : str
    weight : PackedWeight
    pack : Pack
    request : Request
    choice : Choice or None
        None where the profile says nothing.
    """

    name: str
    weight: PackedWeight
    pack: Pack
    request: Request
    choice: Choice | None

    def row(self) -> dict[str, Any]:
        """Ready for JSON."""
        request = self.request
        return {
            "name": self.name,
            "shape": list(self.weight.shape),
            "structure": dict(self.weight.structure),
            "density": self.weight.density,
            "precision": request.precision,
            "activations": request.activations,
            "stored": request.density,
            "rows": request.rows,
            "group": request.group,
            "tokens": request.tokens,
            "threads": request.threads,
            "choice": None if self.choice is None else self.choice.to_dict(),
        }


def expect(artifact: Artifact, profile: Profile, tokens: int, threads: int) -> list[Expectation]:
    """What the profile says of every pack, weight by weight."""
    found = []
    for name, weight in artifact.weights.items():
        for pack in weight.packs:
            request = Request.of(parse(pack.data), tokens, threads)
            found.append(
                Expectation(
                    name=name, weight=weight, pack=pack, request=request, choice=profile.choose(request)
                )
            )
    return found


def measure(
    artifact: Artifact,
    profile: Profile,
    tokens: Sequence[int],
    threads: int,
    *,
    seconds: float,
    rivals: Sequence[Rival] = (),
    progress: Progress = lambda done, steps: None,
) -> Profile:
    """Calibrate for an artifact's packs, and for what would be advised instead.

    Parameters
    ----------
    tokens : sequence of int
        The most important first.
    seconds : float
        About how long to measure at most.
    """
    until = time.monotonic() + seconds

    def calibrated(requests: list[Request]) -> Profile:
        left = max(until - time.monotonic(), 0.0)
        return calibrate(profile, requests, seconds=left, rivals=rivals, progress=progress)

    views = [parse(pack.data) for weight in artifact.weights.values() for pack in weight.packs]
    profile = calibrated(requests_of(views, tokens, threads))
    poor = [found for found in expect(artifact, profile, tokens[0], threads) if _is_poor(found)]
    return calibrated([request for found in poor for _, request in remedies(found)])


def fastest(artifact: Artifact, expectations: Sequence[Expectation]) -> Artifact:
    """The artifact with one pack for each weight, the one that is expected to be fastest.

    A weight that the profile says nothing of keeps its first.
    """
    best: dict[str, Expectation] = {}
    for expectation in expectations:
        known = best.get(expectation.name)
        if known is None or _microseconds(expectation) < _microseconds(known):
            best[expectation.name] = expectation
    weights = {
        name: replace(weight, packs=(best[name].pack,) if name in best else weight.packs)
        for name, weight in artifact.weights.items()
    }
    return replace(artifact, weights=weights)


def filled(artifact: Artifact, expectations: Sequence[Expectation], profile: Profile) -> Artifact:
    """The artifact with all columns stored where kernels run faster so than over what a structure keeps.

    That happens in bf16 and int8 near density 1, where free columns have to be
    joined to lanes.  What is pruned stays zero.
    """
    weights = dict(artifact.weights)
    for expectation in expectations:
        weight, request, choice = weights[expectation.name], expectation.request, expectation.choice
        dense = profile.choose(request.dense())
        if choice is None or dense is None or dense.microseconds >= _FASTER * choice.microseconds:
            continue
        if weight.structure.get("group", 1) != 1:  # the structure says how packs hold it
            continue
        matrix = weight.matrix()
        everything = np.ones(matrix.shape, bool)
        data = pack_rows(matrix, everything, _PANEL, request.precision, request.dense().group)
        full = Pack(request.precision, _PANEL, data)
        weights[expectation.name] = replace(
            weight,
            packs=tuple(full if pack.precision == request.precision else pack for pack in weight.packs),
            support=weight.mask() if weight.support is None else weight.support,
        )
    return replace(artifact, weights=weights)


def _microseconds(expectation: Expectation) -> float:
    return math.inf if expectation.choice is None else expectation.choice.microseconds


def advice(expectation: Expectation, profile: Profile) -> str | None:
    """Why a layer's structure does not pay, or pays less than it could, and what to use; None if it does."""
    choice = expectation.choice
    if choice is None or choice.speedup is None or not _is_poor(expectation):
        return None
    more = _stores_much_more(expectation)
    remedy = _remedy(expectation, choice, profile)
    if remedy is None and choice.speedup >= _LEAST:
        return None
    why = ""
    if more:
        why = f", for panels of {_PANEL} rows store {expectation.request.density:.2g} of the weight"
    return (
        f"{expectation.name}: density {expectation.weight.density:.3g} with {_words(expectation)}: expected "
        f"{choice.speedup:.2g}×{why}; {remedy or 'leave it dense'}"
    )


def _remedy(expectation: Expectation, choice: Choice, profile: Profile) -> str | None:
    """The best of what was measured, or can be told from it."""
    now = choice.speedup or 0.0
    found: list[tuple[float, str]] = []
    for words, request in remedies(expectation):
        instead = profile.choose(request)
        if instead is not None and instead.speedup is not None:
            found.append((instead.speedup, words))
    for speedup, words in found:  # in their order: the first costs least
        if speedup >= _PAYS and speedup >= _PAYS * now:
            return f"use {words} ({speedup:.2g}×)"
    return None


def remedies(expectation: Expectation) -> Iterator[tuple[str, Request]]:
    """What might be faster, in words and as a layer to measure; what changes the weight least first."""
    structure = _structure(expectation.weight)
    request, density = expectation.request, expectation.weight.density
    block = isinstance(structure, BlockColumns)
    whole = replace(request, density=density, rows=_PANEL)
    if request.outputs % _PANEL == 0 and _stores_much_more(expectation):
        yield f"rows={_PANEL}" if block else f"BlockColumns(rows={_PANEL})", whole
    width = lane_width(request.precision)
    if request.group < width and request.inputs % width == 0:
        grouped = f"group={width}" if block else f"BlockColumns(rows={_PANEL}, group={width})"
        yield grouped, replace(whole, group=width)
    for fewer in (1 / 2, 1 / 3, 1 / 5):
        if fewer < 0.9 * density:
            words = f"density 1/{round(1 / fewer)}"
            yield words if block else f"BlockColumns(rows={_PANEL}) at {words}", replace(whole, density=fewer)


def _is_poor(expectation: Expectation) -> bool:
    """Whether a layer is slower than dense, or less fast than what it keeps would allow."""
    choice = expectation.choice
    slow = choice is not None and choice.speedup is not None and choice.speedup < _LEAST
    return slow or _stores_much_more(expectation)


def _stores_much_more(expectation: Expectation) -> bool:
    return expectation.request.density > _MUCH_MORE * expectation.weight.density


def _structure(weight: PackedWeight) -> Structure | None:
    try:
        return from_dict(weight.structure)
    except RetrimError:  # of a newer version: its packs run all the same
        return None


def _words(expectation: Expectation) -> str:
    structure = _structure(expectation.weight)
    precision = "" if expectation.request.precision == "fp32" else f" in {expectation.request.precision}"
    if isinstance(structure, BlockColumns):
        group = "" if structure.group == 1 else f", group={structure.group}"
        return f"rows={structure.rows}{group}{precision}"
    return f"{expectation.weight.structure.get('type')}{precision}"


def together(expectations: Sequence[Expectation]) -> float | None:
    """Speed-up to expect of all layers together, where the profile knows all of them."""
    choices = [expectation.choice for expectation in expectations]
    known = [choice for choice in choices if choice is not None and choice.dense_microseconds is not None]
    if not known or len(known) < len(choices):
        return None
    dense = sum(choice.dense_microseconds or 0.0 for choice in known)
    return dense / sum(choice.microseconds for choice in known)


def rivals() -> list[Rival]:
    """Dense layers of other run-times that are installed."""
    try:
        from retrim.torch.dense_timing import dense
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return []
    return [dense]
