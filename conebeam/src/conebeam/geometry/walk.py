"""Where a point is, and how far a ray runs before that can change.

Protocol of a tracker: ``cell = locate(p)``; ``d, s = distance(cell, p, u)``; to
cross, move by ``d + NUDGE`` along the ray and locate again.  The cell is never
remembered across a crossing, so it always follows from the position alone.

Why no particle is lost and no loop is endless
----------------------------------------------
*Signs decide, roots follow.*  ``locate`` puts p in a cell by the signs of
g = sign · f at p, and ``distance`` uses the very same values of g as the constant
term of its quadratic.  A point within SKIN = 1e-10 cm of a face, on either side,
counts as SKIN inside it: the exit root is then positive by construction
(−C/(B + √D) or (−B + √D)/A, whichever does not cancel), and where it is tiny the
step ends SKIN beyond the face, which no rounding undoes.

*Every crossing advances* by at least NUDGE = 1e-7 cm.  Surfaces are scaled to f ≈
distance, so rounding leaves a residue of about 1e-16·|p|²/R (1e-11 cm at 2 m from
a surface of radius 0.1 cm).  At grazing incidence a step may fail to cross; the
point then lies in the skin, and the next step crosses.

*A rival is never missed.*  A root is taken for an entry if the other half-spaces
hold within ENTRY = 1e-8 cm; a false entry costs one null crossing.

Everything a kernel calls is inlined into it: call ``borrow.borrowed(table)`` once at
its start, and ``locate`` and ``distance`` cost some 20 to 90 ns, not 300 to 450.

Left out: path lengths below NUDGE after each crossing are given to the cell
before it (2e-7 of 0.5 cm); chords below about 1e-6 cm (grazing a quadric) may be
skipped, and a tangent ray may see the surface SKIN further out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from conebeam.compilation import inlined
from conebeam.geometry.table import Table

NUDGE = 1e-7
SKIN = 1e-10
ENTRY = 1e-8
OUTSIDE = -1
FAR = math.inf


@inlined
def value(a: NDArray[np.float64], plane: bool, s: int, x: float, y: float, z: float) -> float:
    """Value f of surface s of the coefficients a at a point, about the distance in cm."""
    f: float = a[s, 6] * x + a[s, 7] * y + a[s, 8] * z + a[s, 9]
    if not plane:
        f += x * (a[s, 0] * x + a[s, 3] * y + a[s, 5] * z)
        f += y * (a[s, 1] * y + a[s, 4] * z) + a[s, 2] * z * z
    return f


@inlined
def terms(
    a: NDArray[np.float64],
    plane: bool,
    s: int,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
) -> tuple[float, float]:
    """A and B of f(p + t·d) = A t² + 2 B t + f(p)."""
    slope = a[s, 6] * u + a[s, 7] * v + a[s, 8] * w
    if plane:
        return 0.0, 0.5 * slope
    curve = u * (a[s, 0] * u + a[s, 3] * v + a[s, 5] * w)
    curve += v * (a[s, 1] * v + a[s, 4] * w) + a[s, 2] * w * w
    slope += 2.0 * (a[s, 0] * x * u + a[s, 1] * y * v + a[s, 2] * z * w)
    slope += a[s, 3] * (x * v + y * u) + a[s, 4] * (y * w + z * v) + a[s, 5] * (x * w + z * u)
    return curve, 0.5 * slope


@inlined
def exit_root(a: float, b: float, c: float) -> float:
    """Smallest t > 0 where A t² + 2 B t + C rises through zero, seen from inside."""
    c = min(c, -SKIN)
    discriminant = b * b - a * c
    if discriminant < 0.0:
        return FAR
    root = math.sqrt(discriminant)
    if b > 0.0:
        return -c / (b + root)
    return (root - b) / a if a > 0.0 else FAR


@inlined
def entry_root(a: float, b: float, c: float) -> float:
    """Smallest t ≥ 0 where A t² + 2 B t + C falls through zero; infinite if never."""
    discriminant = b * b - a * c
    if discriminant < 0.0:
        return FAR
    root = math.sqrt(discriminant)
    if b < 0.0:
        t = c / (root - b)
        return t if t >= 0.0 else FAR
    if a < 0.0:
        t = -(b + root) / a
        return t if t >= 0.0 else FAR
    return FAR


@inlined
def locate(table: Table, x: float, y: float, z: float) -> int:
    """Cell of highest priority that holds the point; −1 in the vacuum outside."""
    # Fields are taken out of the table once: handing the whole table to a small
    # function counts references to every array in it.
    coefficients, kind = table.coefficients, table.surface_kind
    first, surfaces, signs = table.cell_first, table.half_surface, table.half_sign
    box = table.cell_box
    for i in range(table.order.size):
        cell = int(table.order[i])
        if x < box[cell, 0] or y < box[cell, 1] or z < box[cell, 2]:
            continue
        if x > box[cell, 3] or y > box[cell, 4] or z > box[cell, 5]:
            continue
        inside = True
        for h in range(first[cell], first[cell + 1]):
            s = surfaces[h]
            if signs[h] * value(coefficients, kind[s] == 0, s, x, y, z) > 0.0:
                inside = False
                break
        if inside:
            return cell
    return OUTSIDE


@inlined
def meets_box(
    box: NDArray[np.float64],
    cell: int,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
    limit: float,
) -> bool:
    """Whether the ray meets a cell's box before ``limit``."""
    near, far = 0.0, limit
    for axis in range(3):
        p = x if axis == 0 else (y if axis == 1 else z)
        d = u if axis == 0 else (v if axis == 1 else w)
        if d == 0.0:
            if p < box[cell, axis] or p > box[cell, axis + 3]:
                return False
            continue
        first = (box[cell, axis] - p) / d
        last = (box[cell, axis + 3] - p) / d
        if first > last:
            first, last = last, first
        near = max(near, first)
        far = min(far, last)
    return near <= far


