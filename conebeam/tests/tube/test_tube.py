"""The tube as a command and as a Python object: contract, bad input, resuming, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spekpy
from typer.testing import CliRunner

from conebeam.cli import app
from conebeam.errors import ConfigError, DataError
from conebeam.histories import tube_scores as scores
from conebeam.result_file import load
from conebeam.tube.emission import Analog, Expected
from conebeam.tube.engine import TubeEngine
from conebeam.tube.export import write_spekpy
from conebeam.tube.model import ParallelRectangularBeam, View, XrayTube
from conebeam.tube.result import ELECTRONS_PER_MAS, TubeResult, half_value_layer_mm, k_alpha_fraction
from conebeam.tube.run import run_tube_job, tube_job

TUBE = XrayTube.of(kvp=100.0, elastic="sr")


def conebeam(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def hundred() -> TubeResult:
    return run_tube_job(TUBE, View(), electrons=20_000)


@pytest.fixture(scope="module")
def columned() -> TubeResult:
    tube = XrayTube.of(kvp=100.0, filters=("Al:2.5mm",), elastic="sr")
    return run_tube_job(tube, View(with_heel=False, columns=5), electrons=6_000)


def spekpy_beam(x_cm: float) -> tuple[float, float]:
    """Fluence and mean energy off the axis, 100 kV, 12 degrees, 2.5 mm Al."""
    spek = spekpy.Spek(kvp=100.0, th=12.0, dk=0.5, x=x_cm, z=100.0).filter("Al", 2.5)
    energies, fluence = spek.get_spectrum(diff=False)
    return float(fluence.sum()), float(energies @ fluence / fluence.sum())


def test_the_contract_is_kept(tmp_path: Path) -> None:
    path, picture, export = tmp_path / "t.json", tmp_path / "t.png", tmp_path / "t.spk"
    done = conebeam(
        "tube", "--kvp", 100, "--anode-angle", 12, "--filter", "Al:2.5mm", "--elastic", "sr", "--electrons", 2000,
        "--columns", 4, "--json", path, "--plot", picture, "--spekpy", export,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads(path.read_text())
    assert {
        "energy_kev_edges", "fluence_per_cm2_per_electron", "sigma", "field_cm", "total_above_15kev",
        "mean_energy_above_15kev", "k_alpha_fraction", "heel", "backscatter", "electrons", "cpu_seconds",
    } <= set(content)  # fmt: skip
    edges = content["energy_kev_edges"]
    assert edges[0] == 0.0 and edges[-1] == 100.0
    assert len(content["fluence_per_cm2_per_electron"]) == len(content["sigma"]) == len(edges) - 1
    assert content["heel"]["x_cm"] == pytest.approx(np.arange(-19.0, 20.0, 2.0))
    assert len(content["heel"]["fluence"]) == len(content["heel"]["sigma"]) == 20
    assert content["field_cm"] == 20.0 and content["electrons"] == 2000
    hard = np.array(edges[:-1]) >= 15.0
    spectrum = np.array(content["fluence_per_cm2_per_electron"])
    assert content["total_above_15kev"] == pytest.approx(spectrum[hard].sum())
    columns = content["columns"]
    assert columns["x_cm_edges"] == [-10.0, -5.0, 0.0, 5.0, 10.0]
    for key in ("fluence_per_cm2_per_electron", "sigma"):
        assert np.array(columns[key]).shape == (4, 200)
    assert np.mean(columns["total_per_cm2_per_electron"]) == pytest.approx(spectrum.sum())
    assert len(columns["total_sigma"]) == 4
    assert picture.stat().st_size > 10_000 and export.exists()


def test_beamnrc_at_100_kv(hundred: TubeResult) -> None:
    """BEAMnrc, screened Rutherford, 12 degrees: 7.52e-8 per cm2 and electron ± 0.5 %, 41.2 keV."""
    fluence, sigma = hundred.total(scores.FIELD)
    assert sigma < 0.006
    assert fluence == pytest.approx(7.52e-8, rel=0.03)
    assert hundred.mean_energy_kev == pytest.approx(41.2, rel=0.01)
    assert hundred.total(scores.FIELD_ELECTRONS)[0] < hundred.total(scores.BACK)[0]


def test_the_heel_falls_towards_the_anode(hundred: TubeResult) -> None:
    x = 0.5 * (hundred.heel_edges[1:] + hundred.heel_edges[:-1])
    towards_anode = hundred.heel[(x > -16.0) & (x < -12.0)].mean()
    towards_cathode = hundred.heel[(x > 12.0) & (x < 16.0)].mean()
    assert towards_anode < 0.75 * towards_cathode


@pytest.mark.parametrize(("emission", "distance"), [(Expected(), 100.0), (Analog(split=2), 5.0)])
def test_columns_add_up_to_the_field_and_change_nothing_else(
    emission: Expected | Analog, distance: float
) -> None:
    view = View(distance_cm=distance, with_heel=False, columns=5)
    with_columns = tube_job(TUBE, view, electrons=640, emission=emission).run()
    plain = View(distance_cm=distance, with_heel=False)
    without = tube_job(TUBE, plain, electrons=640, emission=emission).run()
    for name in without.names:
        assert np.array_equal(with_columns[name].values, without[name].values), name
    assert set(with_columns.names) - set(without.names) == {
        "columns", "columns squares", "column totals", "column totals squares",
    }  # fmt: skip
    found = TubeResult(with_columns, TUBE, view)
    assert found.column_edges == pytest.approx([-10.0, -6.0, -2.0, 2.0, 6.0, 10.0])
    # A column is a fifth of the field's area, and every bin of the field is scored once.
    assert found.columns.mean(axis=0) == pytest.approx(found.fluence, rel=1e-12)
    assert found.columns.sum(axis=1) == pytest.approx(found.column_totals, rel=1e-12)
    # σ of a sum over bins that share histories is no sum of their σ: it is scored by itself.
    assert np.array_equal(np.isnan(found.column_totals_sigma), found.column_totals == 0.0)
    assert found.column_totals.max() > 0.0


def test_columns_near_the_anode_are_fewer_and_harder_photons(columned: TubeResult) -> None:
    energies, spectra = columned.energies, columned.columns
    mean = spectra @ energies / spectra.sum(axis=1)
    fall = columned.column_totals[0] / columned.column_totals[-1]
    # SpekPy at the middles of the outer columns; σ of the ratio of fluences is 1.3 % of what they do not share.
    theirs = [spekpy_beam(x) for x in (-8.0, 8.0)]
    assert fall == pytest.approx(theirs[0][0] / theirs[1][0], abs=0.03)
    assert mean[0] / mean[-1] == pytest.approx(theirs[0][1] / theirs[1][1], abs=0.012)
    assert mean[0] > 1.02 * mean[-1]


def test_a_filter_takes_what_the_tables_say(hundred: TubeResult) -> None:
    filtered = run_tube_job(
        XrayTube.of(kvp=100.0, elastic="sr", filters=("Al:2.5mm",)), View(), electrons=20_000
    )
    near = (hundred.energies > 30.0) & (hundred.energies < 31.0)
    passed = filtered.fluence[near].sum() / hundred.fluence[near].sum()
    # NIST: μ/ρ of Al is 1.128 cm2/g at 30 keV and falls as E^-2.8; the same electrons, so that noise cancels.
    assert passed == pytest.approx(np.exp(-1.077 * 2.699 * 0.25), rel=0.02)


def test_numbers_of_threads_and_parts_change_no_bit(tmp_path: Path) -> None:
    one = tube_job(TUBE, electrons=640, threads=1).run()
    two = tube_job(TUBE, electrons=640, threads=2).run()
    assert one.digest() == two.digest()


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "tube.h5"
    job = tube_job(TUBE, electrons=640, path=path)

    def stop(result: Any) -> None:
        if len(result.done) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(stop)
    resumed = tube_job(TUBE, electrons=640, path=path)
    assert len(resumed.start().done) == 20
    assert resumed.run().digest() == tube_job(TUBE, electrons=640).run().digest()


def test_a_target_uncertainty_is_reached() -> None:
    result = run_tube_job(TUBE, View(field_cm=2.0, with_heel=False), uncertainty=0.05)
    assert result.total(scores.FIELD)[1] < 0.07
    assert result.electrons < 100_000


def test_the_export_is_read_by_spekpy(hundred: TubeResult, tmp_path: Path) -> None:
    path = tmp_path / "spectrum.txt"
    write_spekpy(hundred, path)
    spek = spekpy.Spek.load_from_file(str(path), " ", z=100.0, mas=1.0)
    assert float(spek.get_flu()) == pytest.approx(hundred.fluence.sum() * ELECTRONS_PER_MAS, rel=1e-4)


def test_half_value_layer_of_one_energy() -> None:
    energies = np.array([29.75, 30.25])
    # AAPM TG-195, case 1: 2.273 mm of aluminium at 30 keV.
    assert half_value_layer_mm(energies, np.ones(2)) == pytest.approx(2.273, rel=0.005)
    assert half_value_layer_mm(energies, np.ones(2), layers=2) == pytest.approx(4.546, rel=0.005)


def test_k_alpha_is_counted_above_a_straight_continuum() -> None:
    energies = np.arange(0.25, 100.0, 0.5)
    slope = 200.0 - energies
    lines = slope.copy()
    lines[(energies > 57.9) & (energies < 58.4)] += 700.0
    fraction = k_alpha_fraction(energies, lines)
    assert fraction == pytest.approx(700.0 / lines[energies > 15.0].sum())
    assert k_alpha_fraction(energies, slope) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("changes", "message"), [
    ({"kvp": 300.0}, "kvp must be at most 150.0, not 300.0"),
    ({"kvp": 5.0}, "kvp must be at least 20.0, not 5.0"),
    ({"anode_angle_deg": 0.0}, "anode_angle_deg must be greater than 0.0, not 0.0"),
    ({"anode_angle_deg": 90.0}, "anode_angle_deg must be below 90.0, not 90.0"),
    ({"target": "Ag"}, "target must be one of W, W-Re, Mo, Rh, Cu (those with tables for electrons), not 'Ag'"),
    ({"filters": ("Al:-1mm",)}, "filters must read MATERIAL:THICKNESSmm such as 'Al:2.5mm', not 'Al:-1mm'"),
    ({"kvp": 24.0, "cut_kev": 14.0}, "cut_kev must be at most half of kvp, not 14 keV of 24 kV"),
    ({"beam": ParallelRectangularBeam(depth_um=600.0)},
     "beam.depth_um must be less than the target's thickness, 500 µm, not 600"),
    ({"voltage": 1.0}, "a xray tube must not have the unknown key 'voltage'; remove it"),
])  # fmt: skip
def test_bad_tubes_are_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        XrayTube.of(**{"kvp": 100.0, **changes})
    assert str(error.value) == message


def test_a_target_thinner_than_the_range_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError) as error:
        XrayTube.of(kvp=100.0, thickness_mm=0.001)
    assert "thickness_mm must be at least the range of the electrons, 0.0" in str(error.value)
    assert "what lies behind the target is not modelled" in str(error.value)


def test_electrons_that_miss_the_target_are_refused() -> None:
    with pytest.raises(ConfigError, match="with u below 0, from the cathode towards the anode"):
        ParallelRectangularBeam(direction=(1.0, 0.0, 0.0))


def test_an_unknown_filter_lists_what_there_is() -> None:
    with pytest.raises(DataError, match="material 'unobtainium' must be one of the library: Ag, Al"):
        TubeEngine(XrayTube.of(kvp=100.0, filters=("unobtainium:1mm",)))


@pytest.mark.parametrize(("arguments", "message"), [
    (("--kvp", 100, "--electrons", 0), "electrons must be at least 1, not 0"),
    (("--kvp", 100, "--electrons", 10, "--uncertainty", "1%"),
     "a tube's run must have either a number of electrons or an uncertainty, not both or none"),
    (("--electrons", 10), "a tube must have its voltage: give --kvp or --tube FILE"),
    (("--kvp", 100, "--filter", "Al"), "--filter must read MATERIAL:THICKNESSmm such as 'Al:2.5mm', not 'Al'"),
    (("--kvp", 100, "--uncertainty", "small"),
     "--uncertainty must be a number or a percentage such as '1%', not 'small'"),
    (("--kvp", 100, "--columns", -1), "columns must be at least 0, not -1"),
    (("--kvp", 100, "--columns", 1000), "columns must be at most 200, not 1000"),
    (("--kvp", 100, "--split", 0), "--split must be at least 1, not 0"),
    (("--kvp", 100, "--seed", 2**65), f"seed must be a whole number from 0 to 2^63 - 1, not {2**65}"),
    (("--kvp", 100, "--seed", -1), "seed must be a whole number from 0 to 2^63 - 1, not -1"),
    (("--kvp", 100, "--cut-kev", 40), "cut_kev must be at most 15.0, not 40.0"),
    (("--kvp", 100, "--plot", "tube.jpg"), "a picture must be named .png, .pdf or .svg, not 'tube.jpg'"),
    (("--tube", "t.toml", "--kvp", 100), "--tube must stand alone, not beside --kvp; leave one out"),
    (("--tube", "t.toml", "--filter", "Cu:1mm"), "--tube must stand alone, not beside --filter; leave one out"),
    (("--tube", "t.toml", "--anode-angle", 12), "--tube must stand alone, not beside --anode-angle; leave one out"),
    (("--kvp", 100, "--elastic", "mott"), "elastic must be 'pw' or 'sr', not 'mott'"),
])  # fmt: skip
def test_bad_commands_are_one_line_and_status_2(arguments: tuple[object, ...], message: str) -> None:
    done = conebeam("tube", *arguments)
    assert done.exit_code == 2
    assert done.stderr == f"conebeam: {message}\n"


def test_what_nothing_is_known_of_is_a_dash(tmp_path: Path) -> None:
    """One electron has no sigma; ten analog ones send nothing into the field."""
    one = conebeam("tube", "--kvp", 100, "--electrons", 1, "--json", tmp_path / "one.json")
    assert one.exit_code == 0, one.output
    assert "0.00%" not in one.stdout
    assert json.loads((tmp_path / "one.json").read_text())["total_above_15kev_sigma"] is None
    few = conebeam(
        "tube",
        "--kvp",
        100,
        "--analog",
        "--electrons",
        2,
        "--field-cm",
        0.1,
        "--no-heel",
        "--json",
        tmp_path / "few.json",
    )
    assert few.exit_code == 0, few.output
    assert json.loads((tmp_path / "few.json").read_text())["mean_energy_above_15kev"] is None


def test_a_result_is_drawn_as_a_tube(tmp_path: Path) -> None:
    out, picture = tmp_path / "tube.h5", tmp_path / "again.png"
    assert conebeam("tube", "--kvp", 100, "--electrons", 640, "--no-heel", "--out", out).exit_code == 0
    assert "heel" not in load(out).names
    drawn = conebeam("plot", out, "--out", picture)
    assert drawn.exit_code == 0, drawn.output
    assert picture.stat().st_size > 10_000


def test_many_electrons_are_many_batches() -> None:
    """An interruption waits for a batch, and loses it."""
    assert tube_job(TUBE, View(with_heel=False), electrons=200_000).plan.batches == 64
    assert tube_job(TUBE, View(with_heel=False), electrons=10**9).plan.batches == 10_000


def test_a_tube_file_gives_the_tube_back(tmp_path: Path) -> None:
    path = tmp_path / "tube.toml"
    tube = XrayTube.of(kvp=120.0, anode_angle_deg=10.0, filters=("Al:2.5mm",), ripple=0.05)
    path.write_text(tube.to_toml())
    assert XrayTube.load(path) == tube
    with pytest.raises(ConfigError, match="must be readable, and is not"):
        XrayTube.load(tmp_path / "none.toml")
