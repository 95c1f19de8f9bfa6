"""Dose in water: the command's contract, and agreement with DOSXYZnrc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from conebeam.cli import app
from conebeam.compare.water import CASES, judge, published, read_reference
from conebeam.dose import Beam, build_scene
from conebeam.errors import ConfigError
from conebeam.result_file import load

REFERENCE = Path(os.environ.get("CONEBEAM_REFERENCE", Path(__file__).parents[3] / "shared" / "reference"))


def conebeam(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("dose") / "dose.json"
    done = conebeam("dose", "--energy-kev", 60, "--histories", 3_000_000, "--json", path)
    assert done.exit_code == 0, done.output
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_contract_is_kept(sixty: dict[str, Any]) -> None:
    reference = published("60keV").depth["2x2"]
    assert sixty["depth_cm"] == pytest.approx(reference.position)
    assert sixty["depth_edges_cm"][:3] == [0.0, 0.25, 0.75]
    assert sixty["depth_edges_cm"][-2:] == [20.25, 30.0]
    for name in ("1x1", "2x2", "6x6"):
        assert len(sixty["dose_gy_cm2"][name]) == len(sixty["sigma"][name]) == 42
    assert sorted(sixty["profiles"], key=int) == ["1", "2", "5", "10"]
    for profile in sixty["profiles"].values():
        assert profile["x_cm"] == pytest.approx(np.arange(30) * 0.5 + 0.25)
        assert len(profile["dose_gy_cm2"]) == len(profile["sigma"]) == 30
        assert profile["folded"] is True
    assert sixty["per"] == "mean surface fluence"
    assert sixty["histories"] == 3_000_000
    assert {"seconds", "cpu_seconds", "threads"} <= set(sixty)


def test_60_kev_agrees_with_dosxyznrc(sixty: dict[str, Any]) -> None:
    verdict = judge(sixty, published("60keV"))
    # 3 million histories: σ 0.3 % on the 2x2 column, so the mean over 21 depths is known to 0.15 %.
    assert verdict.worst_excess <= 0.01
    assert abs(verdict.mean_difference) <= 0.007
    assert verdict.profile_share >= 0.95
    assert verdict.profile_worst <= 0.02
    wide = verdict.depth["6x6"]
    assert np.abs(wide.difference[:21]).max() < 0.015


def test_the_packaged_numbers_are_the_reference_s() -> None:
    folder = REFERENCE / "dosxyznrc"
    if not folder.is_dir():
        pytest.skip("reference results are not there; set CONEBEAM_REFERENCE to their folder")
    for case in CASES:
        theirs = read_reference(folder / f"ref_{case}_depth.csv", folder / f"ref_{case}_profiles.csv")
        ours = published(case)
        for name, curve in theirs.depth.items():
            assert np.array_equal(ours.depth[name].value, curve.value)
        for at, curve in theirs.profiles.items():
            assert np.array_equal(ours.profiles[at].value, curve.value)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_accuracy_is_met_in_full(case: str, tmp_path: Path) -> None:
    beam: list[object] = ["--energy-kev", 60]
    if case == "100kVp":
        folder = Path(sys.modules["conebeam"].__file__ or "").parent / "data" / "published"
        beam = ["--spectrum", folder / "spectrum_100kvp_12deg_2.5mm_al.csv"]
    done = conebeam("dose", *beam, "--histories", 60_000_000, "--json", tmp_path / "d.json")
    assert done.exit_code == 0, done.output
    verdict = judge(json.loads((tmp_path / "d.json").read_text()), published(case))
    assert all(verdict.passes.values()), verdict.passes


def test_a_tube_gives_dose_per_mas_and_per_kerma(tmp_path: Path) -> None:
    arguments = ("dose", "--kvp", 100, "--filter", "Al:2.5mm", "--histories", 200_000, "--seed", 3)
    done = conebeam(*arguments, "--json", tmp_path / "d.json", "--out", tmp_path / "d.h5")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "d.json").read_text())
    mas, kerma = content["dose_gy_per_mas"]["6x6"], content["dose_per_air_kerma"]["6x6"]
    assert mas[1] / content["air_kerma_gy_per_mas"] == pytest.approx(kerma[1], rel=1e-9)
    # SpekPy states 118.9 µGy/mAs on the axis at 1 m, with absorption coefficients of its own.
    assert content["air_kerma_gy_per_mas"] == pytest.approx(118.9e-6, rel=0.02)
    # Water absorbs a little more than air, and scatter comes on top.
    assert 1.2 < kerma[1] < 1.6
    assert load(tmp_path / "d.h5").histories == 200_000


def test_a_field_stated_elsewhere_is_scaled() -> None:
    beam = Beam(energy_kev=60.0, field_cm=10.0, field_at_cm=100.0, ssd_cm=50.0)
    assert beam.field_at_surface_cm == 5.0
    field = build_scene(beam, histories=100).source.beam()
    assert field.area == 25.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "a beam must have exactly one of --energy-kev, --spectrum, --kvp and --tube, not none"),
        (
            ("--energy-kev", 60, "--kvp", 100),
            "a beam must have exactly one of --energy-kev, --spectrum, --kvp and --tube, not 2",
        ),
        (
            ("--energy-kev", 60, "--filter", "Al:1mm"),
            "--filter must come with --kvp; a spectrum's filters are in it already",
        ),
        (
            ("--energy-kev", 60, "--anode-angle", 12),
            "--anode-angle must come with --kvp; no other source has an angle to choose",
        ),
        (
            ("--energy-kev", 60, "--out", "same", "--json", "same"),
            "'same' must be one output's file, and is named for two; choose another",
        ),
        (("--energy-kev", 60, "--histories", 0), "histories must be greater than 0, not 0"),
        (("--energy-kev", 200), "source.spectrum.energy_kev must be at most 150.0, not 200.0"),
        (("--energy-kev", "nan"), "source.spectrum.energy_kev must be a finite number, not nan"),
        (
            ("--energy-kev", 60, "--field-cm", -1),
            "the field must be positive and below 10000 cm, not -1 cm",
        ),
        (
            ("--energy-kev", 60, "--field-cm", 5000),
            "source must have a field within 85 degrees of its axis, not 88.4; make the field smaller or move "
            "it away from the source",
        ),
        (
            ("--energy-kev", 60, "--phantom-cm", 2),
            "the phantom must be 6 to 200 cm wide (the 6x6 column must fit), not 2 cm",
        ),
        (("--energy-kev", 60, "--threads", -2), "threads must be at least 0 (0 for all cores), not -2"),
        (
            ("--energy-kev", 60, "--json", "no/such/d.json"),
            "'no/such/d.json' must be writable, and is not: No such file or directory",
        ),
        (
            ("--spectrum", "none.csv"),
            "file 'none.csv' named in the scene must be readable, and is not: No such file or directory",
        ),
        (
            ("--kvp", 100, "--filter", "Al"),
            "--filter must read MATERIAL:THICKNESSmm such as 'Al:2.5mm', not 'Al'",
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[object, ...], message: str) -> None:
    done = conebeam("dose", *arguments)
    assert done.exit_code == 2
    assert done.stderr == f"conebeam: {message}\n"


def test_beams_are_checked_in_python_too() -> None:
    with pytest.raises(ConfigError, match="exactly one of"):
        Beam()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, how: signal.Signals) -> None:
    command = [
        sys.executable, "-m", "conebeam.cli", "dose", "--energy-kev", "60", "--histories", "3000000",
        "--phantom-cm", "10", "--threads", "2", "--out",
    ]  # fmt: skip
    # Checkpoints come every 30 s; here they are to come at once.
    patch = "import conebeam.job as j; j.Job.__init__.__kwdefaults__['checkpoint_seconds'] = 0.0; "
    hasty = [sys.executable, "-c", patch + "from conebeam.cli import main; main()", *command[3:]]
    path = tmp_path / "d.h5"
    process = subprocess.Popen([*hasty, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240.0
    while not path.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(how)
    _, message = process.communicate(timeout=60)
    assert process.returncode != 0
    if how == signal.SIGINT:
        assert b"Traceback" not in message
    assert 0 < len(load(path).done) < 64
    done = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True)
    assert "3,000,000 histories" in done.stdout
    whole = conebeam(*command[3:-1], "--out", tmp_path / "whole.h5")
    assert whole.exit_code == 0
    assert load(path).digest() == load(tmp_path / "whole.h5").digest()
