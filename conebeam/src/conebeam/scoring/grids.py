"""Energy on scoring grids: track length along a voxel walk, or deposits at points.

A flight is handed over as a profile: the transfer coefficient κ = μtr (1/cm) of the
medium is constant over stretches that end at path lengths ``ends``.  The walk visits
grid faces and ends of stretches in order and adds E·w·κ·Δs to the voxel it is in
(track-length estimator: its mean is the energy transferred, and photons that do not
collide in a voxel count there too).  The grid need not be the phantom's grid.

Faces come from tables of edges, not from adding up pitches: axes may be non-uniform
and float32 does not drift.

References
----------
J. F. Williamson, "Monte Carlo evaluation of kerma at a point for photon transport
problems", Med. Phys. 14 (1987) 567, doi:10.1118/1.596069 (track-length estimator).
J. Amanatides, A. Woo, "A fast voxel traversal algorithm for ray tracing",
Eurographics 1987, doi:10.2312/egtp.19871000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import inlined, kernel

Edges = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_TINY, _HUGE = np.float32(1e-18), np.float32(1e18)
_MAX_LOOKUP = 1 << 14
_ROUNDING = 1e-3

# voxel, path length, next faces, last faces, face steps, voxel steps, path lengths of the
# next faces, 1/direction: x, y, z each.
I64: TypeAlias = np.int64
F32: TypeAlias = np.float32
Walk: TypeAlias = tuple[
    I64, F32, I64, I64, I64, I64, I64, I64, I64, I64, I64, I64, I64, I64, F32, F32, F32, F32, F32, F32
]


class Grids(NamedTuple):
    """G grids as flat arrays; coordinates are those of the transport, in cm.

    Voxel (ix, iy, iz) of grid g is number ``sum_first[g] + (ix·ny + iy)·nz + iz``.
    A coordinate's slot is found by ``lookup`` on an even subdivision of the axis.
    """

    edges: NDArray[np.float32]  # flat
    edge_first: NDArray[np.int32]  # (G, 3)
    shape: NDArray[np.int32]  # (G, 3)
    box: NDArray[np.float32]  # (G, 6): low x y z, high x y z
    scale: NDArray[np.float32]  # (G, 3): subdivisions per cm
    lookup: NDArray[np.int32]  # flat
    lookup_first: NDArray[np.int32]  # (G, 3)
    sum_first: NDArray[np.int64]  # (G + 1,)
    deposit: NDArray[np.uint8]  # (G,): 1 scores deposits, 0 track length


def build_grids(grids: Sequence[Edges], deposit: Sequence[bool], origin: tuple[float, float, float]) -> Grids:
    """Flatten grids; ``origin`` (world) becomes the transport's zero."""
    edges, edge_first, shape, scale, lookup, lookup_first = [], [], [], [], [], []
    at_edge = at_lookup = 0
    for axes in grids:
        for axis, zero in zip(axes, origin, strict=True):
            moved = (np.asarray(axis, dtype=np.float64) - zero).astype(np.float32)
            count = len(moved) - 1
            wide = moved.astype(np.float64)
            finest = float(np.diff(wide).min())
            # Rounding must not turn the 60 parts of a regular axis into 61: parts that begin
            # at edges make the search in `slot` end at once.
            parts = int(min(max(np.ceil((wide[-1] - wide[0]) / finest - _ROUNDING), 1), _MAX_LOOKUP))
            starts = wide[0] + (wide[-1] - wide[0]) / parts * np.arange(parts + 1)
            slots = np.searchsorted(wide, starts + 1e-6 * finest, side="right") - 1
            edges.append(moved)
            edge_first.append(at_edge)
            shape.append(count)
            scale.append(parts / (wide[-1] - wide[0]))
            lookup.append(np.clip(slots, 0, count - 1).astype(np.int32))
            lookup_first.append(at_lookup)
            at_edge += len(moved)
            at_lookup += parts + 1
    ends = np.array([len(axis) - 1 for axes in grids for axis in axes]).reshape(-1, 3)
    sizes = ends.prod(axis=1, dtype=np.int64) if len(grids) else np.empty(0, dtype=np.int64)
    low = [edges[3 * g + a][0] for g in range(len(grids)) for a in range(3)]
    high = [edges[3 * g + a][-1] for g in range(len(grids)) for a in range(3)]
    box = np.stack((np.array(low).reshape(-1, 3), np.array(high).reshape(-1, 3)), axis=1)
    return Grids(
        edges=np.concatenate(edges) if edges else np.zeros(1, dtype=np.float32),
        edge_first=np.array(edge_first, dtype=np.int32).reshape(-1, 3),
        shape=np.array(shape, dtype=np.int32).reshape(-1, 3),
        box=np.ascontiguousarray(box.reshape(-1, 6), dtype=np.float32),
        scale=np.array(scale, dtype=np.float32).reshape(-1, 3),
        lookup=np.concatenate(lookup) if lookup else np.zeros(1, dtype=np.int32),
        lookup_first=np.array(lookup_first, dtype=np.int32).reshape(-1, 3),
        sum_first=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        deposit=np.array(deposit, dtype=np.uint8),
    )


