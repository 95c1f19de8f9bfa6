"""Levels kept unpacked: one copy of what all of them keep, and a pack made when one is switched to.

Least memory, and the slowest switch: the weights that any level keeps are stored once, and each level adds one
bit for every group of rows and column among them.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from retrim.artifact.bfloat16 import to_bits
from retrim.artifact.list_sections import NARROW_INPUTS, ListPlan, ListView
from retrim.artifact.lists import groups
from retrim.artifact.sections import lane_width
from retrim.errors import ConfigError, ShapeError
from retrim.runtime import _core
from retrim.runtime import threads as threads_
from retrim.runtime.matrix import Activation, PackedMatrix
from retrim.runtime.pages import arena
from retrim.runtime.tuning import tune

PRECISIONS = ("fp32", "bf16")
_BITS = 64


class Stock:
    """What all levels keep of one weight, and which of it each keeps.

    Parameters
    ----------
    weight : ndarray of float32, shape (out, in)
    masks : mapping of str to ndarray of bool, shape (out, in)
        The mask of each level, alike in each group of rows.
    height : {1, 2, 4, 8}
        Rows of a group.
    precision : {"fp32", "bf16"}
    bias : ndarray of float32, shape (out,), optional
    activation : {"relu", "gelu", "gelu_tanh"}, optional

    Raises
    ------
    ConfigError
        If there is no level, rows of a group differ in a mask, or packs of row groups have no such height or
        precision.
    ShapeError
        If a mask or the bias does not fit.
    """

    def __init__(
        self,
        weight: np.ndarray,
        masks: Mapping[str, np.ndarray],
        height: int,
        precision: str = "fp32",
        bias: np.ndarray | None = None,
        activation: Activation | None = None,
    ) -> None:
        if not masks:
            raise ConfigError("a level set must have a level at least")
        if precision not in PRECISIONS:
            raise ConfigError(f"a level can be packed anew in fp32 or bf16, not in {precision!r}")
        if bias is not None and np.shape(bias) != weight.shape[:1]:
            raise ShapeError(f"bias must have shape {weight.shape[:1]}, not {np.shape(bias)}")
        kept = {name: groups(weight, mask, height) for name, mask in masks.items()}
        self.shape: tuple[int, int] = (weight.shape[0], weight.shape[1])
        self.height, self.precision, self.activation = height, precision, activation
        self.bias = None if bias is None else np.array(bias, np.float32)
        union = np.logical_or.reduce(list(kept.values()))
        lists, columns = np.nonzero(union)
        self._starts = np.zeros(len(union) + 1, np.int64)
        np.cumsum(union.sum(axis=1), out=self._starts[1:])
        self._columns = columns.astype(np.uint16 if weight.shape[1] <= NARROW_INPUTS else np.int32)
        stored = np.zeros((len(union) * height, weight.shape[1]), np.float32)
        stored[: len(weight)] = weight
        values = stored.reshape(-1, height, weight.shape[1])[lists, :, columns]
        self._values = np.ascontiguousarray(to_bits(values) if precision == "bf16" else values)
        width = lane_width(precision)
        self._ends = {name: _ends(mask, width) for name, mask in kept.items()}
        self._bits = {name: _bits(mask[lists, columns], self._starts) for name, mask in kept.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the levels."""
        return tuple(self._ends)

    @property
    def nbytes(self) -> int:
        """Of what is kept for all levels."""
        arrays = [self._starts, self._columns, self._values, *self._ends.values(), *self._bits.values()]
        return sum(array.nbytes for array in arrays)

    def plan(self, level: str) -> ListPlan:
        """Sizes of a level's pack.

        Raises
        ------
        ConfigError
            If there is no such level.
        """
        if level not in self._ends:
            raise ConfigError(f"level must be one of {', '.join(self.names)}, not {level!r}")
        ends = self._ends[level]
        return ListPlan(self.shape, self.height, (len(ends), 1), int(ends[-1]), self.precision)

    def pack(self, level: str, room: np.ndarray | None = None, threads: int | None = None) -> ListView:
        """A level's pack, the same bytes as `retrim.artifact.lists.pack_lists` makes.

        Parameters
        ----------
        level : str
        room : ndarray of uint8, optional
            At a multiple of 64 bytes, at least as long as `plan` says; written to.  Default: made.
        threads : int, optional
            Default: `retrim.runtime.threads.get()`.

        Raises
        ------
        ConfigError
            If there is no such level.
        """
        plan = self.plan(level)
        view = plan.begin(arena(plan.nbytes) if room is None else room[: plan.nbytes])
        view.ends[:, 0] = self._ends[level]
        narrow = self._columns.dtype == np.uint16
        _core.repack(
            rows=self.height,
            halves=self.precision == "bf16",
            starts=self._starts,
            short_columns=self._columns if narrow else None,
            columns=None if narrow else self._columns,
            values=self._values.reshape(-1).view(np.uint8),
            bits=self._bits[level],
            ends=self._ends[level],
            to_columns=view.columns.view(np.uint8),
            to_values=view.values.view(np.uint8),
            threads=threads_.get() if threads is None else threads_.check(threads),
        )
        return view


