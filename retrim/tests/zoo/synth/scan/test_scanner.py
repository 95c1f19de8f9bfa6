"""What a scanner of 64 beams sees of simple streets."""

import numpy as np
import pytest

from retrim.zoo.synth.scan.bodies import Thing, drawn_size, made
from retrim.zoo.synth.scan.ground import SCANNER_HEIGHT, Ground
from retrim.zoo.synth.scan.scanner import ELEVATIONS, _window, rays, scanned
from retrim.zoo.synth.scan.shapes import Ellipsoid, Material, box
from retrim.zoo.synth.scan.street import Street, drawn_street

FLAT = Ground(heading=0.0, curvature=0.0, right=-100.0, left=100.0, slope=(0.0, 0.0), waves=np.zeros((0, 4)))
WHITE = Material(reflectance=1.0)


def wall(x, size=(0.2, 4.0, 3.0), name="", material=WHITE):
    place = np.array([x, 0.0, 0.0, *size, 0.0])
    return Thing(name, place, [box(place[:3], size, 0.0, material)])


def scan(*things, seed=0):
    return scanned(Street(FLAT, list(things)), np.random.default_rng(seed))


def test_beams_are_the_scanners():
    assert len(ELEVATIONS) == 64
    assert np.rad2deg(ELEVATIONS[[0, 31, 32, 63]]) == pytest.approx([2, -8.333, -8.83, -24.33], abs=1e-3)
    assert (np.diff(ELEVATIONS) < 0).all()
    np.testing.assert_allclose(np.linalg.norm(rays(), axis=2), 1, atol=1e-12)


def test_flat_ground_is_rings():
    found = scan()
    ground = found.points[np.hypot(found.points[:, 0], found.points[:, 1]) < 20]
    assert len(ground) > 5000
    assert np.abs(ground[:, 2] + SCANNER_HEIGHT).max() < 0.05  # 2 cm of noise along the ray
    down = np.unique(np.round(np.rad2deg(np.arctan2(-ground[:, 2], np.hypot(ground[:, 0], ground[:, 1]))), 1))
    assert down.min() > 4.5
    assert down.max() == pytest.approx(24.33, abs=0.15)


def test_the_noise_is_two_centimetres():
    found = scan(wall(10.0))
    depth = found.points[found.owners == 0, 0] - 9.9
    assert np.mean(depth) == pytest.approx(0, abs=0.002)
    assert np.std(depth) == pytest.approx(0.02, rel=0.1)


def test_what_stands_in_front_hides_what_is_behind():
    near, far = wall(10.0, (0.2, 2.0, 3.5)), wall(20.0, (0.2, 8.0, 3.5))
    found = scan(near, far)
    assert found.seen[0] == found.alone[0]
    assert found.seen[1] / found.alone[1] == pytest.approx(0.5, abs=0.03)  # 2 m at 9.9 m hide 4 m at 19.9
    np.testing.assert_array_equal(scan(far, near).seen, found.seen[::-1])


def test_returns_get_fewer_with_distance_and_on_glass():
    dark = Material(reflectance=0.02)
    shares = []
    for x in (10.0, 60.0, 100.0):
        found = scan(wall(x, (0.2, 12.0, 3.5), material=dark))
        shares.append((found.owners == 0).sum() / found.seen[0])
    assert shares[0] > 0.9 > shares[1] > shares[2]
    glass = scan(wall(10.0, material=Material(reflectance=0.5, swallows=0.65)))
    assert (glass.owners == 0).sum() / glass.seen[0] == pytest.approx(0.35, abs=0.06)


def test_windows_hold_all_rays_that_meet_a_shape():
    generator = np.random.default_rng(5)
    way = rays()
    for _ in range(40):
        centre = generator.uniform((0.5, -20, -3), (40, 20, 3))
        for shape in (
            Ellipsoid(centre=centre, yaw=0.3, material=WHITE, radii=generator.uniform(0.1, 3, 3)),
            box(centre, tuple(generator.uniform(0.1, 6, 3)), float(generator.uniform(-3, 3)), WHITE),
        ):
            met = np.isfinite(shape.hit(way)[0])
            outside = met.copy()
            outside[_window(shape)] = False
            assert not outside.any()


def test_bodies_fill_their_boxes():
    """Seen from all sides, points lie in the box and come near every face but the bottom."""
    generator = np.random.default_rng(2)
    turns = np.linspace(-np.pi, np.pi, 16, endpoint=False)
    for name in ("Car", "Van", "Truck", "Pedestrian", "Cyclist"):
        size = drawn_size(name, generator)
        far = max(9.0, (size[2] - 1.4) / np.tan(ELEVATIONS[0]))  # from where the top beam passes above it
        local = []
        for yaw in turns:
            place = np.array([far, 0.0, size[2] / 2 - SCANNER_HEIGHT, *size, yaw])
            found = scan(made(name, place, np.random.default_rng(3)))
            points = found.points[found.owners == 0, :3] - place[:3]
            cos, sin = np.cos(yaw), np.sin(yaw)
            local.append(np.column_stack((points @ [cos, sin, 0], points @ [-sin, cos, 0], points[:, 2])))
        local = np.concatenate(local)
        half = size / 2
        slack = 0.13 if name in ("Pedestrian", "Cyclist") else 0.09
        assert (np.abs(local) < half + slack).mean() > 0.99, name
        high = np.percentile(local, 99.9, axis=0)
        assert (high > half - 0.2).all(), (name, high, half)
        assert (np.percentile(local, 0.1, axis=0)[:2] < -half[:2] + 0.2).all(), name


def test_nothing_in_a_street_meets_anything_else():
    from retrim.zoo.kitti.overlap import intersections

    for seed in range(5):
        street = drawn_street(np.random.default_rng(seed))
        flat = np.array([thing.box[[0, 1, 3, 4, 6]] for thing in street.things])
        common = intersections(flat, flat)
        np.fill_diagonal(common, 0)
        assert not common.any()


def test_the_ground_is_met_where_it_is():
    ground = Ground.drawn(np.random.default_rng(0), -4.0, 7.0)
    way = rays()[40:].reshape(-1, 3)
    hits = way * ground.hit(way, 120.0)[:, None]
    assert np.abs(hits[:, 2] - ground.height(hits[:, 0], hits[:, 1])).max() < 0.01
    assert np.isinf(ground.hit(np.array([[1.0, 0, 0.2]]), 120.0)).all()
    x, y, _ = ground.place(10.0, -6.0)
    assert ground.beyond_kerb(np.asarray(x), np.asarray(y)) == 1
    x, y, _ = ground.place(10.0, 2.0)
    assert ground.beyond_kerb(np.asarray(x), np.asarray(y)) == 0