@inlined
def slot(grids: Grids, g: int, axis: int, p: np.float32) -> np.int64:
    """Bin of a coordinate along an axis, clamped to the grid."""
    part = np.int64((p - grids.box[g, axis]) * grids.scale[g, axis])
    count = np.int64(grids.shape[g, axis])
    first = grids.edge_first[g, axis]
    # The last entry of the lookup stands for the upper face.
    last = np.int64((grids.box[g, axis + 3] - grids.box[g, axis]) * grids.scale[g, axis])
    part = min(max(part, np.int64(0)), last)
    i = np.int64(grids.lookup[grids.lookup_first[g, axis] + part])
    while i < count - 1 and p >= grids.edges[first + i + 1]:
        i += 1
    return i


@kernel
def score_point(
    grids: Grids,
    g: int,
    x: np.float32,
    y: np.float32,
    z: np.float32,
    energy: float,
    sums: NDArray[np.float64],
) -> None:
    """Add energy to the voxel that holds a point, if the grid does."""
    box = grids.box
    if x < box[g, 0] or y < box[g, 1] or z < box[g, 2]:
        return
    if x > box[g, 3] or y > box[g, 4] or z > box[g, 5]:
        return
    ix, iy, iz = slot(grids, g, 0, x), slot(grids, g, 1, y), slot(grids, g, 2, z)
    sums[grids.sum_first[g] + (ix * grids.shape[g, 1] + iy) * grids.shape[g, 2] + iz] += energy


@inlined
def start_walk(
    grids: Grids,
    g: int,
    x: np.float32,
    y: np.float32,
    z: np.float32,
    u: np.float32,
    v: np.float32,
    w: np.float32,
    stop: np.float32,
) -> Walk:
    """Where a flight begins in a grid; ``voxel`` is −1 if it misses the grid before ``stop``."""
    box, edges = grids.box, grids.edges
    along_x, along_y, along_z = u >= _ZERO, v >= _ZERO, w >= _ZERO
    pu = _ONE / u if abs(u) > _TINY else _HUGE
    pv = _ONE / v if abs(v) > _TINY else _HUGE
    pw = _ONE / w if abs(w) > _TINY else _HUGE
    t = _ZERO
    px, py, pz = x, y, z
    hits = True
    if (
        x < box[g, 0] or y < box[g, 1] or z < box[g, 2]
        or x > box[g, 3] or y > box[g, 4] or z > box[g, 5]
    ):  # fmt: skip
        near = ((box[g, 0] if along_x else box[g, 3]) - x) * pu
        far = ((box[g, 3] if along_x else box[g, 0]) - x) * pu
        near = max(near, ((box[g, 1] if along_y else box[g, 4]) - y) * pv)
        far = min(far, ((box[g, 4] if along_y else box[g, 1]) - y) * pv)
        near = max(near, ((box[g, 2] if along_z else box[g, 5]) - z) * pw)
        far = min(far, ((box[g, 5] if along_z else box[g, 2]) - z) * pw)
        hits = not (near >= far or near >= stop or far <= _ZERO)
        t = max(near, _ZERO)
        px, py, pz = x + t * u, y + t * v, z + t * w
    ny, nz = np.int64(grids.shape[g, 1]), np.int64(grids.shape[g, 2])
    ix, iy, iz = np.int64(0), np.int64(0), np.int64(0)
    if hits:
        ix, iy, iz = slot(grids, g, 0, px), slot(grids, g, 1, py), slot(grids, g, 2, pz)
    voxel = grids.sum_first[g] + (ix * ny + iy) * nz + iz
    # Positions of the next faces in the table of edges, and of those that end it.
    fx = np.int64(grids.edge_first[g, 0]) + ix
    fy = np.int64(grids.edge_first[g, 1]) + iy
    fz = np.int64(grids.edge_first[g, 2]) + iz
    lx, ly, lz = fx - ix - 1, fy - iy - 1, fz - iz - 1
    sx, sy, sz = np.int64(-1), np.int64(-1), np.int64(-1)
    vx, vy, vz = -ny * nz, -nz, np.int64(-1)
    if along_x:
        fx, lx, sx, vx = fx + 1, fx - ix + grids.shape[g, 0] + 1, np.int64(1), -vx
    if along_y:
        fy, ly, sy, vy = fy + 1, fy - iy + ny + 1, np.int64(1), -vy
    if along_z:
        fz, lz, sz, vz = fz + 1, fz - iz + nz + 1, np.int64(1), -vz
    tx, ty, tz = (edges[fx] - x) * pu, (edges[fy] - y) * pv, (edges[fz] - z) * pw
    if not hits:
        voxel = np.int64(-1)
    return voxel, t, fx, fy, fz, lx, ly, lz, sx, sy, sz, vx, vy, vz, tx, ty, tz, pu, pv, pw


