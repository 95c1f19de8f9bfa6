"""Measured times of one kernel: a curve over tokens for each layer, and what lies between them.

The rules are those of docs/retrim/profile.md, "How a choice is made".
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from retrim.runtime.entry import Entry, Request, same_density

_NEAREST = 4
_FEWEST = 8  # tokens below which time no longer falls
# weights of squared distances between logarithms of work, aspect, density, rows and group
_SCALES = np.sqrt([1.0, 1 / 4, 1 / 4, 1 / 10, 1 / 100])
_NEAR = 1.0  # a distance up to which layers are like each other


class Curves:
    """Times of one kernel, in one precision and on one number of threads.

    Parameters
    ----------
    entries : iterable of Entry
        Of two for the same layer and tokens the later one counts.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        layers: dict[tuple[object, ...], list[dict[int, Entry]]] = {}
        for entry in entries:
            known = layers.setdefault(entry.layer, [])
            curve = next(
                (found for found in known if same_density(_first(found).density, entry.density)), None
            )
            if curve is None:
                known.append(curve := {})
            curve[entry.tokens] = entry
        curves = [curve for known in layers.values() for curve in known]
        self._layers = [_first(curve) for curve in curves]
        self._places = np.array([_features(layer) for layer in self._layers])
        self._curves = [_Curve(curve) for curve in curves]

    def estimate(self, request: Request, tokens: np.ndarray) -> np.ndarray:
        """Microseconds of a layer at each number of tokens, float64."""
        nearest, distances = self._nearest(request)
        if self._is_same(nearest[0], request):
            own: np.ndarray = self._curves[nearest[0]].rate(tokens) * request.work
            return own
        weights = 1 / np.maximum(distances, 1e-3) ** 2
        rates = np.log([self._curves[i].rate(tokens) for i in nearest])
        found: np.ndarray = np.exp(weights @ rates / weights.sum()) * request.work
        return found

    def measured(self, request: Request) -> float | None:
        """Microseconds of a layer at its tokens, if they were measured."""
        first = int(self._nearest(request)[0][0])
        if not self._is_same(first, request):
            return None
        found = self._curves[first].entries.get(request.tokens)
        return None if found is None else found.microseconds

    def reach(self, request: Request) -> tuple[int, int] | None:
        """Fewest and most tokens that were measured for layers like this one."""
        nearest, distances = self._nearest(request)
        near = [self._curves[i].entries for i, d in zip(nearest, distances, strict=True) if d <= _NEAR]
        if not near:
            return None
        return min(map(min, near)), max(map(max, near))

    def _nearest(self, request: Request) -> tuple[np.ndarray, np.ndarray]:
        distances = np.sqrt(((self._places - _features(request)) ** 2).sum(axis=1))
        nearest = np.argsort(distances, kind="stable")[:_NEAREST]
        return nearest, distances[nearest]

    def _is_same(self, index: int, request: Request) -> bool:
        layer = self._layers[index]
        return layer.layer == request.layer and same_density(layer.density, request.density)


class _Curve:
    """Time per stored weight over tokens, straight in logarithms."""

    def __init__(self, entries: dict[int, Entry]) -> None:
        self.entries = dict(sorted(entries.items()))
        self._tokens = np.log(list(self.entries))
        self._rates = np.log([entry.microseconds / entry.work for entry in self.entries.values()])

    def rate(self, tokens: np.ndarray) -> np.ndarray:
        at = np.log(tokens)
        found: np.ndarray = np.interp(at, self._tokens, self._rates)
        found = found + np.maximum(at - self._tokens[-1], 0)
        # before the first point: as tokens, down to a few
        bottom = min(math.log(_FEWEST), self._tokens[0])
        found = found - np.maximum(self._tokens[0] - np.maximum(at, bottom), 0)
        rates: np.ndarray = np.exp(found)
        return rates


def _features(request: Request) -> np.ndarray:
    aspect = request.outputs / request.inputs
    return _SCALES * np.log([request.work, aspect, request.density, request.rows, request.group])


def _first(curve: dict[int, Entry]) -> Entry:
    return next(iter(curve.values()))
