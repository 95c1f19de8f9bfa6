"""A tube's result as the source of a scene and of `conebeam dose`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engines import dose_on
from typer.testing import CliRunner

from conebeam.cli import app
from conebeam.errors import ConebeamError, ConfigError, ResultError
from conebeam.job import Job
from conebeam.provenance import provenance
from conebeam.result import Result
from conebeam.result_file import load
from conebeam.run import Engine
from conebeam.scene import Scene
from conebeam.sources.tube_beam import read_tube
from conebeam.tube.model import View, XrayTube
from conebeam.tube.result import TubeResult
from conebeam.tube.run import tube_job

TUBE = XrayTube.of(kvp=100.0, elastic="sr", filters=("Al:2.5mm",))
VIEW = View(with_heel=False, columns=4)


def conebeam(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tube's result with columns, one without, one that was interrupted, and the tube as TOML."""
    place = tmp_path_factory.mktemp("tube")
    tube_job(TUBE, VIEW, electrons=3_000, path=place / "tube.h5").run()
    tube_job(TUBE, View(with_heel=False), electrons=640, path=place / "mean.h5").run()
    job = tube_job(TUBE, VIEW, electrons=640, path=place / "part.h5")

    def stop(result: Result) -> None:
        if len(result.done) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(stop)
    (place / "tube.toml").write_text(TUBE.to_toml())
    return place


def scene(folder: Path, spectrum: dict[str, Any] | None = None, **source: Any) -> Scene:
    field = {"kind": "rectangle", "width_cm": 20.0, "height_cm": 20.0, **source.pop("field", {})}
    made = Scene(
        histories=40_000, phantom={"kind": "water_box", "size_cm": (24.0, 24.0, 4.0)},
        scorers=[dose_on(10.0, 1.0, 2, 1, per="fluence")],
        source={
            "kind": "point", "position_cm": (0.0, 0.0, -100.0), "field": field,
            "spectrum": {"kind": "tube_result", "file": "tube.h5", **(spectrum or {})}, **source,
        },
    )  # fmt: skip
    made._folder = folder
    return made


def run(made: Scene, threads: int = 1) -> Result:
    engine = Engine(made, threads)
    origin = provenance(scene=made.to_toml(), seed=made.seed, versions={**engine.versions, **made.digests()})
    return Job(runner=engine, provenance=origin, plan=made.plan()).run()


def test_a_scene_gets_the_photons_the_tube_counted(folder: Path) -> None:
    found = TubeResult(load(folder / "tube.h5"), TUBE, VIEW)
    emitted = Engine(scene(folder)).emitted
    assert emitted.per_electron == pytest.approx(found.fluence.sum() * 400.0, rel=1e-4)
    assert emitted.spectrum.mean_kev == pytest.approx(
        found.fluence @ found.energies / found.fluence.sum(), rel=1e-4
    )
    # A quarter of the field towards the cathode gets a column's share of it, but for cos³.
    half = Engine(
        scene(folder, field={"width_cm": 5.0, "height_cm": 20.0, "centre_cm": (7.5, 0.0, 0.0)})
    ).emitted
    assert half.per_electron == pytest.approx(found.column_totals[3] * 100.0, rel=1e-4)
    last = found.columns[3]
    assert half.spectrum.mean_kev == pytest.approx(last @ found.energies / last.sum(), rel=1e-6)
    # Nearer, the same photons.
    near = scene(folder, position_cm=(0.0, 0.0, -50.0), field={"width_cm": 10.0, "height_cm": 10.0})
    assert Engine(near).emitted.per_electron == pytest.approx(emitted.per_electron, rel=1e-6)


def test_the_source_s_own_sigma_is_in_the_provenance(folder: Path) -> None:
    found = TubeResult(load(folder / "tube.h5"), TUBE, VIEW)
    beam = read_tube(folder / "tube.h5", with_columns=True)
    assert beam.sigma == pytest.approx(found.column_totals_sigma)
    assert 0.005 < beam.field_sigma < beam.sigma.max() < 0.05
    assert run(scene(folder)).provenance.versions["tube tube.h5"] == (
        "W, 100 kV, 12 degrees; 20 cm at 100 cm; 3000 electrons, seed 1; "
        f"sigma of the fluence {beam.field_sigma:.2%}, of a column's (4) at most {beam.sigma.max():.2%}"
    )


