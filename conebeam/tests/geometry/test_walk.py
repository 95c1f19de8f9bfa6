"""The compiled walk against the oracle, against formulas, and at its edges."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scenes import geometries, lattices, rays

from conebeam.geometry import (
    Box,
    Cell,
    Cone,
    Cylinder,
    Ellipsoid,
    Geometry,
    HalfSpace,
    Intersection,
    Lattice,
    LatticeCell,
    Sphere,
    Wedge,
    oracle,
    regular_edges,
    rotation_matrix,
    trace,
    walk,
)
from conebeam.geometry.borrow import borrowed
from conebeam.geometry.solids import Solid

CUT = 1000


def one(region: Solid) -> Geometry:
    return Geometry(cells=(Cell(name="it", region=region, material="m", density_g_cm3=1.0),))


def chord(geometry: Geometry, start: object, direction: object) -> np.ndarray:
    d = np.asarray(direction, dtype=float)
    d = d / np.linalg.norm(d)
    lengths = np.zeros(len(geometry.cells))
    crossings = trace.chords(geometry.table(), *np.asarray(start, dtype=float), *d, lengths, CUT)
    assert crossings < CUT
    return lengths


def runs_in_a_face(geometry: Geometry, start: np.ndarray, direction: np.ndarray) -> bool:
    """Whether a ray lies in a plane that bounds a cell, so that rounding decides which side it is on."""
    along = start + np.arange(3.0)[:, None] * direction
    return any(
        np.abs(half.value(along)).max() < 1e-9 for cell in geometry.cells for half in cell.half_spaces()
    )


@given(geometry=geometries(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_locate_agrees_with_the_oracle(geometry: Geometry, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-9.0, 9.0, (500, 3))
    fast, slow = geometry.locate(points), oracle.locate(geometry, points)
    # Points within rounding of a surface may fall on either side.
    wrong = points[fast != slow]
    for point in wrong:
        nearest = min(
            abs(float(half.value(point[None, :])[0]))
            for cell in geometry.cells
            for half in cell.half_spaces()
        )
        assert nearest < 1e-9


@given(geometry=geometries(), ray=rays())
@settings(max_examples=100, deadline=None)
def test_chords_agree_with_ray_marching(geometry: Geometry, ray: tuple[np.ndarray, np.ndarray]) -> None:
    start, direction = ray
    assume(not runs_in_a_face(geometry, start, direction))
    step = 0.01
    fast = chord(geometry, start, direction)
    slow = oracle.march(geometry, start, direction, 60.0, step)
    # A ray crosses a convex solid's border twice and is cut once more per rival.
    allowed = step * 2.0 * (1 + len(geometry.cells))
    assert np.abs(fast - slow).max() <= allowed


@given(geometry=geometries(), ray=rays())
@settings(max_examples=100, deadline=None)
def test_every_point_between_crossings_is_in_the_cell(
    geometry: Geometry, ray: tuple[np.ndarray, np.ndarray]
) -> None:
    point, direction = ray
    table = geometry.table()
    for _ in range(CUT):
        cell = walk.locate(table, *point)
        length, surface = walk.distance(table, cell, *point, *direction)
        if math.isinf(length):
            assert surface == -1
            break
        assert 0 <= surface < len(table.coefficients)
        # A ray that grazes a quadric is on it for the square root of what counts as on the surface.
        if length > 1e-4:
            inner = point + direction * np.linspace(1e-6, length - 1e-6, 7)[:, None]
            assert set(oracle.locate(geometry, inner)) == {cell}
        point = point + direction * (length + walk.NUDGE)
    else:
        pytest.fail("the ray never left the geometry")


@pytest.mark.parametrize(
    ("region", "start", "direction", "expected"),
    [
        (Box(size_cm=(2.0, 4.0, 6.0)), (0.1, 0.2, -50), (0, 0, 1), 6.0),
        (Box(size_cm=(2.0, 2.0, 2.0), rotation=rotation_matrix(y_deg=45)),
         (0, 0, -50), (0, 0, 1), 2.0 * math.sqrt(2.0)),
        (Sphere(radius_cm=3.0, centre_cm=(1, 2, 3)), (2, 2, -50), (0, 0, 1), 2 * math.sqrt(8.0)),
        (Ellipsoid(semi_axes_cm=(1.0, 2.0, 3.0)), (0.5, 0, -50), (0, 0, 1), 6 * math.sqrt(0.75)),
        (Cylinder(radius_cm=2.0, height_cm=5.0), (-50, 1.0, 0), (1, 0, 0), 2 * math.sqrt(3.0)),
        (Cylinder(radius_cm=2.0, height_cm=5.0), (1, 1, 50), (0, 0, -1), 5.0),
        (Cone(base_radius_cm=2.0, height_cm=4.0), (1.0, 0, -50), (0, 0, 1), 2.0),
        (Cone(base_radius_cm=3.0, top_radius_cm=1.0, height_cm=4.0), (-50, 0, 0), (1, 0, 0), 4.0),
        (Wedge(size_cm=(4.0, 2.0, 8.0)), (-1.0, 0, -50), (0, 0, 1), 6.0),
        (Wedge(size_cm=(4.0, 2.0, 8.0)), (-50, 0, 0), (1, 0, 0), 2.0),
    ],
)  # fmt: skip
def test_chord_lengths_match_formulas(
    region: Solid, start: tuple[float, ...], direction: tuple[float, ...], expected: float
) -> None:
    assert chord(one(region), start, direction)[0] == pytest.approx(expected, abs=3e-7)


@pytest.mark.parametrize(
    "region",
    [
        Box(size_cm=(3.0, 4.0, 5.0), rotation=rotation_matrix(x_deg=20, y_deg=30, z_deg=40)),
        Ellipsoid(semi_axes_cm=(1.0, 2.0, 3.0), rotation=rotation_matrix(x_deg=70)),
        Cone(base_radius_cm=3.0, top_radius_cm=1.0, height_cm=4.0, centre_cm=(1, 1, 1)),
        Cylinder(radius_cm=1.5, height_cm=4.0, rotation=rotation_matrix(y_deg=50)),
        Wedge(size_cm=(3.0, 4.0, 5.0), rotation=rotation_matrix(z_deg=15)),
    ],
)
def test_mean_of_chords_gives_the_volume(region: object) -> None:
    # Parallel rays over an area A: the sum of chords times A / rays is the volume.
    geometry = one(region)  # type: ignore[arg-type]
    low, high = geometry.bounds()
    n = 120
    xs = low[0] + (np.arange(n) + 0.5) / n * (high[0] - low[0])
    ys = low[1] + (np.arange(n) + 0.5) / n * (high[1] - low[1])
    table, lengths = geometry.table(), np.zeros(1)
    for x in xs:
        for y in ys:
            trace.chords(table, x, y, low[2] - 1.0, 0.0, 0.0, 1.0, lengths, CUT)
    area = (high[0] - low[0]) * (high[1] - low[1]) / n**2
    assert lengths[0] * area == pytest.approx(region.volume_cm3(), rel=4e-3)  # type: ignore[attr-defined]


def test_the_higher_priority_wins() -> None:
    inner = Cell(name="i", region=Sphere(radius_cm=2.0), material="b", density_g_cm3=1.0, priority=3)
    outer = Cell(name="o", region=Box(size_cm=(10.0, 10.0, 10.0)), material="w", density_g_cm3=1.0)
    lengths = chord(Geometry(cells=(outer, inner)), (0, 0, -50), (0, 0, 1))
    assert lengths == pytest.approx([6.0, 4.0], abs=3e-7)


def test_a_concave_cell_is_entered_twice() -> None:
    # A box without the sphere in its middle: the complement of a quadric.
    hollow = Intersection(parts=(Box(size_cm=(10.0, 10.0, 10.0)), ~Sphere(radius_cm=2.0).half_spaces()[0]))
    assert chord(one(hollow), (0, 0, -50), (0, 0, 1)) == pytest.approx([6.0], abs=5e-7)


def test_both_sheets_of_a_bare_cone_are_seen() -> None:
    bare = Cone(base_radius_cm=2.0, height_cm=4.0).half_spaces()[0]
    double = Intersection(parts=(bare, Box(size_cm=(20.0, 20.0, 20.0))))
    # Along x = 1 through apex height 2: |z - 2| > 2 inside |z| < 10.
    assert chord(one(double), (1, 0, -50), (0, 0, 1)) == pytest.approx([10.0 + 6.0], abs=5e-7)


@pytest.mark.parametrize("slope", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15, 0.0])
def test_grazing_rays_end(slope: float) -> None:
    # Along the shared face of two boxes: the lengths in both add up to the box.
    low = Cell(
        name="a",
        region=Box(size_cm=(10, 10, 5), centre_cm=(0, 0, -2.5)),
        material="w",
        density_g_cm3=1,
    )
    high = Cell(
        name="b",
        region=Box(size_cm=(10, 10, 5), centre_cm=(0, 0, 2.5)),
        material="w",
        density_g_cm3=1,
    )
    lengths = chord(Geometry(cells=(low, high)), (-20, 0.3, -15 * slope), (1, 0, slope))
    assert lengths.sum() == pytest.approx(10.0, rel=1e-6)


@pytest.mark.parametrize("slope", [0.0, 1e-18, 1e-15, 1e-12, -1e-18, -1e-12])
def test_rays_that_start_in_a_face_do_not_stall(slope: float) -> None:
    # Rounding keeps such a ray on the face for millions of the smallest steps.
    box = one(Box(size_cm=(10.0, 10.0, 10.0), centre_cm=(0.0, 0.0, 500.0)))
    assert chord(box, (-4.0, 0.3, 505.0), (1, 0, slope))[0] == pytest.approx(9.0, abs=1e-6)


@pytest.mark.parametrize("inset", [0.0, 1e-15, 1e-12, 1e-9, 1e-6])
def test_rays_tangent_to_a_sphere_end(inset: float) -> None:
    # A point in the skin counts as inside, so the sphere may look SKIN larger.
    length = chord(one(Sphere(radius_cm=3.0)), (3.0 - inset, 0, -20), (0, 0, 1))[0]
    assert length >= 2 * math.sqrt(6.0 * inset) - 2e-6
    assert length <= 2 * math.sqrt(6.0 * (inset + walk.SKIN)) + 2e-6


def test_rays_through_edges_and_corners_end() -> None:
    box = one(Box(size_cm=(2.0, 2.0, 2.0)))
    assert chord(box, (-11, -11, -11), (1, 1, 1))[0] == pytest.approx(2 * math.sqrt(3), abs=1e-6)
    assert chord(box, (-10, 10, 1.0), (1, -1, 0))[0] in (
        pytest.approx(0.0, abs=1e-6),
        pytest.approx(2 * math.sqrt(2), abs=1e-6),
    )


def test_a_start_on_the_front_face_enters() -> None:
    box = one(Box(size_cm=(2.0, 2.0, 2.0), centre_cm=(0, 0, 1.0)))
    assert chord(box, (0, 0, 0.0), (0, 0, 1))[0] == pytest.approx(2.0, abs=1e-6)
    assert chord(box, (0, 0, 2.0), (0, 0, 1))[0] == pytest.approx(0.0, abs=1e-6)


def test_a_point_rounded_into_a_rival_is_handed_over() -> None:
    inner = Cell(name="i", region=Sphere(radius_cm=2.0), material="b", density_g_cm3=1.0, priority=3)
    outer = Cell(name="o", region=Box(size_cm=(10.0, 10.0, 10.0)), material="w", density_g_cm3=1.0)
    table = Geometry(cells=(outer, inner)).table()
    length, _ = walk.distance(table, 0, 0.0, 0.0, -2.0 + 1e-14, 0.0, 0.0, 1.0)
    assert length == 0.0


def test_nothing_ahead_is_infinitely_far() -> None:
    table = one(Sphere(radius_cm=2.0)).table()
    assert walk.locate(table, 0.0, 0.0, 9.0) == -1
    assert walk.distance(table, -1, 0.0, 0.0, 9.0, 0.0, 0.0, 1.0) == (math.inf, -1)


@given(lattice=lattices(), ray=rays())
@settings(max_examples=80, deadline=None)
def test_voxel_chords_agree_with_the_oracle(lattice: Lattice, ray: tuple[np.ndarray, np.ndarray]) -> None:
    start, direction = ray
    cell = LatticeCell(name="ct", lattice=lattice)
    table = Geometry(cells=(cell,)).table()
    slow = oracle.voxel_lengths(cell, start, direction, 60.0)
    fast = np.zeros(lattice.material.size)
    point = start
    for _ in range(10):
        number = walk.locate(table, *point)
        length, _ = walk.distance(table, number, *point, *direction)
        if math.isinf(length):
            break
        if number == 0:
            trace.lattice_chords(table, 0, *point, *direction, length, fast)
        point = point + direction * (length + walk.NUDGE)
    along = np.abs(direction @ np.asarray(lattice.rotation))
    local = lattice.to_local(start[None, :])[0]
    in_a_face = any(
        along[axis] < 1e-6 and np.abs(edges - local[axis]).min() < 1e-4
        for axis, edges in enumerate(lattice.edges_cm)
    )
    # A ray that runs in a face may be given to the voxel on either side, or to none.
    if not in_a_face:
        assert np.abs(fast - slow).max() < 2e-6


def test_a_lattice_equals_the_same_phantom_of_boxes() -> None:
    rng = np.random.default_rng(3)
    turn = rotation_matrix(x_deg=10.0, y_deg=-35.0, z_deg=70.0)
    edges = [np.cumsum(rng.uniform(0.3, 1.5, 4)) - 2.0 for _ in range(3)]
    shape = (3, 3, 3)
    lattice = Lattice(
        x_cm=edges[0], y_cm=edges[1], z_cm=edges[2],
        material=np.zeros(shape, np.uint8), density_g_cm3=np.ones(shape, np.float32),
        materials=("water",), rotation=turn, translation_cm=(0.5, -0.3, 0.2),
    )  # fmt: skip
    solids = []
    for flat in range(27):
        index = np.unravel_index(flat, shape)
        low = np.array([edges[a][i] for a, i in enumerate(index)])
        high = np.array([edges[a][i + 1] for a, i in enumerate(index)])
        centre = np.asarray(turn) @ (0.5 * (low + high)) + np.array([0.5, -0.3, 0.2])
        region = Box(size_cm=tuple(high - low), centre_cm=tuple(centre), rotation=turn)
        solids.append(Cell(name=f"v{flat}", region=region, material="water", density_g_cm3=1.0))
    boxes = Geometry(cells=tuple(solids))
    table = Geometry(cells=(LatticeCell(name="ct", lattice=lattice),)).table()
    for _ in range(200):
        start = rng.normal(size=3)
        start *= 15.0 / np.linalg.norm(start)
        target = rng.uniform(-1.0, 1.0, 3)
        direction = (target - start) / np.linalg.norm(target - start)
        per_box = chord(boxes, start, direction)
        per_voxel = np.zeros(27)
        length, _ = walk.distance(table, -1, *start, *direction)
        if not math.isinf(length):
            point = start + direction * (length + walk.NUDGE)
            length, _ = walk.distance(table, 0, *point, *direction)
            trace.lattice_chords(table, 0, *point, *direction, length, per_voxel)
        assert np.abs(per_box - per_voxel).max() < 2e-6


def test_contents_reads_the_voxel() -> None:
    material = np.zeros((2, 3, 4), dtype=np.uint8)
    density = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    material[1, 2, 3] = 1
    lattice = Lattice(
        x_cm=regular_edges(low_cm=0.0, pitch_cm=1.0, count=2),
        y_cm=regular_edges(low_cm=0.0, pitch_cm=1.0, count=3),
        z_cm=np.array([0.0, 0.5, 2.0, 3.0, 7.0]),
        material=material, density_g_cm3=density, materials=("water", "bone"),
    )  # fmt: skip
    wall = Cell(
        name="wall",
        region=Box(size_cm=(1, 1, 1), centre_cm=(-5, 0, 0)),
        material="lead",
        density_g_cm3=11.35,
    )
    geometry = Geometry(cells=(wall, LatticeCell(name="ct", lattice=lattice)))
    table = geometry.table()
    assert geometry.materials == ("lead", "water", "bone")
    assert walk.contents(table, 1, 1.5, 2.5, 5.0) == (2, 23.0)
    assert walk.contents(table, 1, 0.5, 0.5, 0.6) == (1, 1.0)
    assert walk.contents(table, 0, -5.0, 0.0, 0.0) == (0, 11.35)
    assert walk.contents(table, -1, 99.0, 0.0, 0.0) == (-1, 0.0)


def test_a_borrowed_table_is_the_same_table() -> None:
    inner = Cell(name="i", region=Sphere(radius_cm=2.0), material="b", density_g_cm3=1.0, priority=3)
    table = Geometry(cells=(inner,)).table()
    for ours, lent in zip(table, borrowed(table), strict=True):
        assert np.array_equal(ours, lent)
        assert ours.dtype == lent.dtype
        assert ours.shape == lent.shape


def test_without_jit_the_walk_is_the_same() -> None:
    script = (
        "import numpy as np\n"
        "from conebeam.geometry import *\n"
        "from conebeam.geometry import trace\n"
        "cells = (Cell(name='o', region=Box(size_cm=(9, 9, 9)), material='w', density_g_cm3=1.0),"
        " Cell(name='i', region=Cone(base_radius_cm=2.0, height_cm=3.0), material='w',"
        " density_g_cm3=1.0, priority=1))\n"
        "table, lengths = Geometry(cells=cells).table(), np.zeros(2)\n"
        "for x in np.linspace(-3.0, 3.0, 13):\n"
        "    trace.chords(table, x, 0.3, -20.0, 0.0, 0.0, 1.0, lengths, 100)\n"
        "print(lengths.tolist())\n"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "NUMBA_DISABLE_JIT": off},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for off in ("0", "1")
    ]
    jitted, plain = (json.loads(text) for text in printed)
    assert jitted == pytest.approx(plain, rel=1e-12)


def test_half_space_complements() -> None:
    half = HalfSpace(coefficients=(0, 0, 0, 0, 0, 0, 1.0, 0, 0, -2.0))
    points = np.array([[1.0, 0, 0], [3.0, 0, 0]])
    assert (half.value(points) <= 0).tolist() == [True, False]
    assert ((~half).value(points) <= 0).tolist() == [False, True]
