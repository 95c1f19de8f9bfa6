"""What is measured, with a clock that the measured layers move themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from retrim.artifact.layout import pack_rows, parse
from retrim.runtime import calibration, isa
from retrim.runtime.calibration import Run, calibrate, plausible, requests_of
from retrim.runtime.entry import Request
from retrim.runtime.profile import Profile

BEST = isa.available()[0]
REQUEST = Request(
    precision="fp32",
    activations=None,
    outputs=96,
    inputs=64,
    density=0.3,
    rows=64,
    group=1,
    tokens=5,
    threads=1,
)


class Clock:
    """Microseconds pass only where something says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, microseconds: float) -> None:
        self.now += 1e-6 * microseconds


@pytest.fixture(autouse=True)
def small_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "second_level_cache", lambda: 1 << 14)
    monkeypatch.delenv(isa.VARIABLE, raising=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Layers take a microsecond for each hundred stored weights; "packed" takes half, other instruction sets twice."""
    clock = Clock()

    class Matrix:
        def __init__(self, pack: np.ndarray, **scales: float | None) -> None:
            self.view = parse(pack)

        def tune(self, table: Any) -> None:
            ((_, self.isa, self.variant),) = table

        def into(self, x: np.ndarray, y: np.ndarray, threads: int) -> None:
            assert (x.shape[1], y.shape[1]) == (self.view.inputs, self.view.outputs)
            slow = 1.4 if self.isa != BEST else 1
            fast = 0.5 if self.variant == "packed" else 1
            clock.passes(self.view.columns.size * self.view.height / 100 * slow * fast * threads)

    monkeypatch.setattr(calibration, "PackedMatrix", Matrix)
    return clock


def test_every_plausible_kernel_and_dense(clock: Clock) -> None:
    told: list[tuple[int, int]] = []
    found = calibrate(
        Profile(),
        [REQUEST, replace(REQUEST, tokens=1)],
        clock=clock,
        progress=lambda *done: told.append(done),
    )
    assert told == [(0, 2), (1, 2), (2, 2)]
    kernels = plausible(REQUEST)
    assert [(e.isa, e.variant) for e in found.entries] == kernels * 4
    for entry in found.entries:
        dense = entry.density == 1
        assert dense or entry.density == pytest.approx(0.3, abs=0.01)
        assert (entry.rows, entry.group, entry.threads) == (32 if dense else 64, 1, 1)
        # the last block has 32 rows, the fake matrix counts 64: what matters is who is faster
        assert entry.microseconds > 0
    choice = found.choose(REQUEST)
    assert choice is not None and choice.measured
    assert (choice.isa, choice.variant) == (BEST, "packed")


def test_what_is_hopeless_gets_few_turns(clock: Clock) -> None:
    found = calibrate(Profile(), [REQUEST], clock=clock)
    runs = {(e.isa, e.variant): e.runs for e in found.entries}
    assert runs[BEST, "packed"] == 15 and runs[BEST, "direct"] == 3


def test_what_is_known_is_not_measured_again(clock: Clock) -> None:
    found = calibrate(Profile(), [REQUEST], clock=clock)
    told: list[tuple[int, int]] = []
    again = calibrate(
        found, [REQUEST, replace(REQUEST, density=0.299)], clock=clock, progress=lambda *d: told.append(d)
    )
    assert again.entries == found.entries and told == [(0, 0)]


def test_without_time_nothing_is_measured(clock: Clock) -> None:
    assert calibrate(Profile(), [REQUEST], seconds=0, clock=clock).entries == ()


def test_dense_layers_of_other_run_times(clock: Clock) -> None:
    asked: list[tuple[Request, int]] = []

    @contextmanager
    def rival(request: Request, copies: int) -> Iterator[Mapping[str, Run]]:
        asked.append((request, copies))
        yield {"linear": lambda: clock.passes(3.0 * copies)}
        asked.append((request, 0))

    found = calibrate(Profile(), [REQUEST], rivals=[rival], clock=clock)
    (entry,) = (e for e in found.entries if e.isa == "torch")
    assert (entry.variant, entry.microseconds, entry.density, entry.tokens) == ("linear", 3.0, 1.0, 5)
    dense = REQUEST.dense()
    assert asked == [(dense, 2), (dense, 0)]
    choice = found.choose(REQUEST)
    assert choice is not None and choice.dense == "torch linear"


@pytest.mark.parametrize(
    ("precision", "activations"), [("fp32", None), ("bf16", None), ("int8", "static"), ("int8", "dynamic")]
)
def test_real_layers_take_time(precision: str, activations: str | None) -> None:
    request = replace(REQUEST, precision=precision, activations=activations)
    found = calibrate(Profile(), [request], seconds=1e-9 + 0.05)
    choice = found.choose(request)
    assert choice is not None and choice.microseconds > 0 and choice.dense is not None


def test_dense_requests_are_measured_once(clock: Clock) -> None:
    found = calibrate(Profile(), [REQUEST.dense()], clock=clock)
    assert len(found.entries) == len(plausible(REQUEST))


def test_the_two_widest_kinds_are_plausible(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in (
        (["avx512_bf16", "avx512", "avx2_vnni", "avx2", "portable"], ["avx512_bf16", "avx2_vnni"]),
        (["amx", "avx512_bf16", "avx2", "portable"], ["amx", "avx512_bf16"]),
        (["neon_dot", "neon", "portable"], ["neon_dot"]),
        (["portable"], ["portable"]),
    ):
        monkeypatch.setattr(isa, "available", lambda available=available: available)
        assert list(dict.fromkeys(name for name, _ in plausible(REQUEST))) == expected


def test_packs_as_requests() -> None:
    rng = np.random.default_rng(0)
    masks = [np.repeat(rng.random((1, 64)).argsort(axis=1) < kept, 32, axis=0) for kept in (32, 32, 8)]
    views = [parse(pack_rows(mask.astype(np.float32), mask)) for mask in masks]
    found = requests_of(views, (1, 9), 2)
    assert [(r.density, r.tokens, r.threads) for r in found] == [
        (0.5, 1, 2),
        (0.125, 1, 2),
        (0.5, 9, 2),
        (0.125, 9, 2),
    ]