def test_dose_follows_the_heel_whichever_way_the_cathode_is(folder: Path) -> None:
    plus = run(scene(folder))["dose"].values[:, :, 0].sum(axis=1)
    minus = run(scene(folder, {"cathode": (-1.0, 0.0, 0.0)}))["dose"].values[:, :, 0].sum(axis=1)
    flat = run(scene(folder, {"heel": False}))["dose"].values[:, :, 0].sum(axis=1)
    # 40,000 photons: σ of a ratio of halves is 1.4 %; the tube's own halves differ by 8 %.
    assert plus[1] / plus[0] > 1.04
    assert minus[0] / minus[1] > 1.04
    assert flat[0] / flat[1] == pytest.approx(1.0, abs=0.04)


def test_numbers_of_threads_change_no_bit(folder: Path) -> None:
    made = scene(folder).changed(histories=20_000)
    assert run(made, 1).digest() == run(made, 2).digest()


def test_the_mean_spectrum_serves_any_source(folder: Path) -> None:
    made = scene(folder).changed(
        source={
            "kind": "parallel", "field": {"kind": "circle", "diameter_cm": 4.0},
            "spectrum": {"kind": "tube_result", "file": "mean.h5", "heel": False},
        }
    )  # fmt: skip
    beam, emitted = read_tube(folder / "mean.h5", with_columns=False), Engine(made).emitted
    assert emitted.columns is None and emitted.per_electron is None
    assert emitted.versions["tube mean.h5"].endswith(f"sigma of the fluence {beam.field_sigma:.2%}")


def test_dose_per_mas_is_that_of_the_tube(folder: Path, tmp_path: Path) -> None:
    done = conebeam(
        "dose", "--tube", folder / "tube.h5", "--field-cm", 20, "--histories", 20_000, "--json", tmp_path / "d.json"
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "d.json").read_text())
    found = TubeResult(load(folder / "tube.h5"), TUBE, VIEW)
    assert content["air_kerma_gy_per_mas"] == pytest.approx(1e-6 * found.air_kerma_ugy_per_mas, rel=1e-3)
    assert content["profiles"]["1"]["folded"] is False and content["profiles_y"]["1"]["folded"] is True
    assert content["profiles"]["1"]["x_cm"][0] == -14.75 and content["profiles_y"]["1"]["y_cm"][0] == 0.25
    assert "tube.h5: W, 100 kV, 12 degrees; 20 cm at 100 cm; 3000 electrons" in done.stdout
    assert any(name.startswith("tube ") for name in content["versions"])


