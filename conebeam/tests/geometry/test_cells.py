"""Cells, geometry, the compiled table, and the check for overlaps and gaps."""

from __future__ import annotations

import numpy as np
import pytest

from conebeam.errors import GeometryError
from conebeam.geometry import (
    Box,
    Cell,
    Cylinder,
    Geometry,
    Lattice,
    LatticeCell,
    Sphere,
    check_geometry,
    find_gaps,
    find_overlaps,
    rotation_matrix,
)
from conebeam.geometry.overlap import quasi_random


def box(name: str, low: float, high: float, **more: object) -> Cell:
    size, centre = (4.0, 4.0, high - low), (0.0, 0.0, 0.5 * (low + high))
    region = Box(size_cm=size, centre_cm=centre)
    return Cell(name=name, region=region, material="water", density_g_cm3=1.0, **more)  # type: ignore[arg-type]


def lattice(**changes: object) -> Lattice:
    values: dict[str, object] = {
        "x_cm": [0.0, 1.0, 2.0],
        "y_cm": [0.0, 1.0],
        "z_cm": [0.0, 1.0],
        "material": np.zeros((2, 1, 1), dtype=np.int64),
        "density_g_cm3": np.ones((2, 1, 1)),
        "materials": ("water",),
    }
    return Lattice(**{**values, **changes})  # type: ignore[arg-type]


def test_cells_that_touch_do_not_overlap() -> None:
    geometry = Geometry(cells=(box("a", 0.0, 1.0), box("b", 1.0, 3.0)))
    check_geometry(geometry)
    assert find_overlaps(geometry) == ()


def test_touching_cells_share_the_surface_between_them() -> None:
    table = Geometry(cells=(box("a", 0.0, 1.0), box("b", 1.0, 3.0))).table()
    assert len(table.coefficients) == 4 + 3
    assert len(table.half_surface) == 12


@pytest.mark.parametrize("thickness", [1.0, 1e-2, 1e-4])
def test_overlaps_are_found_however_thin(thickness: float) -> None:
    geometry = Geometry(cells=(box("a", 0.0, 1.0 + thickness), box("b", 1.0, 3.0)))
    (overlap,) = find_overlaps(geometry)
    assert (overlap.first, overlap.second, overlap.priority) == ("a", "b", 0)
    point = np.array([overlap.point_cm])
    assert all(cell.contains(point)[0] for cell in geometry.cells)


def test_a_small_ball_poking_into_a_turned_cylinder_is_found() -> None:
    tube = Cylinder(radius_cm=5.0, height_cm=20.0, rotation=rotation_matrix(x_deg=30.0))
    ball = Sphere(radius_cm=0.1, centre_cm=(5.05, 0.0, 0.0))
    cells = [
        Cell(name=name, region=region, material="water", density_g_cm3=1.0)
        for name, region in (("tube", tube), ("ball", ball))
    ]
    assert len(find_overlaps(Geometry(cells=tuple(cells)))) == 1


def test_the_refusal_names_cells_point_and_remedy() -> None:
    geometry = Geometry(cells=(box("a", 0.0, 2.0), box("b", 1.0, 3.0)))
    with pytest.raises(GeometryError) as caught:
        check_geometry(geometry)
    (overlap,) = find_overlaps(geometry)
    x, y, z = overlap.point_cm
    assert 1.0 < z < 2.0
    assert str(caught.value) == (
        "cells of one priority must not overlap, not 'a' and 'b' (both priority 0) at "
        f"({x:.6g}, {y:.6g}, {z:.6g}) cm; give the one that should win a higher priority"
    )


def test_overlap_on_purpose_is_allowed() -> None:
    check_geometry(Geometry(cells=(box("a", 0.0, 2.0), box("b", 1.0, 3.0, priority=1))))


def test_gaps_are_found_with_a_point_and_the_nearest_cell() -> None:
    geometry = Geometry(cells=(box("a", 0.0, 1.0), box("b", 1.001, 3.0)))
    gaps = find_gaps(geometry)
    assert {gap.nearest for gap in gaps} == {"a", "b"}
    assert all(1.0 < gap.point_cm[2] < 1.001 for gap in gaps)
    assert find_gaps(Geometry(cells=(box("a", 0.0, 1.0), box("b", 1.0, 3.0)))) == ()


def test_gaps_are_looked_for_where_asked() -> None:
    geometry = Geometry(cells=(box("a", 0.0, 1.0),))
    assert find_gaps(geometry, within=np.array([[-1.0, -1, 0.2], [1, 1, 0.8]])) == ()
    assert len(find_gaps(geometry, within=np.array([[-1.0, -1, 0.2], [1, 1, 1.2]]))) == 1


