"""Choices that follow from measured times."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from retrim.runtime import isa
from retrim.runtime.curves import Curves
from retrim.runtime.entry import Entry, Request
from retrim.runtime.machine import Machine
from retrim.runtime.profile import Profile

FAST, SLOW = "avx512", "avx2"
REQUEST = Request(
    precision="fp32",
    activations=None,
    outputs=768,
    inputs=768,
    density=0.5,
    rows=32,
    group=1,
    tokens=128,
    threads=1,
)
MACHINE = Machine(processor="P", isa=(FAST, SLOW, "portable"), kernels="1")


@pytest.fixture(autouse=True)
def instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "available", lambda: list(MACHINE.isa))
    monkeypatch.delenv(isa.VARIABLE, raising=False)


def entry(microseconds: float, isa_: str = FAST, variant: str = "direct", **changes: Any) -> Entry:
    fields = {name: getattr(REQUEST, name) for name in Request.__dataclass_fields__} | changes
    return Entry(**fields, isa=isa_, variant=variant, microseconds=microseconds, runs=5)


def profile(*entries: Entry) -> Profile:
    return Profile(MACHINE, entries)


def test_the_fastest_that_was_measured() -> None:
    found = profile(
        entry(30),
        entry(20, variant="packed"),
        entry(25, SLOW),
        entry(50, density=1.0),
        entry(44, "torch", "mkl", density=1.0),
    ).choose(REQUEST)
    assert found is not None and found.measured
    assert (found.isa, found.variant, found.microseconds) == (FAST, "packed", 20)
    assert (found.dense, found.dense_microseconds) == ("torch mkl", 44)
    assert found.speedup == pytest.approx(2.2)
    assert found.to_dict()["speedup"] == found.speedup


def test_of_two_that_are_close_the_better_instruction_set() -> None:
    for ours, theirs, best in ((20, 19.7, FAST), (20, 19, SLOW)):
        found = profile(entry(ours), entry(theirs, SLOW)).choose(REQUEST)
        assert found is not None and found.isa == best
        assert found.speedup is None and found.dense is None


def test_nothing_is_chosen_without_data() -> None:
    assert profile().choose(REQUEST) is None
    known = profile(entry(20))
    for other in (
        replace(REQUEST, precision="bf16"),
        replace(REQUEST, threads=2),
        replace(REQUEST, precision="int8", activations="static"),
    ):
        assert known.choose(other) is None
    assert known.table(replace(REQUEST, precision="bf16")) == ()


def test_torch_is_a_rival_and_never_chosen() -> None:
    assert profile(entry(5, "torch", "linear")).choose(REQUEST) is None
    assert not profile(entry(5, "torch", "linear")).has(REQUEST)


def test_estimates_do_not_compete_with_measurements() -> None:
    found = profile(entry(20), entry(1, variant="packed", density=0.4)).choose(REQUEST)
    assert found is not None and (found.variant, found.measured) == ("direct", True)


def test_kernels_that_read_other_groups_are_not_chosen() -> None:
    bf16 = {"precision": "bf16"}
    known = profile(entry(9, variant="packed", group=2, **bf16), entry(20, variant="gathered", **bf16))
    for group, variant in ((1, "gathered"), (2, "packed")):
        found = known.choose(replace(REQUEST, precision="bf16", group=group))
        assert found is not None and found.variant == variant


def test_the_environment_chooses_the_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    known = profile(entry(20), entry(40, SLOW))
    monkeypatch.setenv(isa.VARIABLE, SLOW)
    found = known.choose(REQUEST)
    assert found is not None and found.isa == SLOW
    assert known.table(REQUEST)[1] == (64, SLOW, "direct")
    assert not profile(entry(20)).has(REQUEST)
    monkeypatch.setenv(isa.VARIABLE, "portable")
    assert known.choose(REQUEST) is None and known.table(REQUEST) == ()


def test_between_layers_time_goes_by_work() -> None:
    """Where every layer's time is proportional to its weights, so is what lies between and beyond."""
    known = profile(
        *(entry(1e-4 * n * n * d, outputs=n, inputs=n, density=d) for n in (256, 1024) for d in (0.25, 0.5))
    )
    for n, d in ((512, 0.5), (700, 0.3), (2048, 0.1)):
        found = known.choose(replace(REQUEST, outputs=n, inputs=n, density=d))
        assert found is not None and not found.measured
        assert found.microseconds == pytest.approx(1e-4 * n * n * d)


def test_between_tokens_a_line_in_logarithms() -> None:
    curves = Curves([entry(10, tokens=16), entry(40, tokens=64)])
    times = curves.estimate(REQUEST, np.array([1, 8, 16, 32, 64, 128]))
    assert times == pytest.approx([5, 5, 10, 20, 40, 80])
    assert curves.measured(replace(REQUEST, tokens=64, density=0.503)) == 40
    assert curves.measured(REQUEST) is None
    assert curves.reach(REQUEST) == (16, 64)
    assert curves.reach(replace(REQUEST, outputs=4 * 768)) is None
    alone = Curves([entry(3, tokens=4)])
    assert alone.estimate(REQUEST, np.array([1, 4, 8])) == pytest.approx([3, 3, 6])


def test_a_nearer_layer_says_more() -> None:
    curves = Curves([entry(10, rows=32), entry(20, rows=256)])
    times = [
        float(curves.estimate(replace(REQUEST, rows=rows), np.array([128]))[0]) for rows in (32, 64, 128, 256)
    ]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (pytest.approx(10), pytest.approx(20))
    assert math.sqrt(200) > times[1]


def test_a_table_reaches_as_far_as_what_was_measured() -> None:
    known = profile(
        *(entry(t, variant="direct", tokens=n) for n, t in ((4, 4.0), (64, 100.0))),
        *(entry(t, variant="packed", tokens=n) for n, t in ((4, 8.0), (64, 50.0))),
    )
    first, direct, packed, last = known.table(REQUEST)
    assert first == (1, None, None)
    assert direct == (2, FAST, "direct")
    assert packed[1:] == (FAST, "packed") and 8 < packed[0] < 64
    assert last == (129, None, None)
    assert known.table(replace(REQUEST, outputs=8 * 768)) == ()  # too far away


def test_a_table_takes_what_it_has_for_other_threads() -> None:
    known = profile(entry(5, variant="packed", threads=2), entry(9, variant="direct", threads=8))
    for threads, variant in ((1, "packed"), (2, "packed"), (6, "direct")):
        assert known.table(replace(REQUEST, threads=threads))[1] == (64, FAST, variant)


def test_what_is_measured_anew_is_replaced() -> None:
    old = profile(entry(20), entry(30, tokens=1), entry(40, SLOW))
    new = old.adding([entry(10, density=0.501)])
    assert [e.microseconds for e in new.entries] == [30, 40, 10]
    assert [e.microseconds for e in old.entries] == [20, 30, 40]
    found = new.choose(REQUEST)
    assert found is not None and found.microseconds == 10
