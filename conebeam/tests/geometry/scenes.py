"""Random solids, cells and rays for the tests of the geometry."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from conebeam.geometry import (
    Box,
    Cell,
    Cone,
    Cylinder,
    Ellipsoid,
    Geometry,
    Lattice,
    LatticeCell,
    Sphere,
    Wedge,
    rotation_matrix,
)

sizes = st.floats(0.2, 6.0)
places = st.tuples(*[st.floats(-5.0, 5.0)] * 3)
angles = st.one_of(st.just(0.0), st.just(90.0), st.floats(-180.0, 180.0))
rotations = st.builds(rotation_matrix, x_deg=angles, y_deg=angles, z_deg=angles)
placed = {"centre_cm": places, "rotation": rotations}

boxes = st.builds(Box, size_cm=st.tuples(sizes, sizes, sizes), **placed)
spheres = st.builds(Sphere, radius_cm=sizes, **placed)
ellipsoids = st.builds(Ellipsoid, semi_axes_cm=st.tuples(sizes, sizes, sizes), **placed)
cylinders = st.builds(Cylinder, radius_cm=sizes, height_cm=sizes, **placed)
cones = st.builds(
    Cone,
    base_radius_cm=sizes,
    top_radius_cm=st.one_of(st.just(0.0), sizes),
    height_cm=sizes,
    **placed,
)
wedges = st.builds(Wedge, size_cm=st.tuples(sizes, sizes, sizes), **placed)
solids = st.one_of(boxes, spheres, ellipsoids, cylinders, cones, wedges)


@st.composite
def lattices(draw: st.DrawFn) -> Lattice:
    """A lattice of up to 5 voxels an axis, regular or not, turned and shifted."""
    edges = []
    for _ in range(3):
        steps = draw(
            st.one_of(
                st.lists(st.floats(0.05, 3.0), min_size=1, max_size=5),
                st.tuples(st.integers(1, 5), st.floats(0.1, 2.0)).map(lambda t: [t[1]] * t[0]),
            )
        )
        edges.append(draw(st.floats(-4.0, 2.0)) + np.concatenate(([0.0], np.cumsum(steps))))
    shape = tuple(len(e) - 1 for e in edges)
    index = np.arange(np.prod(shape)).reshape(shape)
    return Lattice(
        x_cm=edges[0],
        y_cm=edges[1],
        z_cm=edges[2],
        material=(index % 3).astype(np.uint8),
        density_g_cm3=(1.0 + 0.01 * index).astype(np.float32),
        materials=("water", "bone", "lung"),
        rotation=draw(rotations),
        translation_cm=draw(places),
    )


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Up to five cells of different priority, among them perhaps a lattice."""
    regions = draw(st.lists(solids, min_size=1, max_size=4))
    cells: list[Cell | LatticeCell] = [
        Cell(name=f"c{i}", region=region, material="water", density_g_cm3=1.0, priority=i)
        for i, region in enumerate(regions)
    ]
    if draw(st.booleans()):
        cells.append(
            LatticeCell(name="ct", lattice=draw(lattices()), priority=draw(st.integers(-1, 9)) * 10 + 5)
        )
    return Geometry(cells=tuple(draw(st.permutations(cells))))


@st.composite
def rays(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A start and a unit direction, aligned with an axis now and then."""
    start = np.array(draw(st.tuples(*[st.floats(-12.0, 12.0)] * 3)))
    along = draw(
        st.one_of(
            st.sampled_from([(1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (1e-9, 0.0, -1.0)]),
            st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda d: sum(c * c for c in d) > 1e-3),
        )
    )
    direction = np.array(along)
    return start, direction / np.linalg.norm(direction)
