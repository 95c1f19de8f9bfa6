"""Rays and bodies, against marching along the ray in small steps."""

import numpy as np
import pytest

from retrim.zoo.synth.scan.shapes import Ellipsoid, Material, box, cut, post

PAINT = Material(reflectance=0.5)
STEP = 0.002


def inside(shape, points):
    """Whether points lie in a body, from its definition."""
    cos, sin = np.cos(shape.yaw), np.sin(shape.yaw)
    x, y, z = (points - shape.centre).T
    local = np.column_stack((cos * x + sin * y, cos * y - sin * x, z))
    if isinstance(shape, Ellipsoid):
        return ((local / shape.radii) ** 2).sum(axis=1) <= 1
    return (local @ shape.normals.T <= shape.offsets).all(axis=1)


def marched(shape, ray):
    steps = np.arange(0, 12, STEP)
    within = inside(shape, steps[:, None] * ray)
    return steps[within.argmax()] if within.any() else np.inf


def bodies():
    centre = np.array([6.0, 1.0, -0.4])
    plain = box(centre, (3.0, 1.5, 1.2), 0.7, PAINT)
    return [
        plain,
        cut(plain, [((1.0, 0.0, 1.0), 1.2), ((0.0, -2.0, 0.5), 1.0)]),
        post(centre, 0.4, 2.0, PAINT),
        Ellipsoid(centre=centre, yaw=-0.5, material=PAINT, radii=np.array([1.5, 0.6, 0.9])),
    ]


@pytest.mark.parametrize("shape", bodies(), ids=["box", "cut", "post", "ellipsoid"])
def test_rays_meet_a_body_where_marching_does(shape):
    generator = np.random.default_rng(0)
    towards = shape.centre + generator.uniform(-1.6, 1.6, (60, 3))
    rays = towards / np.linalg.norm(towards, axis=1)[:, None]
    distance, cosine = shape.hit(rays)
    wanted = np.array([marched(shape, ray) for ray in rays])
    assert 10 < np.isfinite(wanted).sum() < 60
    clear = np.isfinite(wanted) == np.isfinite(distance)
    assert clear.sum() >= 59  # a ray may graze an edge between two steps
    hit = clear & np.isfinite(wanted)
    np.testing.assert_allclose(distance[hit], wanted[hit], atol=STEP + 1e-9)
    assert ((cosine[hit] >= 0) & (cosine[hit] <= 1 + 1e-9)).all()


def test_a_wall_is_met_at_its_angle():
    wall = box(np.array([5.0, 0, 0]), (1.0, 20.0, 20.0), 0.0, PAINT)
    angle = 0.6
    distance, cosine = wall.hit(np.array([[np.cos(angle), np.sin(angle), 0.0]]))
    assert distance[0] == pytest.approx(4.5 / np.cos(angle))
    assert cosine[0] == pytest.approx(np.cos(angle))


def test_what_lies_behind_is_not_met():
    for shape in bodies():
        ray = -shape.centre / np.linalg.norm(shape.centre)
        assert np.isinf(shape.hit(ray[None])[0][0])


def test_the_reach_holds_the_body():
    generator = np.random.default_rng(1)
    for shape in bodies():
        points = shape.centre + generator.uniform(-3, 3, (4000, 3))
        within = inside(shape, points)
        assert np.linalg.norm(points[within] - shape.centre, axis=1).max() <= shape.reach
