"""Where photons start: fluence over fields, directions, energies."""

from __future__ import annotations

import numpy as np
import pytest
from emitting import draw
from scipy import stats

from conebeam.scene import Scene
from conebeam.sources.emission import (
    CIRCLE,
    PARALLEL,
    PENCIL,
    POINT,
    Emission,
    build_emission,
    fluence_ratio,
)
from conebeam.sources.spectrum import Spectrum, from_bins, monoenergetic

N = 200_000


def source(kind: int, shape: int = 0, spectrum: Spectrum | None = None, **more: object) -> Emission:
    values = {
        "position": np.array([0.0, 0.0, -20.0]), "direction": np.array([0.0, 0.0, 1.0]), "centre": np.zeros(3),
        "across": np.array([10.0, 0.0, 0.0]), "along": np.array([0.0, 10.0, 0.0]), **more,
    }  # fmt: skip
    return build_emission(
        kind=kind, shape=shape, spectrum=spectrum or monoenergetic(60.0), origin=(0.0, 0.0, 0.0), **values
    )  # type: ignore[arg-type]


def drawn(emission: Emission) -> np.ndarray:
    out = np.empty((N, 7))
    draw(emission, out)
    return out


def on_plane(rows: np.ndarray) -> np.ndarray:
    t = -rows[:, 2] / rows[:, 5]
    return rows[:, :2] + t[:, None] * rows[:, 3:5]


def test_a_point_is_isotropic_within_its_field() -> None:
    rows = drawn(source(POINT))
    assert np.linalg.norm(rows[:, 3:6], axis=1) == pytest.approx(1.0, abs=1e-12)
    at = on_plane(rows)
    assert np.abs(at).max() <= 10.0
    # Per area of the plane the number goes as cos³: a wide field shows it.
    counts = np.histogram2d(at[:, 0], at[:, 1], bins=8, range=((-10, 10), (-10, 10)))[0]
    fine = (np.arange(160) + 0.5) / 8.0 - 10.0
    weight = (20.0 / np.sqrt(400.0 + fine[:, None] ** 2 + fine[None, :] ** 2)) ** 3
    expected = weight.reshape(8, 20, 8, 20).sum(axis=(1, 3))
    assert stats.chisquare(counts.ravel(), (expected / expected.sum() * N).ravel()).pvalue > 1e-4
    assert weight.mean() == pytest.approx(fluence_ratio(20.0, 10.0, 10.0), rel=1e-4)


def test_the_reference_field_has_the_stated_ratio() -> None:
    # 10x10 cm at 100 cm: the fluence on the axis is 1.0025 times the mean.
    assert 1.0 / fluence_ratio(100.0, 5.0, 5.0) == pytest.approx(1.0025, abs=1e-4)


def test_an_oblique_source_covers_its_field_by_solid_angle() -> None:
    rows = drawn(source(POINT, position=np.array([0.0, -30.0, -20.0])))
    at = on_plane(rows)
    assert np.abs(at).max() <= 10.0 + 1e-9
    counts = np.histogram(at[:, 1], bins=8, range=(-10, 10))[0]
    fine = (np.arange(400) + 0.5) / 20.0 - 10.0
    weight = (400.0 + fine[:, None] ** 2 + (fine[None, :] + 30.0) ** 2) ** -1.5
    expected = weight.sum(axis=0).reshape(8, 50).sum(axis=1)
    assert stats.chisquare(counts, expected / expected.sum() * N).pvalue > 1e-4


def test_a_round_field_is_round() -> None:
    at = on_plane(drawn(source(POINT, CIRCLE)))
    r2 = np.sum(at**2, axis=1)
    assert r2.max() <= 100.0 + 1e-9
    # Solid angle within radius r: 1 - cos of the half-angle.
    share = (1.0 - 20.0 / np.sqrt(400.0 + r2)) / (1.0 - 20.0 / np.sqrt(500.0))
    assert stats.kstest(share, "uniform").pvalue > 1e-4


def test_parallel_and_pencil_go_straight() -> None:
    rows = drawn(source(PARALLEL))
    assert np.unique(rows[:, 3:6], axis=0).tolist() == [[0.0, 0.0, 1.0]]
    for column in (0, 1):
        assert stats.kstest(rows[:, column], "uniform", args=(-10.0, 20.0)).pvalue > 1e-4
    assert len(np.unique(drawn(source(PENCIL))[:, :6], axis=0)) == 1


def test_energies_are_even_within_bins_of_the_right_weight() -> None:
    spectrum = from_bins([20, 30, 40, 60, 61], [1.0, 0.0, 5.0, 2.0, 0.0], bins="edges")
    energy = drawn(source(PENCIL, spectrum=spectrum))[:, 6]
    counts = np.histogram(energy, [20, 30, 40, 60, 61])[0]
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]], N * np.array([1.0, 5.0, 2.0]) / 8.0).pvalue > 1e-4
    inside = energy[(energy > 40) & (energy < 60)]
    assert stats.kstest(inside, "uniform", args=(40.0, 20.0)).pvalue > 1e-4


def test_a_scene_turns_its_source() -> None:
    values = {
        "histories": 1, "phantom": {"kind": "water_box"}, "scorers": [{"kind": "dose"}],
        "source": {
            "kind": "point", "position_cm": (0, 0, -100), "spectrum": {"kind": "mono", "energy_kev": 60},
            "field": {"kind": "rectangle", "width_cm": 4, "height_cm": 2},
            "turn": {"angle_deg": 90, "axis": (0, 1, 0), "isocentre_cm": (0, 0, 15)},
        },
    }  # fmt: skip
    beam = Scene(**values).source.beam()
    assert beam.position == pytest.approx([-115.0, 0.0, 15.0])
    assert beam.direction == pytest.approx([1.0, 0.0, 0.0])
    assert beam.area == 8.0
