"""Measured speeds of kernels on this machine, and the choices that follow from them.

One file in one format (docs/retrim/profile.md); whoever measures adds to it, and
whoever has to choose or to predict reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from retrim.runtime import isa
from retrim.runtime.curves import Curves
from retrim.runtime.entry import TORCH, Entry, Request
from retrim.runtime.machine import Machine, here
from retrim.runtime.matrix import variants

_CLOSE = 1.03  # of two kernels whose times are this close, the better instruction set runs

Table = tuple[tuple[int, str | None, str | None], ...]
"""From so many tokens on, an instruction set and a variant: what `PackedMatrix.tune` takes."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Kernels for a layer, and what to expect of them.

    Attributes
    ----------
    isa, variant : str
    microseconds : float
    dense : str or None
        The fastest dense layer of this shape, by its kernels.
    dense_microseconds : float or None
    measured : bool
        Whether both times were measured, not estimated.
    """

    isa: str
    variant: str
    microseconds: float
    dense: str | None
    dense_microseconds: float | None
    measured: bool

    @property
    def speedup(self) -> float | None:
        """Over dense, where there is a time of it."""
        return None if self.dense_microseconds is None else self.dense_microseconds / self.microseconds

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"speedup": self.speedup}


_Kernel = tuple[str, str]  # instruction set and variant


@dataclass(frozen=True, eq=False)
class Profile:
    """All times that were measured on a machine.

    Parameters
    ----------
    machine : Machine
    entries : tuple of Entry
    """

    machine: Machine = field(default_factory=here)
    entries: tuple[Entry, ...] = ()
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def adding(self, entries: Iterable[Entry]) -> Profile:
        """This profile with entries added; what they measured anew is replaced."""
        new = tuple(entries)
        fresh: dict[Any, list[Entry]] = {}
        for entry in new:
            fresh.setdefault((entry.layer, entry.tokens), []).append(entry)
        kept = tuple(
            old
            for old in self.entries
            if not any(entry.replaces(old) for entry in fresh.get((old.layer, old.tokens), ()))
        )
        return Profile(self.machine, kept + new)

    def has(self, request: Request) -> bool:
        """Whether kernels of ours were measured for a layer."""
        here_ = isa.allowed()
        return any(entry.isa in here_ and entry.is_like(request) for entry in self.entries)

    def choose(self, request: Request) -> Choice | None:
        """The fastest kernels for a layer; None where nothing was measured that says so.

        `RETRIM_ISA` holds here too.
        """
        found = self._fastest(request, self._sparse(request))
        if found is None:
            return None
        (name, variant), microseconds, measured = found
        dense = self._fastest(request.dense(), self._dense(request))
        return Choice(
            isa=name,
            variant=variant,
            microseconds=microseconds,
            dense=None if dense is None else " ".join(dense[0]),
            dense_microseconds=None if dense is None else dense[1],
            measured=measured and (dense is None or dense[2]),
        )

    def table(self, request: Request) -> Table:
        """Kernels for a layer by its number of tokens (that of the request does not matter).

        Empty where nothing was measured for layers like it.  Without data for
        the request's threads, those of the nearest number of them are taken.
        """
        key = ("table", isa.restriction(), replace(request, tokens=1))
        if key not in self._cache:
            self._cache[key] = self._make_table(request)
        found: Table = self._cache[key]
        return found

    def _make_table(self, request: Request) -> Table:
        threads = {
            e.threads
            for e in self.entries
            if (e.precision, e.activations) == (request.precision, request.activations)
        }
        if not threads:
            return ()
        request = replace(request, threads=min(threads, key=lambda n: (abs(n - request.threads), n)))
        curves = {
            kernel: (found, reach)
            for kernel, found in self._sparse(request).items()
            if (reach := found.reach(request)) is not None
        }
        if not curves:
            return ()
        fewest = max(1, min(low for _, (low, _) in curves.values()) // 2)
        most = 2 * max(high for _, (_, high) in curves.values())
        tokens = _grid(fewest, most)
        times = np.array([found.estimate(request, tokens) for found, _ in curves.values()])
        best = [_best(dict(zip(curves, column, strict=True))) for column in times.T]
        rows: list[tuple[int, str | None, str | None]] = [(1, None, None)] if fewest > 1 else []
        for kernel, group in groupby(zip(best, tokens, strict=True), key=lambda pair: pair[0]):
            rows.append((int(next(group)[1]), *kernel))
        return (*rows, (most + 1, None, None))

    def _fastest(self, request: Request, curves: dict[_Kernel, Curves]) -> tuple[_Kernel, float, bool] | None:
        times: dict[_Kernel, float] = {}
        measured: set[_Kernel] = set()
        for kernel, found in curves.items():
            known = found.measured(request)
            if known is not None:
                measured.add(kernel)
            times[kernel] = known or float(found.estimate(request, np.array([request.tokens]))[0])
        if measured:  # estimates do not compete with what was measured
            times = {kernel: times[kernel] for kernel in measured}
        if not times:
            return None
        best = _best(times)
        return best, times[best], bool(measured)

    def _sparse(self, request: Request) -> dict[_Kernel, Curves]:
        """Kernels of ours that could run a layer."""
        return {
            (name, variant): curves
            for (name, variant), curves in self._kernels(request, False).items()
            if name in isa.allowed() and variant in variants(request.precision, request.group, request.rows)
        }

    def _dense(self, request: Request) -> dict[_Kernel, Curves]:
        """Kernels, torch's among them, that could run the dense layer."""
        usable = (TORCH, *isa.allowed())
        return {
            kernel: found for kernel, found in self._kernels(request, True).items() if kernel[0] in usable
        }

    def _kernels(self, request: Request, dense: bool) -> dict[_Kernel, Curves]:
        key = (request.precision, request.activations, request.threads, dense)
        if key not in self._cache:
            entries: dict[_Kernel, list[Entry]] = {}
            for e in self.entries:
                if (e.precision, e.activations, e.threads) != key[:3]:
                    continue
                if not dense or e.density > 0.999:
                    entries.setdefault((e.isa, e.variant), []).append(e)
            self._cache[key] = {kernel: Curves(found) for kernel, found in entries.items()}
        curves: dict[_Kernel, Curves] = self._cache[key]
        return curves


def _best(times: dict[_Kernel, float]) -> _Kernel:
    least = min(times.values())
    order = [TORCH, *isa.available()]
    close = [kernel for kernel, time in times.items() if time <= _CLOSE * least]
    return min(close, key=lambda kernel: (order.index(kernel[0]), times[kernel]))


def _grid(fewest: int, most: int) -> np.ndarray:
    """Whole numbers from `fewest` to `most`, four to each doubling at most."""
    steps = max(1, int(4 * np.log2(most / fewest)))
    found: np.ndarray = np.unique(np.geomspace(fewest, most, steps + 1).round().astype(int))
    return found
