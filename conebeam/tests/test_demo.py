"""The demo: files, tables, sentence, and the examples beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from conebeam.cli import app
from conebeam.demo import run_demo
from conebeam.errors import ResultError
from conebeam.result_file import load
from conebeam.scene import Scene

EXAMPLES = Path(__file__).parents[2] / "examples" / "conebeam"


def test_the_demo_writes_what_it_says(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["demo", "--out", str(tmp_path / "d"), "--histories", "200000"], env={"COLUMNS": "140"}
    )
    assert done.exit_code == 0, done.output
    assert "60 keV in water" in done.stdout
    assert "100 kVp" in done.stdout
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [
        "tube.png", "water.json", "water.png", "water_100kVp.h5", "water_60keV.h5"
    ]  # fmt: skip
    report = json.loads((tmp_path / "d" / "water.json").read_text())
    # 200,000 photons: σ is 1.2 % at 1 cm and 3 % at 10 cm.
    for case in ("60keV", "100kVp"):
        assert abs(report[case]["comparison"]["mean_difference_2x2_to_10cm"]) < 0.03
    tube = report["tube"]
    assert abs(tube["fluence"]) < 0.1
    assert abs(tube["mean_energy"]) < 0.01
    assert 0.0 < tube["sigma"] < 0.02
    assert "x-ray tube, 100 kV, 12 degrees" in done.stdout
    assert load(tmp_path / "d" / "water_60keV.h5").histories == 200_000
    assert (tmp_path / "d" / "water.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match=r"must be one to write into, and is not: "):
        run_demo(tmp_path / "file" / "d", histories=1000, console=Console())


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("*.toml")))
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["run", str(EXAMPLES / name), "--histories", "20000", "--out", "r.h5"])
    assert done.exit_code == 0, done.output
    result = load("r.h5")
    assert result.histories == 20_000
    assert Scene.loads(result.provenance.scene).name == Scene.load(EXAMPLES / name).name
    for quantity in result.quantities():
        assert quantity.values.max() > 0.0


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("conebeam 0.")
