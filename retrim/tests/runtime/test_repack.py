"""Levels packed anew: the bytes that `pack_lists` makes, memory that comes back, switches beside calls."""

from __future__ import annotations

import gc
import threading
from collections.abc import Mapping

import numpy as np
import pytest

from retrim.artifact.lists import pack_lists
from retrim.errors import ConfigError, ShapeError
from retrim.runtime import LevelSet, Nested, PackedMatrix, Stock, Stocked, _core

Masks = dict[str, np.ndarray]


def masks(shape: tuple[int, int], height: int, densities: Mapping[str, float], seed: int = 0) -> Masks:
    draw = np.random.default_rng(seed)
    groups = -(-shape[0] // height)
    return {
        name: np.repeat(draw.random((groups, shape[1])) < density, height, axis=0)[: shape[0]]
        for name, density in densities.items()
    }


def weight(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


LEVELS = {"half": 0.5, "fifth": 0.2, "none": 0.0, "all": 1.0}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("height", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(64, 130), (40, 77), (1, 1), (32, 65_600)])
def test_a_level_is_what_pack_lists_makes_of_it(
    shape: tuple[int, int], height: int, precision: str, threads: int
) -> None:
    w, found = weight(shape), masks(shape, height, LEVELS)
    stock = Stock(w, found, height, precision)
    for name, mask in found.items():
        wanted = pack_lists(w, mask, height, precision)
        assert stock.plan(name).nbytes == len(wanted)
        room = np.full(len(wanted) + 128, 0xAB, np.uint8)
        room = room[-room.ctypes.data % 64 :]
        view = stock.pack(name, room, threads)
        np.testing.assert_array_equal(room[: len(wanted)], wanted)
        assert (room[len(wanted) :] == 0xAB).all()
        assert view.nbytes == len(wanted)


def test_masks_that_rows_of_a_group_do_not_share_are_refused() -> None:
    mask = masks((32, 16), 4, {"a": 0.5})["a"]
    mask[5, 3] = ~mask[5, 3]
    with pytest.raises(ConfigError, match="a mask must be alike in each 4 neighbouring rows"):
        Stock(weight((32, 16)), {"a": mask}, 4)


def test_what_cannot_be_packed_anew_is_refused() -> None:
    w, found = weight((32, 16)), masks((32, 16), 4, {"a": 0.5})
    with pytest.raises(ConfigError, match="must have a level at least"):
        Stock(w, {}, 4)
    with pytest.raises(ConfigError, match="in fp32 or bf16, not in 'int8'"):
        Stock(w, found, 4, "int8")
    with pytest.raises(ConfigError, match="must be 1, 2, 4 or 8, not 3"):
        Stock(w, found, 3)
    with pytest.raises(ShapeError, match=r"bias must have shape \(32,\), not \(16,\)"):
        Stock(w, found, 4, bias=np.zeros(16, np.float32))
    with pytest.raises(ShapeError, match="must share one non-empty matrix shape"):
        Stock(w, {"a": found["a"][:, :8]}, 4)
    stock = Stock(w, found, 4)
    with pytest.raises(ConfigError, match="level must be one of a, not 'b'"):
        stock.pack("b")
    with pytest.raises(ConfigError, match="must have a layer at least"):
        Stocked({})
    with pytest.raises(ConfigError, match="all layers must have the same levels, but 'y' has b, not a"):
        Stocked({"x": stock, "y": Stock(w, {"b": found["a"]}, 4)})
    with pytest.raises(ConfigError, match="level must be one of a, not 'b'"):
        Stocked({"x": stock}).layers("b")


def test_bits_that_do_not_make_the_lanes_are_refused_by_the_core() -> None:
    stock = Stock(weight((32, 16)), masks((32, 16), 4, {"a": 0.5}), 4)
    stock._bits["a"][3] ^= np.uint64(1)
    with pytest.raises(ValueError, match="must make the lanes"):
        stock.pack("a")
    stock._bits["a"][3] ^= np.uint64(1)
    stock.pack("a")
    last = stock._bits["a"][-1]
    lowest = last & (~last + np.uint64(1))
    stock._bits["a"][-1] ^= lowest | np.uint64(1) << np.uint64(
        63
    )  # as many, one of them beyond the list's entries
    with pytest.raises(ValueError, match="must make the lanes"):
        stock.pack("a")


def test_sections_that_do_not_fit_are_refused_by_the_core() -> None:
    stock = Stock(weight((32, 16)), masks((32, 16), 4, {"a": 0.5}), 4)
    view = stock.pack("a")
    good = {
        "rows": 4, "halves": False, "starts": stock._starts, "short_columns": stock._columns, "columns": None,
        "values": stock._values.reshape(-1).view(np.uint8), "bits": stock._bits["a"], "ends": stock._ends["a"],
        "to_columns": view.columns.view(np.uint8), "to_values": view.values.view(np.uint8), "threads": 1,
    }  # fmt: skip
    _core.repack(**good)
    falling = stock._ends["a"].copy()
    falling[2] = falling[1] - 1
    bad = [
        {"rows": 3}, {"rows": 8}, {"halves": True}, {"starts": stock._starts[:-1]}, {"starts": stock._starts[::-1].copy()},
        {"short_columns": stock._columns[:-1]}, {"short_columns": None}, {"values": good["values"][:-1]},
        {"bits": stock._bits["a"][:-1]}, {"ends": falling}, {"to_columns": view.columns.view(np.uint8)[:-2]},
        {"to_values": view.values.view(np.uint8)[:-1]}, {"threads": 0},
    ]  # fmt: skip
    for change in bad:
        with pytest.raises(ValueError, match="must fit together"):
            _core.repack(**good | change)


SHAPES = {"first": (64, 48), "second": (48, 64)}
X = np.random.default_rng(9).standard_normal((3, 48)).astype(np.float32)


def source(*, spare: bool = True) -> tuple[Stocked, dict[str, np.ndarray]]:
    """Levels of two layers, and the outputs of each."""
    stocks, outputs = {}, {}
    found = {name: masks(shape, 4, LEVELS) for name, shape in SHAPES.items()}
    for name, shape in SHAPES.items():
        bias = np.arange(shape[0], dtype=np.float32)
        stocks[name] = Stock(weight(shape), found[name], 4, bias=bias, activation="relu")
    for level in LEVELS:
        y = X
        for name, shape in SHAPES.items():
            bias = np.arange(shape[0], dtype=np.float32)
            pack = pack_lists(weight(shape), found[name][level], 4)
            y = PackedMatrix(pack, bias, "relu")(y)
        outputs[level] = y
    return Stocked(stocks, spare=spare), outputs


def run(levels: LevelSet[PackedMatrix]) -> tuple[str, np.ndarray]:
    with levels.pinned() as on:
        return on.level, levels.layer("second")(levels.layer("first")(X))


@pytest.mark.parametrize("spare", [True, False])
def test_a_level_that_is_switched_to_runs(spare: bool) -> None:
    packed, outputs = source(spare=spare)
    levels = LevelSet(packed, "fifth")
    for level in ("half", "none", "all", "fifth", "half"):
        levels.switch(level)
        name, y = run(levels)
        assert name == level
        np.testing.assert_array_equal(y, outputs[level])


def test_memory_goes_round_and_is_not_taken_from_a_call() -> None:
    packed, outputs = source()
    levels = LevelSet(packed, "half")
    stored = packed.nbytes
    with levels.pinned():
        middle = levels.layer("first")(X)
        for level in ("fifth", "all", "none"):
            levels.switch(level)
        np.testing.assert_array_equal(levels.layer("second")(middle), outputs["half"])
    gc.collect()
    waiting = packed.nbytes - stored
    addresses = set()
    for level in ("half", "fifth", "all") * 4:
        levels.switch(level)
        with levels.pinned() as on:
            addresses.add(on.layers["first"].view.values.ctypes.data // (1 << 16))
    assert waiting > 0
    assert packed.nbytes - stored == waiting  # one level waits, not each that ever was
    assert len(addresses) <= 4
    lean, _ = source(spare=False)
    levels = LevelSet(lean, "half")
    before = lean.nbytes
    levels.switch("fifth")
    assert lean.nbytes == before


def test_calls_beside_switches_see_one_level() -> None:
    packed, outputs = source()
    levels = LevelSet(packed, "half")
    wrong: list[str] = []
    done = threading.Event()

    def call() -> None:
        while not done.is_set():
            level, y = run(levels)
            if not np.array_equal(y, outputs[level]):
                wrong.append(level)

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    draw = np.random.default_rng(3)
    for _ in range(2000):
        levels.switch(str(draw.choice(list(LEVELS))))
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nested_levels_share_a_pack() -> None:
    shape = (64, 48)
    half = masks(shape, 4, {"a": 0.5})["a"]
    third = half & masks(shape, 4, {"a": 0.6}, seed=1)["a"]
    packed = PackedMatrix(pack_lists(weight(shape), [third, half], 4))
    nested = Nested(("third", "half"), {"first": packed})
    assert nested.nbytes == packed.nbytes
    levels = LevelSet(nested)
    assert levels.level == "third"
    for name, mask in (("half", half), ("third", third)):
        levels.switch(name)
        wanted = X.astype(np.float64) @ np.where(mask, weight(shape), 0).T.astype(np.float64)
        np.testing.assert_allclose(levels.layer("first")(X), wanted, atol=1e-5 * np.abs(wanted).max())
    with pytest.raises(ConfigError, match="must hold all 3 levels to nest them, but that of 'first' holds 2"):
        Nested(("a", "b", "c"), {"first": packed})
    with pytest.raises(ConfigError, match="must have a level at least"):
        Nested((), {"first": packed})
