"""Solids: half-spaces against the local description, bounds, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import solids

from conebeam.errors import GeometryError
from conebeam.geometry import (
    Box,
    Cone,
    HalfSpace,
    Intersection,
    Solid,
    Sphere,
    plane,
    rotation_matrix,
)
from conebeam.geometry.rotation import check_rotation


@given(solid=solids, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_half_spaces_describe_the_solid(solid: Solid, seed: int) -> None:
    box = solid.bounds()
    margin = 0.1 * (box[1] - box[0])
    points = np.random.default_rng(seed).uniform(box[0] - margin, box[1] + margin, (400, 3))
    values = np.max([half.value(points) for half in solid.half_spaces()], axis=0)
    clear = np.abs(values) > 1e-9
    assert np.array_equal((values <= 0.0)[clear], solid.contains(points)[clear])


@given(solid=solids, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_bounds_hold_the_solid_tightly(solid: Solid, seed: int) -> None:
    box = solid.bounds()
    wide = np.stack((box[0] - 1.0, box[1] + 1.0))
    points = np.random.default_rng(seed).uniform(wide[0], wide[1], (2000, 3))
    inside = points[solid.contains(points)]
    assert np.all(inside >= box[0] - 1e-9)
    assert np.all(inside <= box[1] + 1e-9)


def test_bounds_are_not_wider_than_needed() -> None:
    turned = Cone(base_radius_cm=3.0, height_cm=4.0, rotation=rotation_matrix(x_deg=90.0))
    # Its axis lies along -y: the base at y = +2, the apex at y = -2.
    assert turned.bounds() == pytest.approx(np.array([[-3.0, -2.0, -3.0], [3.0, 2.0, 3.0]]))


def test_values_are_about_distances() -> None:
    ball = Sphere(radius_cm=5.0, centre_cm=(100.0, 0.0, 0.0)).half_spaces()[0]
    assert ball.value(np.array([[105.01, 0, 0]]))[0] == pytest.approx(0.01, rel=2e-3)


def test_right_angles_are_exact() -> None:
    matrix = np.array(rotation_matrix(x_deg=90.0, y_deg=-180.0, z_deg=450.0))
    assert set(np.unique(np.abs(matrix))) == {0.0, 1.0}
    assert np.linalg.det(matrix) == 1.0


def test_rotation_order_is_x_then_y_then_z() -> None:
    matrix = np.array(rotation_matrix(x_deg=90.0, z_deg=90.0))
    # z goes to -y by the turn about x, and on to +x by the turn about z.
    assert matrix @ np.array([0.0, 0.0, 1.0]) == pytest.approx([1.0, 0.0, 0.0])


def test_intersections_join_bounds_and_half_spaces() -> None:
    cut = Intersection(
        parts=(Sphere(radius_cm=2.0), plane(np.array([0.0, 0.0, 2.0]), 0.5), Box(size_cm=(2, 9, 9)))
    )
    assert cut.bounds() == pytest.approx(np.array([[-1.0, -2.0, -2.0], [1.0, 2.0, 2.0]]))
    assert len(cut.half_spaces()) == 8
    inside = cut.contains(np.array([[0.0, 0, 0.4], [0, 0, 0.6], [1.1, 0, 0]]))
    assert inside.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Sphere(radius_cm=-1.0),
            "radius_cm of a sphere must be finite and positive, not -1.0",
        ),
        (
            lambda: Box(size_cm=(1.0, math.nan, 1.0)),
            "size_cm of a box must be finite and positive, not (1.0, nan, 1.0)",
        ),
        (
            lambda: Cone(base_radius_cm=1.0, top_radius_cm=-0.5, height_cm=1.0),
            "top_radius_cm of a cone must be finite and not negative, not -0.5",
        ),
        (
            lambda: Sphere(radius_cm=1.0, centre_cm=(0.0, 0.0, math.inf)),
            "the centre of a sphere must be three finite numbers in cm, not [0.0, 0.0, inf]",
        ),
        (
            lambda: check_rotation(((1, 0, 0), (0, 1, 0), (0, 0, -1)), "a box"),
            "the rotation of a box must be a proper orthonormal 3x3 matrix, not [[1.0, 0.0, 0.0],"
            " [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]; build it with "
            "rotation_matrix(x_deg=, y_deg=, z_deg=)",
        ),
        (
            lambda: rotation_matrix(x_deg=math.nan),
            "a rotation angle must be a finite number of degrees, not nan",
        ),
        (
            lambda: HalfSpace(coefficients=(0.0,) * 9 + (1.0,)),
            "a surface must depend on x, y or z, not be constant",
        ),
        (
            lambda: Intersection(parts=()),
            "an intersection must have at least one part, not none",
        ),
    ],
)
def test_impossible_solids_are_refused(build: object, message: str) -> None:
    with pytest.raises(GeometryError) as caught:
        build()  # type: ignore[operator]
    assert str(caught.value) == message
