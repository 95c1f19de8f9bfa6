"""Noise with a spectrum like that of stained concrete, clouds and foliage: stronger where it is coarser."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SIDE = 512
"""Side of the tile, a power of two; it repeats without a seam."""


@lru_cache(maxsize=8)
def tile(fall: float, which: int = 0) -> np.ndarray:
    """Noise of mean 0 and deviation 1, shape (SIDE, SIDE), float32; amplitude falls as frequency^-fall."""
    random = np.random.default_rng([SIDE, which])
    spectrum = np.fft.rfft2(random.standard_normal((SIDE, SIDE)))
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum * frequency**-fall, s=(SIDE, SIDE))
    even = np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)
    even.setflags(write=False)
    return even


def lookup(noise: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The tile at coordinates in texels that broadcast against each other; it repeats."""
    rows = np.floor(first).astype(np.int32) & (SIDE - 1)
    columns = np.floor(second).astype(np.int32) & (SIDE - 1)
    return np.asarray(noise[rows, columns])