def test_a_tube_in_toml_is_run_once_and_kept(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(TUBE.to_toml())
    command = ("dose", "--tube", file, "--tube-electrons", 640, "--field-cm", 8, "--histories", 1_000)
    assert conebeam(*command).exit_code == 0
    (kept,) = tmp_path.glob("mine-*.h5")
    before = kept.stat().st_mtime_ns
    result = load(kept)
    assert result.is_complete and result["columns"].values.shape[0] == 8
    assert conebeam(*command, "--seed", 2).exit_code == 0
    assert kept.stat().st_mtime_ns == before
    # Another number of electrons is another source.
    assert conebeam(*command[:4], 650, *command[5:]).exit_code == 0
    assert len(list(tmp_path.glob("mine-*.h5"))) == 2


def refused(make: Any, kind: type[ConebeamError]) -> str:
    with pytest.raises(kind) as error:
        make()
    return str(error.value)


def test_bad_results_are_one_sentence(folder: Path) -> None:
    missing = {"file": "none.h5"}
    assert refused(lambda: Engine(scene(folder, missing)), ConfigError) == (
        "file 'none.h5' named in the scene must be readable, and is not: No such file or directory"
    )
    part = folder / "part.h5"
    assert refused(lambda: Engine(scene(folder, {"file": "part.h5"})), ResultError) == (
        f"'{part}' must be finished, and has 20 of 64 batches; run its command again, which goes on from there"
    )
    mean = folder / "mean.h5"
    assert refused(lambda: Engine(scene(folder, {"file": "mean.h5"})), ConfigError) == (
        f"'{mean}' must have columns for a source with heel, and has none; compute it with "
        "'conebeam tube --columns N', or ask for no heel"
    )
    other = folder / "dose.h5"
    assert conebeam("dose", "--energy-kev", 60, "--histories", 100, "--out", other).exit_code == 0
    assert refused(lambda: Engine(scene(folder, {"file": "dose.h5"})), ResultError) == (
        f"'{other}' must be the result of a tube, as 'conebeam tube --out' writes it, not of another run"
    )
    assert "tube.toml' must be" in refused(lambda: Engine(scene(folder, {"file": "tube.toml"})), ResultError)


def test_a_run_to_an_uncertainty_is_finished_when_it_can_be_judged(tmp_path: Path) -> None:
    loose = tube_job(TUBE, VIEW, uncertainty=0.05, path=tmp_path / "loose.h5")
    assert len(loose.run().done) >= 30
    assert read_tube(tmp_path / "loose.h5", with_columns=True).field_sigma < 0.06
    early = tube_job(TUBE, VIEW, uncertainty=0.001, path=tmp_path / "early.h5")

    def stop(result: Result) -> None:
        if len(result.done) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        early.run(stop)
    assert "must be finished, and has 4 of 30 batches" in refused(
        lambda: read_tube(tmp_path / "early.h5", with_columns=True), ResultError
    )


def test_a_column_in_the_anode_s_shadow_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dark.h5"
    tube_job(TUBE, View(distance_cm=20.0, with_heel=False, columns=4), electrons=640, path=path).run()
    assert refused(lambda: read_tube(path, with_columns=True), ResultError) == (
        f"every column of '{path}' must have photons, and column 1 of 4 has none; run more electrons, or a field the "
        "anode does not shade"
    )


@pytest.mark.parametrize(("source", "message"), [
    ({"kind": "parallel", "field": {"kind": "circle", "diameter_cm": 4.0}, "spectrum": {}},
     "source must be a point to have a tube's heel, not of kind 'parallel'; say heel = false for the mean spectrum of "
     "the tube's field"),
    ({"kind": "pencil", "position_cm": (0, 0, -9), "spectrum": {}},
     "source must be a point to have a tube's heel, not of kind 'pencil'; say heel = false for the mean spectrum of "
     "the tube's field"),
    ({"kind": "pencil", "position_cm": (0, 0, -9), "spectrum": {"heel": False, "cathode": (1, 0, 0)}},
     "source.spectrum must have no cathode where heel is false; leave one out"),
])  # fmt: skip
def test_wrong_sources_are_one_sentence(source: dict[str, Any], message: str) -> None:
    spectrum = {"kind": "tube_result", "file": "tube.h5", **source["spectrum"]}
    with pytest.raises(ConfigError) as error:
        Scene(
            histories=1, phantom={"kind": "water_box"}, scorers=[{"kind": "dose", "per": "photon"}],
            source={**source, "spectrum": spectrum},
        )  # fmt: skip
    assert str(error.value) == message


@pytest.mark.parametrize(("arguments", "message"), [
    (("--tube", "tube.h5", "--field-cm", 24),
     "the source's field must lie within the field the tube was computed for, and reaches across, from anode to "
     "cathode, to 12 cm at 100 cm instead of 10 cm; make it smaller or compute the tube in a larger field"),
    (("--tube", "none.h5"),
     "file '{}/none.h5' named in the scene must be readable, and is not: No such file or directory"),
    (("--tube", "none.toml"), "tube file '{}/none.toml' must be readable, and is not: No such file or directory"),
    (("--tube", "tube.h5", "--kvp", 100),
     "a beam must have exactly one of --energy-kev, --spectrum, --kvp and --tube, not 2"),
    (("--tube", "mean.h5"), "'{}/mean.h5' must have columns for a source with heel, and has none; compute it with "
     "'conebeam tube --columns N', or ask for no heel"),
    (("--kvp", 100, "--no-heel"), "--no-heel must come with --tube; no other source has a heel"),
        (
            ("--kvp", 100, "--tube-electrons", 1000),
            "--tube-electrons must come with --tube FILE.toml; a result has its electrons",
        ),
    (("--tube", "tube.toml", "--tube-electrons", 0), "electrons must be at least 1, not 0"),
])  # fmt: skip
def test_bad_commands_are_one_line_and_status_2(
    folder: Path, arguments: tuple[Any, ...], message: str
) -> None:
    placed = [folder / a if str(a).endswith((".h5", ".toml")) else a for a in arguments]
    done = conebeam("dose", *placed)
    assert done.exit_code == 2
    assert done.stderr == f"conebeam: {message.format(folder)}\n"
