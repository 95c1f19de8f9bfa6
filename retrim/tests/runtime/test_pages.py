"""Packs in one arena: the same bytes, aligned, and freed together."""

from __future__ import annotations

import gc
import mmap
import weakref

import numpy as np
import pytest

from retrim.artifact.layout import pack_rows
from retrim.runtime import PackedMatrix, pages


def packs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((64, 48), (32, 7), (96, 100))]
    return [pack_rows(weight, weight > 0) for weight in weights]


@pytest.mark.parametrize("least", [0, pages.LEAST])
def test_values_agree(least: int) -> None:
    before = packs()
    after = pages.place(before, least)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
        assert new.ctypes.data % 64 == 0 and not np.may_share_memory(old, new)
        assert not new.flags.writeable
        x = np.ones((3, PackedMatrix(old).inputs), np.float32)
        np.testing.assert_array_equal(PackedMatrix(new)(x), PackedMatrix(old)(x))
    if least == 0:
        assert after[0].ctypes.data % (2 << 20) == 0
    assert after[1].ctypes.data - after[0].ctypes.data == before[0].nbytes  # one arena


def test_odd_sizes_are_padded() -> None:
    first, second = pages.place([np.arange(65, dtype=np.uint8), np.ones(3, np.uint8)], 0)
    assert second.ctypes.data - first.ctypes.data == 128 and first.sum() == sum(range(65))
    assert pages.place([]) == []


def test_memory_is_freed_with_the_last_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    arenas: list[weakref.ref[mmap.mmap]] = []

    class Memory(mmap.mmap):
        def __init__(self, *_: int, **__: int) -> None:
            arenas.append(weakref.ref(self))

    monkeypatch.setattr(mmap, "mmap", Memory)
    placed = pages.place(packs(), 0)
    matrix = PackedMatrix(placed[0])
    (arena,) = arenas
    del placed
    gc.collect()
    assert arena() is not None  # the matrix computes on it
    matrix(np.ones((1, 48), np.float32))
    del matrix
    gc.collect()
    assert arena() is None


def test_a_system_without_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory(mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Memory)
    np.testing.assert_array_equal(pages.place(packs(), 0)[0], packs()[0])
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    np.testing.assert_array_equal(pages.place(packs(), 0)[0], packs()[0])
