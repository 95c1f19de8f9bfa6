"""Measuring layers for the profile, briefly: cold weights, kernels taking turns, medians.

What is measured, and how, is said in docs/retrim/profile.md.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from retrim.artifact.layout import PANEL, AnyView, pack_lists, pack_rows, parse
from retrim.runtime import isa
from retrim.runtime.entry import Entry, Request
from retrim.runtime.matrix import PackedMatrix, variants
from retrim.runtime.pages import place
from retrim.runtime.profile import Profile

Run = Callable[[], object]
"""Goes once through all copies of a layer."""

Rival = Callable[[Request, int], AbstractContextManager[Mapping[str, Run]]]
"""Dense layers of another run-time, by name: for a dense request, so many copies of each."""

Progress = Callable[[int, int], None]
Clock = Callable[[], float]

_KINDS = {
    "amx": "amx",
    "avx512_bf16": "avx512",
    "avx512_vnni": "avx512",
    "avx512": "avx512",
    "avx2_vnni": "avx2",
    "avx2": "avx2",
    "neon_dot": "neon",
    "neon": "neon",
}
_MOST_COPIES = 32
_MOST_BYTES = 256 << 20
_LEAST_RUNS, _MOST_RUNS = 3, 15
_HOPELESS = 1.4  # times the best of the first turns
_SCALE = 1 / 16  # of inputs and outputs in int8 with static scales


def calibrate(
    profile: Profile,
    requests: Iterable[Request],
    *,
    seconds: float = 20.0,
    rivals: Sequence[Rival] = (),
    progress: Progress = lambda done, steps: None,
    clock: Clock | None = None,
) -> Profile:
    """Measure what a profile does not have.

    Parameters
    ----------
    profile : Profile
    requests : iterable of Request
        In the order of their importance.  Dense layers of their shapes are measured with them.
    seconds : float
        About how long to measure; what there is no time for is left out.
    rivals : sequence of callable
        Dense layers of other run-times.
    progress : callable
        Called with requests done and requests in all.
    clock : callable, optional
        Seconds; default: processor time of this thread for one thread, else time on the wall.

    Returns
    -------
    Profile
    """
    wanted = _missing(profile, requests)
    deadline = time.monotonic() + seconds
    done = 0
    progress(done, len(wanted))
    for layer in _by_layer(wanted):
        bench: _Bench | None = None
        for request in layer:
            left = deadline - time.monotonic()
            if left <= 0:
                return profile
            bench = bench or _Bench(request, rivals, clock)
            profile = profile.adding(bench.measure(request, left / (len(wanted) - done)))
            done += 1
            progress(done, len(wanted))
    return profile


def requests_of(
    views: Iterable[AnyView], tokens: Iterable[int], threads: int, activations: str | None = None
) -> list[Request]:
    """A request for each pack at each number of tokens, those that are alike once."""
    found: list[Request] = []
    packs = list(views)
    for count in tokens:
        for view in packs:
            request = Request.of(view, count, threads, activations)
            if not any(request.is_like(known) for known in found):
                found.append(request)
    return found


def common_requests(tokens: Iterable[int], threads: int) -> list[Request]:
    """Layers as Transformers have them, half and a third of whose block columns are kept."""
    counts = list(tokens)
    return [
        Request(
            precision=precision,
            activations=activations,
            outputs=outputs,
            inputs=inputs,
            density=density,
            rows=32,
            group=1,
            tokens=count,
            threads=threads,
        )
        for precision, activations in (
            ("fp32", None),
            ("bf16", None),
            ("int8", "dynamic"),
            ("int8", "static"),
        )
        for outputs, inputs in ((256, 256), (1024, 256), (768, 768), (3072, 768), (768, 3072))
        for density in (1 / 3, 1 / 2)
        for count in counts
    ]


def plausible(request: Request) -> list[tuple[str, str]]:
    """Kernels that may be the fastest: of the two widest kinds of instruction set the best each."""
    best: dict[str, str] = {}
    for name in isa.allowed():
        best.setdefault(_KINDS.get(name, name), name)
    wide = [name for name in best.values() if name != "portable"][:2] or list(best.values())
    known = variants(request.precision, request.group, request.rows)
    return [(name, variant) for name in wide for variant in known]


def _missing(profile: Profile, requests: Iterable[Request]) -> list[Request]:
    """What has to be measured, each with its dense layer known or to be measured beside it."""
    found: list[Request] = []
    for request in requests:
        known = profile.has(request) and profile.has(request.dense())
        runs = variants(request.precision, request.group, request.rows)
        if runs and not known and not any(request.is_like(other) for other in found):
            found.append(request)
    return found


def _by_layer(requests: Iterable[Request]) -> list[list[Request]]:
    """Requests that differ in tokens alone, together; in the order of the first of each."""
    groups: dict[Any, list[Request]] = {}
    for request in requests:
        groups.setdefault(replace(request, tokens=1), []).append(request)
    return list(groups.values())


class _Bench:
    """Copies of one layer and of its dense one, that kernels take turns on."""

    def __init__(self, request: Request, rivals: Sequence[Rival], clock: Clock | None) -> None:
        self._clock = clock or (time.thread_time if request.threads == 1 else time.perf_counter)
        self._layers = [_Layer(request)]
        if not request.is_like(request.dense()):
            self._layers.append(_Layer(request.dense()))
        self._rivals = rivals

    def measure(self, request: Request, seconds: float) -> list[Entry]:
        """Times of all kernels for some number of tokens."""
        tokens = request.tokens
        turns = [turn for layer in self._layers for turn in layer.turns(tokens)]
        dense = replace(request.dense(), tokens=tokens)
        with ExitStack() as stack:
            copies = self._layers[-1].copies_of_dense
            for rival in self._rivals:
                for name, run in stack.enter_context(rival(dense, copies)).items():
                    turns.append(_Turn(dense, "torch", name, copies, run, lambda: None))
            self._take(turns, seconds)
        return [turn.entry() for turn in turns if turn.times]

    def _take(self, turns: list[_Turn], seconds: float) -> None:
        began = time.monotonic()
        for _ in range(_LEAST_RUNS):
            for turn in turns:
                turn.take(self._clock)
        best = {r: min(t.least for t in turns if t.request == r) for r in {t.request for t in turns}}
        hopeful = [turn for turn in turns if turn.least <= _HOPELESS * best[turn.request]]
        for done in range(_LEAST_RUNS, _MOST_RUNS):
            if time.monotonic() - began > seconds:
                break
            first = done % len(hopeful)
            for turn in hopeful[first:] + hopeful[:first]:
                turn.take(self._clock)


class _Turn:
    """One kernel on one layer, and the times it took."""

    def __init__(
        self, request: Request, isa_: str, variant: str, copies: int, run: Run, prepare: Run
    ) -> None:
        self.request, self.isa, self.variant = request, isa_, variant
        self._copies, self._run, self._prepare = copies, run, prepare
        self.times: list[float] = []

    def take(self, clock: Clock) -> None:
        self._prepare()
        self._run()  # afterwards the caches hold what they hold of this layer, whoever ran before
        began = clock()
        self._run()
        self.times.append(max(clock() - began, 1e-9) / self._copies)

    @property
    def least(self) -> float:
        return min(self.times)

    @property
    def microseconds(self) -> float:
        return 1e6 * statistics.median(self.times)

    def entry(self) -> Entry:
        fields = {name: getattr(self.request, name) for name in Request.__dataclass_fields__}
        return Entry(
            **fields,
            isa=self.isa,
            variant=self.variant,
            microseconds=round(self.microseconds, 3),
            runs=len(self.times),
        )


class _Layer:
    """Copies of a packed layer, together larger than the second-level cache."""

    def __init__(self, request: Request) -> None:
        pack = _random_pack(request)
        view = parse(pack)
        self._request = Request.of(view, 1, request.threads, request.activations)
        static = request.activations == "static"
        scale = _SCALE if static else None
        self._matrices = [
            PackedMatrix(copy, input_scale=scale, output_scale=scale)
            for copy in place([pack] * _copies(pack.nbytes))
        ]
        self._type = {"fp32": np.float32, "bf16": np.uint16, "int8": np.uint8 if static else np.float32}[
            request.precision
        ]
        size = {"fp32": 4, "bf16": 2, "int8": 1}[request.precision]
        self.copies_of_dense = _copies(size * request.outputs * request.inputs)

    def turns(self, tokens: int) -> list[_Turn]:
        """A turn for each plausible kernel."""
        request = replace(self._request, tokens=tokens)
        x = _random_input(tokens, request.inputs, self._type)
        y = np.empty((tokens, request.outputs), self._type)
        matrices, threads = self._matrices, request.threads

        def run() -> None:
            for matrix in matrices:
                matrix.into(x, y, threads)

        def prepare(name: str, variant: str) -> Run:
            def choose() -> None:
                for matrix in matrices:
                    matrix.tune([(1, name, variant)])

            return choose

        return [
            _Turn(request, name, variant, len(matrices), run, prepare(name, variant))
            for name, variant in plausible(request)
        ]


def _random_pack(request: Request) -> np.ndarray:
    """Block columns of a request's density, each block's chosen by chance."""
    rng = np.random.default_rng(0)
    groups = request.inputs // request.group
    kept = min(groups, max(1, round(request.density * groups)))
    blocks = -(-request.outputs // request.rows)
    order = rng.random((blocks, groups)).argsort(axis=1) < kept
    mask = np.repeat(np.repeat(order, request.group, axis=1), request.rows, axis=0)[: request.outputs]
    weight = rng.standard_normal(mask.shape, np.float32)
    if request.rows < PANEL:
        return pack_lists(weight, mask, request.rows, request.precision)
    return pack_rows(weight, mask, request.rows, request.precision, request.group)


def _random_input(tokens: int, inputs: int, kind: Any) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((tokens, inputs), np.float32)
    if kind is np.uint16:
        return (x.view(np.uint32) >> 16).astype(np.uint16)
    if kind is np.uint8:
        return (x * 32 + 128).clip(1, 255).astype(np.uint8)
    return x


def _copies(size: int) -> int:
    wanted = -(-2 * second_level_cache() // size)
    return max(2, min(wanted, _MOST_COPIES, _MOST_BYTES // size))


def second_level_cache() -> int:
    """Bytes of a core's second-level cache; 1 MiB where the system does not say."""
    found = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    try:
        return int(found.read_text().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return 1 << 20