@inlined
def entry_distance(
    coefficients: NDArray[np.float64],
    kind: NDArray[np.int32],
    surfaces: NDArray[np.int32],
    signs: NDArray[np.float64],
    low: int,
    high: int,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
    limit: float,
) -> tuple[float, int]:
    """Distance to the first entry below ``limit`` into half-spaces low … high − 1.

    (limit, −1) if there is none.
    """
    best, found = limit, -1
    already = True
    for h in range(low, high):
        s = int(surfaces[h])
        a, b = terms(coefficients, kind[s] == 0, s, x, y, z, u, v, w)
        c = signs[h] * value(coefficients, kind[s] == 0, s, x, y, z)
        already = already and c <= 0.0
        t = entry_root(signs[h] * a, signs[h] * b, c)
        if t >= best:
            continue
        px, py, pz = x + t * u, y + t * v, z + t * w
        holds = True
        for k in range(low, high):
            other = surfaces[k]
            f = value(coefficients, kind[other] == 0, other, px, py, pz)
            if k != h and signs[k] * f > ENTRY:
                holds = False
                break
        if holds:
            best, found = t, s
    if already and limit > 0.0:
        # A step that ended short of a rival may round into it: it is entered now.
        return 0.0, int(surfaces[low])
    return best, found


@inlined
def distance(
    table: Table, cell: int, x: float, y: float, z: float, u: float, v: float, w: float
) -> tuple[float, int]:
    """Distance to where the cell may change, and the surface crossed there.

    Parameters
    ----------
    table : Table
    cell : int
        What ``locate`` gave for the point; −1 outside.
    x, y, z, u, v, w : float
        Position in cm and unit direction.

    Returns
    -------
    distance : float
        cm, ≥ 0; infinite if nothing lies ahead (only from outside).
    surface : int
        −1 if nothing lies ahead.
    """
    coefficients, kind = table.coefficients, table.surface_kind
    first, surfaces, signs = table.cell_first, table.half_surface, table.half_sign
    best, found = FAR, -1
    row = cell
    if cell == OUTSIDE:
        row = table.cell_kind.size
    else:
        for h in range(first[cell], first[cell + 1]):
            s = int(surfaces[h])
            a, b = terms(coefficients, kind[s] == 0, s, x, y, z, u, v, w)
            c = signs[h] * value(coefficients, kind[s] == 0, s, x, y, z)
            t = exit_root(signs[h] * a, signs[h] * b, c)
            if t < best:
                best, found = t, s
    for i in range(table.rival_first[row], table.rival_first[row + 1]):
        rival = table.rivals[i]
        if meets_box(table.cell_box, rival, x, y, z, u, v, w, best):
            t, s = entry_distance(
                coefficients, kind, surfaces, signs, first[rival], first[rival + 1],
                x, y, z, u, v, w, best,
            )  # fmt: skip
            if s >= 0:
                best, found = t, s
    return best, found


