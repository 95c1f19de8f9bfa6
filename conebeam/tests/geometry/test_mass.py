"""Masses in a scoring grid that is not the phantom's."""

from __future__ import annotations

import numpy as np
import pytest

from conebeam.geometry import (
    Box,
    Cell,
    Geometry,
    Lattice,
    LatticeCell,
    Sphere,
    grid_masses,
    lattice_masses,
    rotation_matrix,
)


def voxels(**more: object) -> Lattice:
    rng = np.random.default_rng(5)
    shape = (4, 5, 6)
    edges = [np.cumsum(rng.uniform(0.2, 1.0, n + 1)) for n in shape]
    return Lattice(
        x_cm=edges[0], y_cm=edges[1], z_cm=edges[2],
        material=np.zeros(shape, np.uint8),
        density_g_cm3=rng.uniform(0.1, 2.0, shape), materials=("water",), **more,
    )  # fmt: skip


def grid(lattice: Lattice, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = lattice.bounds()
    x, y, z = (np.linspace(a - 0.1, b + 0.2, count) for a, b in zip(low, high, strict=True))
    return x, y, z


def test_aligned_masses_are_exact() -> None:
    lattice = voxels(translation_cm=(1.0, -2.0, 0.5))
    edges = grid(lattice, 5)
    masses = lattice_masses(lattice, edges)
    volumes = np.einsum("i,j,k->ijk", *(np.diff(e) for e in lattice.edges_cm))
    assert masses.sum() == pytest.approx((volumes * lattice.density_g_cm3).sum(), rel=1e-6)
    # One voxel by hand: the overlap of boxes, summed one by one.
    expected = 0.0
    for index in np.ndindex(*lattice.shape):
        overlap = 1.0
        for axis, (i, shift) in enumerate(zip(index, lattice.translation_cm, strict=True)):
            own = lattice.edges_cm[axis] + shift
            low, high = max(own[i], edges[axis][1]), min(own[i + 1], edges[axis][2])
            overlap *= max(0.0, high - low)
        expected += overlap * float(lattice.density_g_cm3[index])
    assert masses[1, 1, 1] == pytest.approx(expected, rel=1e-6)


def test_sampled_masses_agree_with_exact_ones() -> None:
    lattice = voxels()
    edges = grid(lattice, 3)
    # A speck far off makes the general way necessary.
    speck = Cell(name="s", region=Box(size_cm=(1, 1, 1), centre_cm=(50, 0, 0)), material="w",
                 density_g_cm3=1.0)  # fmt: skip
    geometry = Geometry(cells=(LatticeCell(name="ct", lattice=lattice), speck))
    sampled = grid_masses(geometry, geometry.table(), edges, samples=24**3)
    assert sampled == pytest.approx(lattice_masses(lattice, edges), rel=0.05)


def test_a_ball_in_a_turned_lattice_has_its_mass() -> None:
    turned = voxels(rotation=rotation_matrix(z_deg=30.0), translation_cm=(30.0, 0.0, 0.0))
    ball = Cell(name="b", region=Sphere(radius_cm=2.0), material="w", density_g_cm3=1.5)
    geometry = Geometry(cells=(ball, LatticeCell(name="ct", lattice=turned)))
    edges = tuple(np.linspace(-2.0, 2.0, 9) for _ in range(3))
    masses = grid_masses(geometry, geometry.table(), edges, samples=216)  # type: ignore[arg-type]
    assert masses.sum() == pytest.approx(1.5 * 4 / 3 * np.pi * 8.0, rel=2e-3)


def test_masses_do_not_fall_into_step_with_the_voxels() -> None:
    # 200 layers of alternating density in one dose voxel, and a speck that makes sampling necessary.
    layers = Lattice(
        x_cm=np.array([-1.0, 1.0]), y_cm=np.array([-1.0, 1.0]), z_cm=np.linspace(0.0, 2.0, 401),
        material=np.zeros((1, 1, 400), dtype=np.uint8),
        density_g_cm3=np.where(np.arange(400) % 2, 0.5, 1.5).reshape(1, 1, 400), materials=("w",),
    )  # fmt: skip
    speck = Cell(
        name="s", region=Box(size_cm=(1, 1, 1), centre_cm=(50, 0, 0)), material="w", density_g_cm3=1.0
    )
    geometry = Geometry(cells=(LatticeCell(name="ct", lattice=layers), speck))
    edges = (np.array([-1.0, 0.0, 1.0]), np.array([-1.0, 1.0]), np.array([0.0, 1.0, 2.0]))
    assert grid_masses(geometry, geometry.table(), edges) == pytest.approx(2.0, rel=0.03)
