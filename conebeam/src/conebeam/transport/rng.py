"""Random numbers: one stream for each history, keyed by (seed, history).

Number n of a stream is mix(c + n·g) with a start c and an odd step g that are hashes
of the key (SplittableRandom).  It is a function of seed, history and n alone, so a
history is the same whichever thread, batch or machine runs it.

A state is (counter, step) in registers; every function returns the new counter.

References
----------
G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014, doi:10.1145/2660193.2660195; mixing constants by D. Stafford, variant 13.
"""

from __future__ import annotations

import numpy as np

from conebeam.compilation import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SECOND = np.uint64(0x3C6EF372FE94F82A)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_R30, _R27, _R31 = np.uint64(30), np.uint64(27), np.uint64(31)
_HIGH, _MIDDLE, _R11 = np.uint64(41), np.uint64(18), np.uint64(11)
_MASK = np.uint64(0x7FFFFF)
_HALF, _SCALE = np.float32(0.5), np.float32(2.0**-23)


@kernel
def mix(z: np.uint64) -> np.uint64:
    """Finaliser: a bijection of 64-bit words in which every bit depends on every bit."""
    z = (z ^ (z >> _R30)) * _M1
    z = (z ^ (z >> _R27)) * _M2
    return z ^ (z >> _R31)


@kernel
def stream(seed: int, history: int) -> tuple[np.uint64, np.uint64]:
    """State (counter, step) at the start of a history."""
    key = mix(np.uint64(seed) + _GOLDEN)
    counter = mix(key ^ (np.uint64(history) * _GOLDEN))
    return counter, mix(counter + _SECOND) | _ONE


@kernel
def uniform(counter: np.uint64, step: np.uint64) -> tuple[np.uint64, np.float32]:
    """One float32 in the open interval (0, 1), 23 bits."""
    counter = counter + step
    bits = mix(counter) >> _HIGH
    return counter, (np.float32(np.int32(bits)) + _HALF) * _SCALE


@kernel
def pair(counter: np.uint64, step: np.uint64) -> tuple[np.uint64, np.float32, np.float32]:
    """Two float32 in (0, 1) from one 64-bit word, 23 bits each."""
    counter = counter + step
    bits = mix(counter)
    first = (np.float32(np.int32(bits >> _HIGH)) + _HALF) * _SCALE
    second = (np.float32(np.int32((bits >> _MIDDLE) & _MASK)) + _HALF) * _SCALE
    return counter, first, second


@kernel
def uniform64(counter: np.uint64, step: np.uint64) -> tuple[np.uint64, float]:
    """One float64 in (0, 1), 52 bits."""
    counter = counter + step
    bits = mix(counter) >> _R11
    return counter, (np.float64(np.int64(bits)) + 0.5) * 2.0**-53
