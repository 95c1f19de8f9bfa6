"""Sources as numbers."""

from __future__ import annotations

import numpy as np
import pytest

from conebeam.scene import (
    Circle,
    Monoenergetic,
    ParallelSource,
    PencilSource,
    PointSource,
    Rectangle,
    Turn,
    parse_filter,
)
from conebeam.scene.source import CIRCLE, PARALLEL, PENCIL, POINT, field_points

MONO = Monoenergetic(energy_kev=60.0)


def test_a_point_source_is_its_field_and_position() -> None:
    field = Rectangle(centre_cm=(0, 0, 50), width_cm=20.0, height_cm=10.0)
    beam = PointSource(position_cm=(0, 0, -50), field=field, spectrum=MONO).beam()
    assert beam.kind == POINT
    assert beam.direction.tolist() == [0.0, 0.0, 1.0]
    assert np.abs(beam.u).tolist() == [10.0, 0.0, 0.0]
    assert np.abs(beam.v).tolist() == [0.0, 5.0, 0.0]
    assert beam.area == 200.0


def test_an_oblique_source_keeps_its_field_in_place() -> None:
    # Tomosynthesis: the source moves, the field stays in the plane z = 180.
    field = Rectangle(centre_cm=(0, 0, 180), width_cm=39.0, height_cm=39.0)
    beam = PointSource(position_cm=(0, -48.2, 0), field=field, spectrum=MONO).beam()
    corners = field_points(beam, 2)
    assert set(corners[:, 2]) == {180.0}
    assert np.abs(corners[:, :2]).max() == 19.5
    assert np.linalg.norm(beam.direction) == pytest.approx(1.0)


def test_turning_about_the_isocentre() -> None:
    field = Rectangle(width_cm=10.0, height_cm=4.0)
    turn = Turn(angle_deg=90.0, axis=(0, 1, 0), isocentre_cm=(0, 0, 10))
    beam = PointSource(position_cm=(0, 0, -90), field=field, spectrum=MONO, turn=turn).beam()
    # About +y, -z goes to -x.
    assert beam.position == pytest.approx([-100.0, 0.0, 10.0])
    assert beam.centre == pytest.approx([-10.0, 0.0, 10.0])
    assert beam.direction == pytest.approx([1.0, 0.0, 0.0])
    assert np.abs(beam.u) == pytest.approx([0.0, 0.0, 5.0])


def test_parallel_and_pencil() -> None:
    field = Circle(diameter_cm=4.0, normal=(0, 0, 2))
    beam = ParallelSource(field=field, spectrum=MONO).beam()
    assert (beam.kind, beam.shape) == (PARALLEL, CIRCLE)
    assert beam.area == pytest.approx(np.pi * 4.0)
    assert beam.direction.tolist() == [0.0, 0.0, 1.0]
    radii = np.linalg.norm(field_points(beam, 5), axis=1)
    assert radii.max() == pytest.approx(2.0)
    pencil = PencilSource(position_cm=(1, 2, 3), direction=(0, 3, 4), spectrum=MONO).beam()
    assert pencil.kind == PENCIL
    assert pencil.direction == pytest.approx([0.0, 0.6, 0.8])


def test_filters_in_words() -> None:
    assert parse_filter("Al:2.5mm").thickness_mm == 2.5
    assert parse_filter(" Cu : 0.1 cm").thickness_mm == 1.0
    assert parse_filter("Be:300um").thickness_mm == pytest.approx(0.3)
    for text in ("Al", "Al:2.5", ":2mm", "Al:-1mm", "Al:0mm", "Al:xmm"):
        with pytest.raises(ValueError, match="must read MATERIAL:THICKNESSmm"):
            parse_filter(text)