@kernel
def score_line(
    grids: Grids,
    g: int,
    x: np.float32,
    y: np.float32,
    z: np.float32,
    u: np.float32,
    v: np.float32,
    w: np.float32,
    energy: np.float32,
    stop: np.float32,
    rate: np.float32,
    sums: NDArray[np.float64],
) -> None:
    """Walk a flight of ``stop`` cm through one medium of coefficient κ = ``rate`` (1/cm).

    The same as :func:`score_profile` with one stretch, and faster.
    """
    edges = grids.edges
    (voxel, t, fx, fy, fz, lx, ly, lz, sx, sy, sz, vx, vy, vz, tx, ty, tz, pu, pv, pw) = start_walk(
        grids, g, x, y, z, u, v, w, stop
    )  # fmt: skip
    if voxel < 0:
        return
    rate *= energy
    while True:
        if tz <= tx and tz <= ty:
            if tz >= stop:
                break
            sums[voxel] += np.float64(rate * max(_ZERO, tz - t))
            t = max(t, tz)
            fz += sz
            if fz == lz:
                return
            voxel += vz
            tz = (edges[fz] - z) * pw
        elif tx <= ty:
            if tx >= stop:
                break
            sums[voxel] += np.float64(rate * max(_ZERO, tx - t))
            t = max(t, tx)
            fx += sx
            if fx == lx:
                return
            voxel += vx
            tx = (edges[fx] - x) * pu
        else:
            if ty >= stop:
                break
            sums[voxel] += np.float64(rate * max(_ZERO, ty - t))
            t = max(t, ty)
            fy += sy
            if fy == ly:
                return
            voxel += vy
            ty = (edges[fy] - y) * pv
    sums[voxel] += np.float64(rate * max(_ZERO, stop - t))


@kernel
def score_profile(
    grids: Grids,
    g: int,
    x: np.float32,
    y: np.float32,
    z: np.float32,
    u: np.float32,
    v: np.float32,
    w: np.float32,
    energy: np.float32,
    ends: NDArray[np.float32],
    rates: NDArray[np.float32],
    count: int,
    sums: NDArray[np.float64],
) -> None:
    """Walk a flight through a grid.

    Parameters
    ----------
    x, y, z, u, v, w : float32
        Start of the flight and unit direction.
    energy : float32
        Photon energy times weight, keV.
    ends, rates : arrays, the first ``count`` of them
        Path length at which a stretch ends, cm, and its κ, 1/cm.
    sums : array, shape (sum_first[-1],)
        keV.
    """
    edges = grids.edges
    (voxel, t, fx, fy, fz, lx, ly, lz, sx, sy, sz, vx, vy, vz, tx, ty, tz, pu, pv, pw) = start_walk(
        grids, g, x, y, z, u, v, w, ends[count - 1]
    )  # fmt: skip
    if voxel < 0:
        return
    stretch = 0
    while ends[stretch] <= t and stretch < count - 1:
        stretch += 1
    end, rate = ends[stretch], energy * rates[stretch]
    while True:
        face = min(tx, ty, tz)
        if face >= end:
            sums[voxel] += np.float64(rate * max(_ZERO, end - t))
            stretch += 1
            if stretch >= count:
                return
            t = end
            end, rate = ends[stretch], energy * rates[stretch]
            continue
        face = max(face, t)
        sums[voxel] += np.float64(rate * (face - t))
        t = face
        if tz <= tx and tz <= ty:
            fz += sz
            if fz == lz:
                return
            voxel += vz
            tz = (edges[fz] - z) * pw
        elif tx <= ty:
            fx += sx
            if fx == lx:
                return
            voxel += vx
            tx = (edges[fx] - x) * pu
        else:
            fy += sy
            if fy == ly:
                return
            voxel += vy
            ty = (edges[fy] - y) * pv
