"""Packs in huge pages: many in one arena, where a page is 2 MiB and not 4 KiB.

A kernel walks through all of a layer's weights in each call; with small pages
the processor has to look up every 4 KiB where they lie.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from retrim.artifact.layout import ALIGNMENT

_HUGE = 2 << 20
LEAST = 4 << 20
"""Bytes of all packs together that are worth an arena."""


def place(packs: Sequence[np.ndarray], least: int = LEAST) -> list[np.ndarray]:
    """Copy packs into one arena that starts at a multiple of 2 MiB and asks for huge pages.

    Parameters
    ----------
    packs : sequence of ndarray of uint8, shape (n,)
    least : int
        Of fewer bytes the arena is ordinary memory.

    Returns
    -------
    list of ndarray
        Of the same bytes, each at a multiple of 64, read-only.  Their memory is
        freed when the last of them is.
    """
    starts = [0]
    for pack in packs:
        starts.append(starts[-1] + -(-pack.nbytes // ALIGNMENT) * ALIGNMENT)
    room = arena(starts[-1], least)
    placed = []
    for pack, start in zip(packs, starts, strict=False):
        copy = room[start : start + pack.nbytes]
        copy[:] = pack
        copy.flags.writeable = False
        placed.append(copy)
    return placed


def arena(size: int, least: int = LEAST) -> np.ndarray:
    """Memory at a multiple of 64 bytes, and of 2 MiB in huge pages from `least` bytes on, uint8, shape (size,)."""
    if size < least:
        room = np.empty(size + ALIGNMENT, np.uint8)
        first = -room.ctypes.data % ALIGNMENT
        return room[first : first + size]
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, size + _HUGE, **private)  # shared memory, the default, has no huge pages
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    room = np.frombuffer(memory, np.uint8)
    first = -room.ctypes.data % _HUGE
    return room[first : first + size]
