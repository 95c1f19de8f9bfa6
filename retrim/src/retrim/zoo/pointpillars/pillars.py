"""Points gathered into pillars: square columns that stand on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from retrim.zoo.pointpillars.config import Config


@dataclass(frozen=True)
class Pillars:
    """The pillars of a batch, one scan after the other.

    Attributes
    ----------
    points : Tensor, shape (pillars, points, 4)
        x, y, z, reflectance; zero where there is no point.
    counts : Tensor of int64, shape (pillars,)
        Points of each pillar.
    cells : Tensor of int64, shape (pillars,)
        (scan * rows + row) * columns + column.
    scans : int
    """

    points: torch.Tensor
    counts: torch.Tensor
    cells: torch.Tensor
    scans: int


def gather(scans: Sequence[np.ndarray], config: Config) -> Pillars:
    """Pillars of scans (n, 4), numbered by their cells.

    Of more than `config.pillars` pillars, or `config.points` points in one, an evenly
    spread part is kept: the same one every time.
    """
    rows, columns = config.grid
    parts = [pillars_of(scan, config) for scan in scans]
    cells = [part[2] + number * rows * columns for number, part in enumerate(parts)]
    return Pillars(
        points=torch.from_numpy(np.concatenate([part[0] for part in parts])),
        counts=torch.from_numpy(np.concatenate([part[1] for part in parts])),
        cells=torch.from_numpy(np.concatenate(cells)),
        scans=len(scans),
    )


def pillars_of(scan: np.ndarray, config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (p, points, 4), counts (p,) and cells (p,) of one scan."""
    rows, columns = config.grid
    low, high = (np.array(corner, dtype=np.float32) for corner in (config.low, config.high))
    scan = scan[((scan[:, :3] >= low) & (scan[:, :3] < high)).all(axis=1)]
    place = ((scan[:, :2] - low[:2]) / np.float32(config.pillar)).astype(np.int64)
    place = np.minimum(place, (columns - 1, rows - 1))  # division may round up to the edge
    cell = place[:, 1] * columns + place[:, 0]
    order = np.argsort(cell, kind="stable")
    cells, first, counts = np.unique(cell[order], return_index=True, return_counts=True)
    kept = spread(np.arange(len(cells)), np.full(len(cells), len(cells)), config.pillars)
    rank = np.arange(len(scan)) - np.repeat(first, counts)
    chosen = spread(rank, np.repeat(counts, counts), config.points) & np.repeat(kept, counts)
    order = order[chosen]
    cells, counts = cells[kept], np.minimum(counts[kept], config.points)
    pillar = np.repeat(np.arange(len(cells)), counts)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    points = np.zeros((len(cells), config.points, 4), dtype=np.float32)
    points[pillar, rank] = scan[order]
    return points, counts.astype(np.int64), cells.astype(np.int64)


def spread(rank: np.ndarray, count: np.ndarray, most: int) -> np.ndarray:
    """Whether item `rank` of `count` is among min(count, `most`) evenly spread ones."""
    return np.asarray((count <= most) | ((rank + 1) * most // count > rank * most // count))