@inlined
def to_local(
    table: Table, cell: int, x: float, y: float, z: float, u: float, v: float, w: float
) -> tuple[float, float, float, float, float, float]:
    """Position and direction in the frame of a lattice cell."""
    lattice = table.cell_lattice[cell]
    r = table.lattice_rotation[lattice]
    t = table.lattice_translation[lattice]
    dx, dy, dz = x - t[0], y - t[1], z - t[2]
    return (
        r[0, 0] * dx + r[0, 1] * dy + r[0, 2] * dz,
        r[1, 0] * dx + r[1, 1] * dy + r[1, 2] * dz,
        r[2, 0] * dx + r[2, 1] * dy + r[2, 2] * dz,
        r[0, 0] * u + r[0, 1] * v + r[0, 2] * w,
        r[1, 0] * u + r[1, 1] * v + r[1, 2] * w,
        r[2, 0] * u + r[2, 1] * v + r[2, 2] * w,
    )


@inlined
def slot(table: Table, lattice: int, axis: int, p: float) -> int:
    """Index along one axis of a local coordinate, clamped to the lattice."""
    count = int(table.lattice_shape[lattice, axis])
    first = table.edge_first[lattice, axis]
    inverse = table.inverse_pitch[lattice, axis]
    if inverse > 0.0:
        i = int((p - table.edges[first]) * inverse)
        return min(max(i, 0), count - 1)
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        if table.edges[first + middle] <= p:
            low = middle
        else:
            high = middle
    return low


@inlined
def voxel(table: Table, cell: int, x: float, y: float, z: float) -> tuple[int, int, int]:
    """Voxel of a lattice cell that holds a world point (clamped at its faces)."""
    p, q, r, _, _, _ = to_local(table, cell, x, y, z, 0.0, 0.0, 0.0)
    lattice = table.cell_lattice[cell]
    return slot(table, lattice, 0, p), slot(table, lattice, 1, q), slot(table, lattice, 2, r)


@inlined
def voxel_distance(
    table: Table,
    cell: int,
    ix: int,
    iy: int,
    iz: int,
    x: float,
    y: float,
    z: float,
    u: float,
    v: float,
    w: float,
) -> tuple[float, int]:
    """Distance to the far face of a voxel and the axis crossed there.

    Step by changing that axis' index by the sign of the local direction, not by
    locating again: the walk then cannot stall at a face.
    """
    px, py, pz, du, dv, dw = to_local(table, cell, x, y, z, u, v, w)
    lattice = table.cell_lattice[cell]
    best, crossed = FAR, 0
    for axis in range(3):
        p = px if axis == 0 else (py if axis == 1 else pz)
        d = du if axis == 0 else (dv if axis == 1 else dw)
        i = ix if axis == 0 else (iy if axis == 1 else iz)
        if d == 0.0:
            continue
        first = table.edge_first[lattice, axis] + i
        face = table.edges[first + 1] if d > 0.0 else table.edges[first]
        t = max(0.0, (face - p) / d)
        if t < best:
            best, crossed = t, axis
    return best, crossed


@inlined
def voxel_number(table: Table, cell: int, ix: int, iy: int, iz: int) -> int:
    """Offset of a voxel in ``voxel_material`` and ``voxel_density``."""
    lattice = table.cell_lattice[cell]
    shape = table.lattice_shape[lattice]
    return int(table.voxel_first[lattice] + (ix * shape[1] + iy) * shape[2] + iz)


@inlined
def contents(table: Table, cell: int, x: float, y: float, z: float) -> tuple[int, float]:
    """Material number and density (g/cm³) at a point of a cell; (−1, 0) outside."""
    if cell == OUTSIDE:
        return -1, 0.0
    if table.cell_kind[cell] == 0:
        return int(table.cell_material[cell]), float(table.cell_density[cell])
    ix, iy, iz = voxel(table, cell, x, y, z)
    n = voxel_number(table, cell, ix, iy, iz)
    return int(table.voxel_material[n]), float(table.voxel_density[n])
