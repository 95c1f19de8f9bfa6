"""Exact sums over batches: any order, any partition, the same bits.

Floating-point addition is not associative, so a sum over batches would depend on
which machine did which of them.  Here each batch's value x is written in fixed
point as two integers,

    x = h·q + l·q·2⁻⁴⁰ + r,   q = M·2⁻⁴²,   |l| ≤ 2³⁹,   |r| ≤ q·2⁻⁴¹,

M being a power of two not below any |x|, and the integers are added: 64-bit words
hold 2²⁰ batches, the resolution is 2⁻⁸² of M.  Squares are kept the same way with M².
This is the binned summation of Demmel and Nguyen with both bins fixed beforehand.

References
----------
J. Demmel, H. D. Nguyen, "Parallel reproducible summation", IEEE Trans. Comput. 64
(2015) 2060, doi:10.1109/TC.2014.2345391.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import kernel
from conebeam.errors import ResultError

MAX_BATCHES = 2**20
WORDS = ("sum_high", "sum_low", "square_high", "square_low")
_HIGH_BITS = 42
_LOW_BITS = 40
_ALL = slice(None)
_LARGE = 1 << 28


class Tally:
    """Sum and sum of squares over batches of an array of values.

    Parameters
    ----------
    shape : tuple of int
        Shape of what one batch yields.
    magnitude : float
        Bound on the absolute value of any element of one batch; rounded up to a
        power of two.  A loose bound costs resolution (σ is good for values above
        about 1e-11 of it).  It belongs to the tally's identity: only tallies of
        equal magnitude can be added.
    """

    def __init__(self, shape: tuple[int, ...], magnitude: float) -> None:
        if not (math.isfinite(magnitude) and magnitude > 0.0):
            raise ResultError(f"the magnitude of a tally must be positive, not {magnitude}")
        self.shape = tuple(shape)
        self.exponent = math.frexp(magnitude)[1]
        self.batches = 0
        self.words: NDArray[np.int64] = np.zeros((len(WORDS), *self.shape), dtype=np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """Add one batch's values, an array of the tally's shape.

        Raises
        ------
        ResultError
            If the shape differs, a value is not finite, or one exceeds the magnitude.
        """
        array = np.ascontiguousarray(values, dtype=np.float64)
        if array.shape != self.shape:
            raise ResultError(f"a batch must yield an array of shape {self.shape}, not {array.shape}")
        flat = array.reshape(-1)
        # A quiet NaN fails the comparison too.
        largest = float(_largest(flat))
        if not largest <= math.ldexp(1.0, self.exponent):
            raise ResultError(f"a batch's values must be finite and at most 2^{self.exponent}, not {largest}")
        if self.batches >= MAX_BATCHES:
            raise ResultError(f"a tally must hold at most {MAX_BATCHES} batches; use larger ones")
        _add(
            flat,
            self.words.reshape(len(WORDS), -1),
            math.ldexp(1.0, self.exponent - _HIGH_BITS),
            math.ldexp(1.0, 2 * self.exponent - _HIGH_BITS),
        )
        self.batches += 1

    def merge(self, other: Tally) -> None:
        """Add all batches of another tally."""
        if (self.shape, self.exponent) != (other.shape, other.exponent):
            raise ResultError(
                f"tallies must agree in shape and magnitude to be added, not be "
                f"{self.shape}, 2^{self.exponent} and {other.shape}, 2^{other.exponent}"
            )
        if self.batches + other.batches > MAX_BATCHES:
            raise ResultError(f"a tally must hold at most {MAX_BATCHES} batches; use larger ones")
        self.words += other.words
        self.batches += other.batches

    def total(self, rows: slice = _ALL) -> NDArray[np.float64]:
        """Sum over the batches, rounded once; ``rows`` picks along the first axis."""
        return self._joined(0, self.exponent, rows)

    def squares(self, rows: slice = _ALL) -> NDArray[np.float64]:
        """Sum of squares over the batches, rounded once."""
        return self._joined(2, 2 * self.exponent, rows)

    def sigma(self, rows: slice = _ALL) -> NDArray[np.float64]:
        """One standard deviation of the total, relative to it.

        Batches are equal in size, so σ² = n/(n−1)·(Σx² − (Σx)²/n).  Where nothing was
        scored the answer is NaN (nothing is known), and so it is where the values are so
        far below the magnitude that their squares are lost in its resolution; with one
        batch it is NaN everywhere.
        """
        if rows == _ALL and self.shape and self.words.nbytes > _LARGE:
            sigma = np.empty(self.shape)
            for row in range(self.shape[0]):
                sigma[row] = self.sigma(slice(row, row + 1))[0]
            return sigma
        total, squares = self.total(rows), self.squares(rows)
        # Each batch's square is rounded by up to half of this.
        lost = math.ldexp(float(self.batches), 2 * self.exponent - _HIGH_BITS - _LOW_BITS)
        _to_sigma(total.reshape(-1), squares.reshape(-1), self.batches, lost)
        return squares

    def _joined(self, first: int, exponent: int, rows: slice) -> NDArray[np.float64]:
        # A tally without axes has no rows to pick from.
        words = self.words[:, rows] if self.shape else self.words
        joined = np.empty(words.shape[1:])
        high, low = (np.ascontiguousarray(words[i]).reshape(-1) for i in (first, first + 1))
        _join(high, low, math.ldexp(1.0, exponent - _HIGH_BITS), joined.reshape(-1))
        return joined


@kernel
def _largest(values: NDArray[np.float64]) -> float:
    largest = 0.0
    for i in range(values.size):
        x = abs(values[i])
        # Not "x > largest": a NaN must get through, and stay.
        if not x <= largest:
            largest = x
            if math.isnan(x):
                break
    return largest


@kernel
def _join(
    high: NDArray[np.int64],
    low: NDArray[np.int64],
    quantum: float,
    joined: NDArray[np.float64],
) -> None:
    fine = quantum / 2.0**_LOW_BITS
    for i in range(joined.size):
        carry = low[i] >> _LOW_BITS
        rest = low[i] - (carry << _LOW_BITS)
        joined[i] = np.float64(high[i] + carry) * quantum + np.float64(rest) * fine


@kernel
def _to_sigma(total: NDArray[np.float64], squares: NDArray[np.float64], batches: int, lost: float) -> None:
    # In place of the squares: a full-resolution CT must not be copied four times.
    n = float(batches)
    for i in range(total.size):
        s = math.nan
        if batches > 1 and total[i] != 0.0:
            variance = n / (n - 1.0) * max(squares[i] - total[i] * total[i] / n, 0.0)
            if variance > 64.0 * lost or squares[i] > 1e9 * lost:
                s = math.sqrt(variance) / abs(total[i])
        squares[i] = s


@kernel
def _add(
    values: NDArray[np.float64],
    words: NDArray[np.int64],
    quantum: float,
    square_quantum: float,
) -> None:
    # Powers of two: dividing and multiplying by them rounds nothing.
    fine = 2.0**_LOW_BITS
    for i in range(values.size):
        x = values[i]
        if x == 0.0:
            continue
        scaled = x / quantum
        high = np.rint(scaled)
        words[0, i] += np.int64(high)
        words[1, i] += np.int64(np.rint((scaled - high) * fine))
        scaled = x * x / square_quantum
        high = np.rint(scaled)
        words[2, i] += np.int64(high)
        words[3, i] += np.int64(np.rint((scaled - high) * fine))