def _ends(mask: np.ndarray, width: int) -> np.ndarray:
    """Lanes of all lists up to each."""
    return np.cumsum(-(-mask.sum(axis=1) // width)).astype(np.int32)


def _bits(kept: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Bits of entries in words of 64, the lists each from a word of its own on, uint64, shape (words,)."""
    counts = np.diff(starts)
    words = -(-counts // _BITS)
    before = (np.cumsum(words) - words) * _BITS
    flat = np.zeros(int(words.sum()) * _BITS, bool)
    flat[np.repeat(before - starts[:-1], counts) + np.arange(len(kept))] = kept
    return np.packbits(flat, bitorder="little").view("<u8")


@dataclass(frozen=True, eq=False)
class _Room:
    """Memory that a level's packs lie in; it goes back when none of them is used any more."""

    memory: np.ndarray


class Stocked:
    """A source of levels that packs the one that is switched to.

    Parameters
    ----------
    stocks : mapping of str to Stock
        By layer; of the same levels.
    spare : bool
        Keep the memory of a level that is no longer in use for the next one: a switch then waits for no new pages.

    Raises
    ------
    ConfigError
        If there is no layer, or they differ in levels.
    """

    def __init__(self, stocks: Mapping[str, Stock], *, spare: bool = True) -> None:
        if not stocks:
            raise ConfigError("a level set must have a layer at least")
        self._stocks = dict(stocks)
        self._names = next(iter(self._stocks.values())).names
        for name, stock in self._stocks.items():
            if stock.names != self._names:
                raise ConfigError(
                    f"all layers must have the same levels, but {name!r} has {', '.join(stock.names)}, not "
                    f"{', '.join(self._names)}"
                )
        self._sizes = {
            level: sum(stock.plan(level).nbytes for stock in self._stocks.values()) for level in self._names
        }
        self._spare = spare
        self._free: deque[np.ndarray] = deque(maxlen=1)

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def nbytes(self) -> int:
        """Of what is kept for all levels, and of the memory that waits for the next one."""
        return sum(s.nbytes for s in self._stocks.values()) + sum(room.nbytes for room in list(self._free))

    def layers(self, level: str) -> Mapping[str, PackedMatrix]:
        if level not in self._sizes:
            raise ConfigError(f"level must be one of {', '.join(self._names)}, not {level!r}")
        try:
            memory = self._free.pop()
        except IndexError:
            memory = arena(max(self._sizes.values()) if self._spare else self._sizes[level])
        room = _Room(memory)
        if self._spare:
            weakref.finalize(room, self._free.append, memory).atexit = False
        found, first = {}, 0
        for name, stock in self._stocks.items():
            view = stock.pack(level, memory[first:])
            found[name] = PackedMatrix.of_view(view, stock.bias, stock.activation, owner=room)
            tune(found[name])
            first += view.nbytes
        return MappingProxyType(found)
