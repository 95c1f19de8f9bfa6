"""Phantoms: what they are made of, and what they refuse."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from conebeam.errors import GeometryError
from conebeam.geometry import Geometry, Lattice, check_geometry, rotation_matrix, walk
from conebeam.phantoms import (
    BoxPhantom,
    CylinderPhantom,
    Insert,
    Layer,
    SlabPhantom,
    VoxelPhantom,
    read_voxels,
    water_box,
    write_voxels,
)


def lattice() -> Lattice:
    return Lattice(
        x_cm=np.array([0.0, 1.0, 3.0]), y_cm=np.array([0.0, 1.0]), z_cm=np.array([0.0, 2.0]),
        material=np.array([[[1]], [[0]]], dtype=np.uint8),
        density_g_cm3=np.array([[[1.1]], [[0.3]]], dtype=np.float32), materials=("water", "lung"),
    )  # fmt: skip


def test_the_water_box_is_the_reference_phantom() -> None:
    geometry = Geometry(cells=water_box().cells())
    assert geometry.bounds().tolist() == [[-15.0, -15.0, 0.0], [15.0, 15.0, 30.0]]
    assert walk.contents(geometry.table(), 0, 1.0, 2.0, 3.0) == (0, 1.0)
    assert geometry.materials == ("water",)


def test_slabs_lie_one_behind_the_other() -> None:
    phantom = SlabPhantom(
        width_cm=10.0,
        height_cm=8.0,
        front_cm=1.0,
        layers=(
            Layer(material="water", density_g_cm3=1.0, thickness_cm=2.0),
            Layer(material="lung", density_g_cm3=0.26, thickness_cm=3.0),
            Layer(material="water", density_g_cm3=1.01, thickness_cm=1.0),
        ),
    )
    table = Geometry(cells=phantom.cells()).table()
    found = [walk.contents(table, 0, 0.0, 0.0, z) for z in (1.5, 4.0, 6.5)]
    assert [m for m, _ in found] == [0, 1, 0]
    assert [d for _, d in found] == pytest.approx([1.0, 0.26, 1.01])


def test_a_cylinder_with_rods() -> None:
    phantom = CylinderPhantom(
        radius_cm=10.0, height_cm=20.0, material="water",
        inserts=(
            Insert(name="bone", material="bone", radius_cm=1.0, x_cm=5.0, y_cm=0.0),
            Insert(name="air", material="air", radius_cm=1.0, x_cm=0.0, y_cm=5.0, height_cm=4.0),
        ),
        centre_cm=(1.0, 0.0, 0.0), rotation=rotation_matrix(x_deg=90.0),
    )  # fmt: skip
    geometry = Geometry(cells=phantom.cells())
    check_geometry(geometry)
    # Lying along y: the phantom's own y points along world z.
    points = np.array([[6.0, 8.0, 0.0], [1.0, 0.0, 5.0], [1.0, 3.0, 5.0], [1.0, 0.0, 0.0]])
    assert geometry.locate(points).tolist() == [1, 2, 0, 0]


def test_voxel_files_come_back(tmp_path: Path) -> None:
    path = tmp_path / "ct.npz"
    write_voxels(lattice(), path)
    again = read_voxels(path)
    assert again.materials == ("water", "lung")
    assert np.array_equal(again.material, lattice().material)
    assert np.array_equal(again.density_g_cm3, lattice().density_g_cm3)
    assert np.array_equal(again.x_cm, lattice().x_cm)
    assert [p.name for p in tmp_path.iterdir()] == ["ct.npz"]
    assert VoxelPhantom(voxels=again).cells()[0].lattice is again


def test_damaged_voxel_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ct.npz"
    write_voxels(lattice(), path)
    content = path.read_bytes()
    message = (
        f"voxel file '{path}' must be a whole .npz archive of plain arrays, and is damaged or of another kind"
    )
    flipped = [
        content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
        for at in range(content.index(b"material.npy") + 12, len(content) // 2, 7)
        for bit in (0, 5)
    ]
    for damaged in flipped:  # deflated data: some of it is found by zlib alone
        path.write_bytes(damaged)
        with contextlib.suppress(GeometryError):
            read_voxels(path)
    for damaged in (content[: len(content) // 2], b"", b"text", np.arange(3).tobytes()):
        path.write_bytes(damaged)
        with pytest.raises(GeometryError) as caught:
            read_voxels(path)
        assert str(caught.value) == message
    np.savez(path, x_cm=np.arange(3.0))
    with pytest.raises(GeometryError) as caught:
        read_voxels(path)
    assert str(caught.value) == (
        f"voxel file '{path}' must hold x_cm, y_cm, z_cm, material, density_g_cm3, materials, and lacks y_cm"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: SlabPhantom(width_cm=1.0, height_cm=1.0, layers=()),
            "a slab phantom must have at least one layer, not none",
        ),
        (
            lambda: Layer(material="w", density_g_cm3=1.0, thickness_cm=0.0),
            "the thickness of a layer must be positive, not 0.0 cm",
        ),
        (
            lambda: BoxPhantom(size_cm=(1, -1, 1), material="w", density_g_cm3=1.0),
            "the size of a box phantom must be positive, not (1, -1, 1)",
        ),
        (
            lambda: BoxPhantom(size_cm=(1, 1, 1), material="w", density_g_cm3=-1.0).lattice(),
            "densities must be finite and not negative, not -1.0 g/cm3 at voxel (0, 0, 0)",
        ),
        (
            lambda: CylinderPhantom(
                radius_cm=5.0, height_cm=5.0, material="w",
                inserts=(Insert(name="rod", material="w", radius_cm=1.0, x_cm=4.5, y_cm=0.0),),
            ),
            "insert 'rod' must lie inside the cylinder of radius 5.0 cm and height 5.0 cm, "
            "not reach 5.5 cm from its axis",
        ),
    ],
)  # fmt: skip
def test_bad_phantoms_are_refused(build: object, message: str) -> None:
    with pytest.raises(GeometryError) as caught:
        build()  # type: ignore[operator]
    assert str(caught.value) == message
