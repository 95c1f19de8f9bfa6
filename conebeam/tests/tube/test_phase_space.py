"""The focal spot's image, photons that leave the target by angle, and photons of equal weight."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tubes import OPENING, bands, run
from typer.testing import CliRunner

from conebeam.cli import app
from conebeam.errors import ConfigError
from conebeam.histories import tube_scores as scores
from conebeam.result_file import load
from conebeam.tube.emission import Analog, Emission, Expected
from conebeam.tube.engine import TubeEngine
from conebeam.tube.model import ParallelRectangularBeam, View, XrayTube
from conebeam.tube.photons import sample_photons
from conebeam.tube.result import TubeResult
from conebeam.tube.run import tube_job

TUBE = XrayTube.of(kvp=100.0, elastic="sr")
BOTH = (Expected(), Analog(split=4))
WITH = View(field_cm=10.0, distance_cm=1.1, with_heel=False, spot_pixels=24, angles=18)


@pytest.mark.parametrize("emission", BOTH)
def test_image_and_angles_change_nothing_else(emission: Emission) -> None:
    more = tube_job(TUBE, WITH, electrons=640, emission=emission).run()
    plain = tube_job(TUBE, OPENING, electrons=640, emission=emission).run()
    for name in plain.names:
        assert np.array_equal(more[name].values, plain[name].values), name
    assert set(more.names) - set(plain.names) == {"spot", "spot squares", "leaving", "leaving squares"}
    found = TubeResult(more, TUBE, WITH)
    # 1x1 mm of electrons and their few hundredths beside it: all of the field lies in the image.
    assert found.spot.sum() == pytest.approx(found.total(scores.FIELD)[0], rel=1e-9)


@pytest.mark.parametrize("emission", BOTH)
def test_the_spot_is_the_beam_seen_along_the_axis(emission: Emission) -> None:
    """A rectangle of 2x0.5 mm (y by z) on a face at 12 degrees: 2 mm by 0.5 tan 12 = 0.106 mm."""
    beam = ParallelRectangularBeam(half_y_mm=1.0, half_z_mm=0.25)
    view = View(field_cm=20.0, with_heel=False, spot_pixels=60, spot_half_mm=1.5)
    tube = XrayTube.of(kvp=100.0, elastic="sr", beam=beam)
    # Analog photons seldom meet a far field: a near one sees the same spot.
    near = (
        view
        if isinstance(emission, Expected)
        else view.model_copy(update={"field_cm": 10.0, "distance_cm": 1.1})
    )
    electrons = 4_000 if isinstance(emission, Expected) else 80_000
    found = TubeResult(tube_job(tube, near, electrons=electrons, emission=emission).run(), tube, near)
    at = 0.5 * (found.spot_edges_mm[1:] + found.spot_edges_mm[:-1])
    across, along = found.spot.sum(axis=1), found.spot.sum(axis=0)
    rms_x, rms_y = (np.sqrt((line @ at**2) / line.sum()) for line in (across, along))
    assert rms_y == pytest.approx(2.0 / np.sqrt(12.0), rel=0.05)
    # Pixels of 0.05 mm, and electrons that spread some micrometres.
    assert rms_x == pytest.approx(np.sqrt(0.106**2 + 0.05**2) / np.sqrt(12.0), abs=0.01)


def test_photons_leave_by_the_face_alone_and_alike_in_both_emissions() -> None:
    analog, sigma, engine = run(60_000, Analog(split=10), view=WITH)
    expected, sigma_expected, _ = run(12_000, Expected(interior=1.0), view=WITH, seed=2)
    aim = engine._aim
    first = aim.first_leaving
    chi2 = 0.0
    for angle in range(0, 18, 3):
        three = slice(first + angle * aim.bins, first + (angle + 3) * aim.bins)
        error = np.hypot(sigma[three].sum(), sigma_expected[three].sum())
        chi2 += ((analog[three].sum() - expected[three].sum()) / error) ** 2
    assert chi2 < stats.chi2.ppf(0.999, 6)
    # All angles: what crosses the wide opening is a part of it, and the face looks away from the anode.
    assert analog[first:].sum() > analog[scores.FIELD_ALL]
    forward = analog[first : first + 9 * aim.bins].sum()
    assert analog[scores.FIELD_ALL] < forward < 1.4 * analog[scores.FIELD_ALL]


@pytest.mark.parametrize("emission", BOTH)
def test_kept_photons_are_the_spectrum_of_the_same_run(emission: Emission) -> None:
    """One seed: what differs is the comb alone, below one photon a history and band."""
    electrons, weight = 4_000, 4e-3 if isinstance(emission, Analog) else 1e-5
    kept = sample_photons(TUBE, OPENING, electrons=electrons, weight=weight, emission=emission)
    mean = run(electrons, emission)[0]
    edges = np.arange(0.0, 100.5, 0.5)
    found = np.histogram(kept.energy_kev, edges)[0] * weight / electrons
    scored = mean[scores.SPECTRUM : scores.SPECTRUM + 200]
    assert kept.energy_kev.size > 3_000
    for low in range(10, 90, 10):
        band = slice(2 * low, 2 * low + 20)
        noise = weight * np.sqrt(max(1.0, scored[band].sum() * electrons / weight)) / electrons
        assert abs(found[band].sum() - scored[band].sum()) < 4.0 * noise


def test_photons_of_equal_weight_agree_with_analog() -> None:
    electrons, weight = 8_000, 1e-4
    kept = sample_photons(TUBE, OPENING, electrons=electrons, weight=weight, seed=4)
    per_electron = np.zeros((electrons, 200))
    np.add.at(per_electron, (kept.electron, (2.0 * kept.energy_kev).astype(int)), weight)
    mean = per_electron.mean(axis=0)
    sigma = per_electron.std(axis=0) / np.sqrt(electrons)
    analog, sigma_analog, _ = run(60_000, Analog(split=10), seed=5)
    part = slice(scores.SPECTRUM, scores.SPECTRUM + 200)
    chi2 = bands((mean, sigma), (analog[part], sigma_analog[part]), 0, list(range(10, 96, 5)))
    assert chi2 < stats.chi2.ppf(0.999, 17)


def test_kept_photons_lie_in_the_field_and_come_from_the_spot() -> None:
    kept = sample_photons(TUBE, View(with_heel=False), electrons=500, weight=1e-6)
    assert np.abs(kept.place_cm).max() <= 10.0
    assert np.linalg.norm(kept.direction, axis=1) == pytest.approx(1.0, abs=1e-12)
    back = kept.place_cm - 100.0 * kept.direction[:, :2] / kept.direction[:, 2:]
    # Drawn back to the focus: within the beam's half millimetre and 2.4 mm of face in a 10 cm field's corner.
    assert np.abs(back).max() < 0.1
    assert np.all(np.diff(kept.electron) >= 0)


def test_room_for_photons_is_found() -> None:
    engine = TubeEngine(TUBE, OPENING)
    assert np.array_equal(engine.photons(0, 20, 1e-5, room=3), engine.photons(0, 20, 1e-5))


@pytest.mark.parametrize(("electrons", "weight", "message"), [
    (0, 1.0, "electrons must be at least 1, not 0"),
    (10, 0.0, "weight must be positive and finite, not 0"),
])  # fmt: skip
def test_bad_requests_are_one_sentence(electrons: int, weight: float, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        sample_photons(TUBE, electrons=electrons, weight=weight)
    assert str(error.value) == message


def test_the_command_writes_image_and_angles(tmp_path: Path) -> None:
    path, picture = tmp_path / "t.json", tmp_path / "t.png"
    done = CliRunner().invoke(app, [
        "tube", "--kvp", "60", "--elastic", "sr", "--target", "W", "--thickness-mm", "0.001", "--base", "Cu",
        "--electrons", "300", "--no-heel", "--spot-pixels", "8", "--spot-half-mm", "0.8", "--angles", "6",
        "--json", str(path), "--plot", str(picture), "--out", str(tmp_path / "t.h5"),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads(path.read_text())
    assert np.array(content["spot"]["fluence_above_15kev_per_cm2_per_electron"]).shape == (8, 8)
    assert content["spot"]["x_mm_edges"] == pytest.approx(np.linspace(-0.8, 0.8, 9))
    assert np.array(content["leaving"]["photons_per_electron"]).shape == (6, 120)
    assert content["leaving"]["angle_deg_edges"] == pytest.approx([0, 30, 60, 90, 120, 150, 180])
    assert picture.stat().st_size > 10_000
    kept = load(tmp_path / "t.h5")
    assert np.array_equal(kept["spot"].values, content["spot"]["fluence_above_15kev_per_cm2_per_electron"])
    assert np.array_equal(kept["leaving"].values, content["leaving"]["photons_per_electron"])