def test_quasi_random_points_fill_evenly() -> None:
    points = quasi_random(np.array([[0.0, 0, 0], [1, 2, 3]]), 4096)
    counts, _ = np.histogramdd(points / (1, 2, 3), bins=(4, 4, 4), range=[(0, 1)] * 3)
    assert counts.min() > 50
    assert counts.max() < 78


def test_densities_come_from_the_cell_or_the_material() -> None:
    wall = Cell(name="wall", region=Sphere(radius_cm=1.0), material="lead")
    geometry = Geometry(cells=(wall, box("a", 2.0, 3.0)))
    assert geometry.table({"lead": 11.35}).cell_density.tolist() == [11.35, 1.0]
    with pytest.raises(GeometryError) as caught:
        geometry.table()
    assert str(caught.value) == ("cell 'wall' must have a density, and lead brings none; give density_g_cm3")


def test_one_lattice_is_not_copied() -> None:
    voxels = lattice()
    table = Geometry(cells=(LatticeCell(name="ct", lattice=voxels),)).table()
    assert np.shares_memory(table.voxel_density, voxels.density_g_cm3)
    assert np.shares_memory(table.voxel_material, voxels.material)


def test_read_only_arrays_give_the_table_kernels_are_compiled_for() -> None:
    density = np.full((2, 1, 1), 0.5, dtype=np.float32)
    material = np.zeros((2, 1, 1), dtype=np.uint8)
    density.flags.writeable = material.flags.writeable = False
    voxels = lattice(density_g_cm3=density, material=material)
    geometry = Geometry(cells=(LatticeCell(name="ct", lattice=voxels),))
    assert all(array.flags.writeable for array in geometry.table())
    assert geometry.locate(np.array([[0.5, 0.5, 0.5], [9.0, 0, 0]])).tolist() == [0, -1]


def test_materials_of_two_lattices_are_numbered_together() -> None:
    first = lattice(materials=("lung", "bone"), material=np.array([[[0]], [[1]]]))
    second = lattice(
        materials=("bone", "water"),
        material=np.array([[[0]], [[1]]]),
        translation_cm=(5.0, 0.0, 0.0),
    )
    cells = (LatticeCell(name="a", lattice=first), LatticeCell(name="b", lattice=second))
    geometry = Geometry(cells=cells)
    assert geometry.materials == ("lung", "bone", "water")
    assert geometry.table().voxel_material.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"density_g_cm3": np.array([[[1.0]], [[-0.5]]])},
            "densities must be finite and not negative, not -0.5 g/cm3 at voxel (1, 0, 0)",
        ),
        (
            {"density_g_cm3": np.array([[[np.nan]], [[1.0]]])},
            "densities must be finite and not negative, not nan g/cm3 at voxel (0, 0, 0)",
        ),
        (
            {"density_g_cm3": np.ones((1, 2, 1))},
            "the density array must have the shape (2, 1, 1) that the edges give, not (1, 2, 1)",
        ),
        (
            {"material": np.full((2, 1, 1), 3)},
            "material indices must lie in 0..0, not 3; name every material in materials",
        ),
        (
            {"material": np.zeros((2, 1, 1))},
            "the material array must hold whole numbers, not float64; give indices into materials",
        ),
        (
            {"x_cm": [0.0, 2.0, 1.0]},
            "x_cm must rise from edge to edge, not go from 2.0 to 1.0",
        ),
        (
            {"y_cm": [0.0]},
            "y_cm must be a list of at least two finite edges in cm",
        ),
        (
            {"materials": ()},
            "a voxel lattice must name 1 to 256 materials, not 0",
        ),
    ],
)
def test_bad_lattices_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(GeometryError) as caught:
        lattice(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Geometry(cells=()), "a geometry must have at least one cell, not none"),
        (
            lambda: Geometry(cells=(box("a", 0, 1), box("a", 1, 2))),
            "cell names must be unique, not twice 'a'",
        ),
        (
            lambda: Cell(name="a", region=Sphere(radius_cm=1), material="w", density_g_cm3=-1.0),
            "the density of cell 'a' must be finite and not negative, not -1.0 g/cm3",
        ),
        (
            lambda: Cell(name=" ", region=Sphere(radius_cm=1), material="w"),
            "a cell name must be a word without spaces around it, not ' '",
        ),
        (
            lambda: Geometry(cells=(box("a", 0, 1),)).index("b"),
            "cell 'b' must be one of a",
        ),
    ],
)
def test_bad_cells_are_refused(build: object, message: str) -> None:
    with pytest.raises(GeometryError) as caught:
        build()  # type: ignore[operator]
    assert str(caught.value) == message
