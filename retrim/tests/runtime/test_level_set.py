"""Level sets: a call sees one level, switches count for later calls, what is not needed is freed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Mapping

import numpy as np
import pytest

from retrim.artifact.layout import pack_rows
from retrim.errors import ConfigError
from retrim.runtime.level_set import LevelSet, Repacked, Resident
from retrim.runtime.matrix import PackedMatrix

SHAPES = {"first": (64, 48), "second": (48, 64)}


def matrices(seed: int) -> dict[str, PackedMatrix]:
    draw = np.random.default_rng(seed)
    found = {}
    for name, shape in SHAPES.items():
        weight = draw.standard_normal(shape).astype(np.float32)
        mask = np.repeat(draw.random((1, shape[1])) < 0.5, shape[0], axis=0)
        found[name] = PackedMatrix(pack_rows(weight * mask, mask))
    return found


def run(levels: LevelSet[PackedMatrix], x: np.ndarray) -> tuple[str, np.ndarray]:
    """A model of two layers: its level, and its output."""
    with levels.pinned() as on:
        return on.level, levels.layer("second")(levels.layer("first")(x))


X = np.random.default_rng(9).standard_normal((3, 48)).astype(np.float32)
NAMES = ("dense", "half", "third")


def made() -> dict[str, dict[str, PackedMatrix]]:
    return {name: matrices(seed) for seed, name in enumerate(NAMES)}


def outputs(levels: Mapping[str, Mapping[str, PackedMatrix]]) -> dict[str, np.ndarray]:
    return {name: layers["second"](layers["first"](X)) for name, layers in levels.items()}


def test_calls_run_on_the_level_that_was_on_when_they_began() -> None:
    packs = made()
    wanted = outputs(packs)
    levels = LevelSet(Resident(packs), "half")
    assert levels.names == NAMES
    assert levels.level == "half"
    with levels.pinned() as on:
        middle = levels.layer("first")(X)
        levels.switch("third")
        assert levels.level == "third"
        assert on.level == "half"
        assert run(levels, X)[0] == "half"  # a call within the call
        assert np.array_equal(levels.layer("second")(middle), wanted["half"])
    level, found = run(levels, X)
    assert level == "third"
    assert np.array_equal(found, wanted["third"])
    assert levels.layer("first") is packs["third"]["first"]  # outside of calls
    with pytest.raises(RuntimeError, match="fails"), levels.pinned():
        raise RuntimeError("fails")
    levels.switch("dense")
    assert run(levels, X)[0] == "dense"
    assert levels.pin()
    assert not levels.pin()
    levels.switch("half")
    assert run(levels, X)[0] == "dense"
    levels.unpin()
    assert run(levels, X)[0] == "half"


def test_what_is_repacked_is_freed_when_no_call_needs_it() -> None:
    seen: list[str] = []

    def make(level: str) -> dict[str, PackedMatrix]:
        seen.append(level)
        return matrices(NAMES.index(level))

    levels = LevelSet(Repacked(NAMES, make))
    old = weakref.ref(levels.layer("first"))
    with levels.pinned():
        levels.switch("third")
        levels.switch("third")  # is on already: nothing is made
        gc.collect()
        assert old() is not None
    gc.collect()
    assert old() is None
    assert seen == ["dense", "third"]
    assert np.array_equal(run(levels, X)[1], outputs(made())["third"])


def test_a_level_that_cannot_be_made_leaves_the_one_that_is_on() -> None:
    def make(level: str) -> dict[str, PackedMatrix]:
        if level == "half":
            raise MemoryError
        return matrices(0)

    levels = LevelSet(Repacked(NAMES, make))
    with pytest.raises(MemoryError):
        levels.switch("half")
    assert levels.level == "dense"
    levels.switch("third")
    assert levels.level == "third"


def test_many_switches_beside_many_calls() -> None:
    """Two threads switch 100,000 times together while two call: every output is one level's, to the bit."""
    packs = made()
    wanted = outputs(packs)
    levels = LevelSet(Resident(packs))
    stop = threading.Event()
    wrong: list[str] = []
    counts = dict.fromkeys(NAMES, 0)

    def switches(seed: int) -> None:
        for number in np.random.default_rng(seed).integers(0, 3, 50_000):
            levels.switch(NAMES[number])

    def calls() -> None:
        while not stop.is_set():
            level, found = run(levels, X)
            counts[level] += 1
            if not np.array_equal(found, wanted[level]):
                wrong.append(level)

    callers = [threading.Thread(target=calls) for _ in range(2)]
    switchers = [threading.Thread(target=switches, args=(seed,)) for seed in range(2)]
    for thread in (*callers, *switchers):
        thread.start()
    for thread in switchers:
        thread.join()
    stop.set()
    for thread in callers:
        thread.join()
    assert wrong == []
    assert sum(counts.values()) > 50


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LevelSet(Resident(made()), "fast"), "level must be one of dense, half, third, not 'fast'"),
        (lambda: LevelSet(Resident(made())).switch("x"), "level must be one of dense, half, third, not 'x'"),
        (lambda: Resident({}), "a level set must have a level at least"),
        (lambda: Repacked((), matrices), "a level set must have a level at least"),  # type: ignore[arg-type]
        (
            lambda: Resident({"a": {"x": 1}, "b": {"y": 1}}),
            "all levels must have the same layers, but 'b' differs from 'a'",
        ),
    ],
)
def test_what_makes_no_sense(make, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == sentence
