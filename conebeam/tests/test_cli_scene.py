"""The commands, run as a user runs them, on the toy runner."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy
import typer
from typer.testing import CliRunner, Result

from conebeam.cli_scene import SceneRunner, register
from conebeam.result_file import load, save
from conebeam.scene import Scene

SCENE = """
histories = 4000
batches = 40
[source]
kind = "pencil"
position_cm = [0.0, 0.0, -10.0]
[source.spectrum]
kind = "mono"
energy_kev = 60.0
[phantom]
kind = "water_box"
[[scorers]]
kind = "dose"
x_cm = { low_cm = -2.0, high_cm = 2.0, count = 4 }
y_cm = { low_cm = -2.0, high_cm = 2.0, count = 4 }
z_cm = { low_cm = 0.0, high_cm = 10.0, count = 10 }
curves = [{ name = "depth", along = "z", x_cm = [-1.0, 1.0], y_cm = [-1.0, 1.0] }]
"""


class Shell:
    """The application in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop_after: int | None = None
        self.threads: list[int] = []
        self.columns: str | None = "200"
        self.preparing: Callable[[], object] = list
        (folder / "toy.toml").write_text(SCENE)

    def __call__(self, *arguments: object) -> Result:
        app = typer.Typer()
        register(app, self.prepare)
        return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": self.columns})

    def prepare(self, scene: Scene, threads: int) -> SceneRunner:
        scene.check({"water": 1.0})
        self.preparing()
        self.threads.append(threads)
        return toy.ToyRunner(seed=scene.seed, stop_after=self.stop_after)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path)


def test_run_writes_result_and_json(shell: Shell) -> None:
    done = shell("run", "toy.toml", "--json", "out.json", "--threads", 3)
    assert done.exit_code == 0, done.output
    assert "4,000 histories in 40 of 40 batches" in done.stdout
    assert shell.threads == [3]
    result = load("toy.h5")
    written = json.loads(Path("out.json").read_text())
    assert written["histories"] == 4000
    assert written["batches"] == [[0, 40]]
    assert written["scored"]["depth"]["value"] == result["depth"].values.tolist()
    assert written["scored"]["depth"]["unit"] == "Gy cm2"
    assert "dose" not in written["scored"]  # a grid belongs into the HDF5 file


def test_tables_in_pipes_are_not_cut_to_80_columns(shell: Shell) -> None:
    shell.columns = None
    done = shell("run", "toy.toml")
    assert "efficiency (1/s)" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()[:6]) > 80


def test_long_preparing_is_told_where_no_bar_is_seen(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    monkeypatch.setattr(
        typer, "echo", lambda text, *, err: told.set() if err and "compiled" in text else None
    )
    monkeypatch.setattr("conebeam.cli_scene._SILENT_SECONDS", 0.01)
    shell.preparing = lambda: told.wait(60)
    assert shell("run", "toy.toml").exit_code == 0
    assert told.is_set()


def test_short_preparing_is_silent(shell: Shell) -> None:
    assert shell("run", "toy.toml").stderr == ""


def test_parts_and_merge_are_one_run(shell: Shell) -> None:
    assert shell("run", "toy.toml", "--out", "whole.h5").exit_code == 0
    assert shell("run", "toy.toml", "--batches", "0:11").exit_code == 0
    assert shell("run", "toy.toml", "--batches", "11:40").exit_code == 0
    merged = shell("merge", "toy.11-40.h5", "toy.0-11.h5", "--out", "merged.h5")
    assert merged.exit_code == 0
    assert merged.stdout == "40 of 40 batches (0:40), 4,000 histories: merged.h5\n"
    assert load("merged.h5").digest() == load("whole.h5").digest()


def test_an_interrupted_run_says_how_to_go_on(shell: Shell) -> None:
    shell.stop_after = 12
    stopped = shell("run", "toy.toml")
    assert stopped.exit_code == 130
    assert stopped.stderr.splitlines()[-1] == (
        "conebeam: interrupted; 12 of 40 batches are kept in toy.h5, the same command goes on from there"
    )
    shell.stop_after = None
    assert shell("run", "toy.toml").exit_code == 0
    assert shell("run", "toy.toml", "--out", "whole.h5").exit_code == 0
    assert load("toy.h5").digest() == load("whole.h5").digest()


def test_a_target_that_is_missed_is_told(shell: Shell) -> None:
    done = shell("run", "toy.toml", "--uncertainty", "0.01%", "--region", "depth")
    assert done.exit_code == 0, done.output
    sigma = load("toy.h5")["depth"].sigma.max()
    assert done.stderr == (
        f"conebeam: sigma of 'depth' is {sigma:.2%} after all 4,000 histories, not 0.01% as asked; give more histories\n"
    )


def test_a_merge_overwrites_no_other_result(shell: Shell) -> None:
    assert shell("run", "toy.toml", "--out", "part.h5", "--batches", "0:11").exit_code == 0
    assert shell("run", "toy.toml", "--out", "rest.h5", "--batches", "11:40").exit_code == 0
    assert shell("run", "toy.toml", "--seed", 7, "--out", "other.h5").exit_code == 0
    before = Path("other.h5").read_bytes()
    for parts, out in ((("part.h5", "rest.h5"), "other.h5"), (("part.h5",), "rest.h5")):
        refused = shell("merge", *parts, "--out", out)
        assert refused.exit_code == 2
        assert refused.stderr == (
            f"conebeam: '{out}' must not be overwritten: it holds another result; choose another --out\n"
        )
    assert Path("other.h5").read_bytes() == before
    assert shell("merge", "part.h5", "rest.h5", "--out", "rest.h5").exit_code == 0  # one of the parts
    assert load("rest.h5").is_complete


def alter(out: str, **changes: dict[str, str]) -> None:
    """Write toy.h5 again with other words for what was scored."""
    found = load("toy.h5")
    scored = tuple(replace(s, **changes.get(s.name, {})) for s in found.scored)
    called = dict(zip(found.names, (s.name for s in scored), strict=True))
    tallies = {called[name]: tally for name, tally in found.tallies.items()}
    save(replace(found, scored=scored, tallies=tallies), out)


def test_curves_of_like_names_are_files_of_their_own(shell: Shell) -> None:
    assert shell("run", "toy.toml").exit_code == 0
    alter("like.h5", depth={"name": "a b"}, parts={"name": "a_b"})
    assert shell("plot", "like.h5", "--csv", "csv").exit_code == 0
    assert sorted(path.name for path in Path("csv").iterdir()) == ["a_b.csv", "a_b_2.csv"]


def test_unlike_results_are_not_compared(shell: Shell) -> None:
    assert shell("run", "toy.toml").exit_code == 0
    alter("photon.h5", depth={"unit": "Gy", "per": "photon"})
    refused = shell("compare", "toy.h5", "photon.h5")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "conebeam: curves must be alike to be compared, not Gy cm2 per mean surface fluence and Gy per photon\n"
    )
    assert shell("compare", "toy.h5", "photon.h5", "--normalise", "max").exit_code == 0


def test_an_unknown_sigma_is_a_dash(shell: Shell) -> None:
    assert shell("run", "toy.toml", "--batches", "0:1", "--out", "one.h5").exit_code == 0
    done = shell("compare", "one.h5", "one.h5", "--relative-to", "max", "--json", "c.json")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("+0.00%") == done.stdout.count("0.00%") > 0
    assert set(json.loads(Path("c.json").read_text())["sigma_ours"]) == {None}


def test_histories_and_seed_replace_the_scene_s(shell: Shell) -> None:
    done = shell("run", "toy.toml", "--histories", 400, "--seed", 9)
    assert done.exit_code == 0, done.output
    result = load("toy.h5")
    assert (result.histories, result.provenance.seed) == (400, 9)
    assert Scene.loads(result.provenance.scene).histories == 400


def test_a_run_stops_at_its_target(shell: Shell) -> None:
    Path("toy.toml").write_text(SCENE.replace("batches = 40", "").replace("4000", "100_000"))
    done = shell("run", "toy.toml", "--uncertainty", "20%", "--region", "depth")
    assert done.exit_code == 0, done.output
    result = load("toy.h5")
    assert 30 <= len(result.done) < 60
    assert result["depth"].sigma.max() <= 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("run", "none.toml"),
            "scene file 'none.toml' must be readable, and is not: No such file or directory",
        ),
        (("run", "toy.toml", "--histories", 0), "histories must be greater than 0, not 0"),
        (
            ("run", "toy.toml", "--batches", "3"),
            "batches must read A:B with whole numbers, not '3'",
        ),
        (("run", "toy.toml", "--batches", "3:99"), "batches A:B must lie in 0:40, not 3:99"),
        (
            ("run", "toy.toml", "--uncertainty", "1%"),
            "--uncertainty and --region must be given together, not one alone",
        ),
        (
            ("run", "toy.toml", "--uncertainty", "1%", "--region", "axis"),
            "target.region must be one of depth, dose, not 'axis'",
        ),
        (
            ("run", "toy.toml", "--uncertainty", "1%", "--region", "depth", "--batches", "0:2"),
            "a target uncertainty must stand alone, not beside batches A:B; leave one out",
        ),
        (
            ("run", "toy.toml", "--out", "no/such/folder.h5"),
            "'no/such/folder.h5' must be writable, and is not: No such file or directory",
        ),
        (
            ("run", "toy.toml", "--out", "same", "--json", "same"),
            "'same' must be one output's file, and is named for two; choose another",
        ),
        (
            ("compare", "none.h5", "none.h5", "--picture", "a.jpg"),
            "a picture must be named .png, .pdf or .svg, not 'a.jpg'",
        ),
        (("plot", "none.h5"), "result file 'none.h5' must exist; run the scene first"),
        (
            ("merge", "toy.toml", "--out", "x.h5"),
            "'toy.toml' must be a conebeam result, not another kind of file",
        ),
    ],
)
def test_errors_are_one_line_and_exit_2(shell: Shell, arguments: tuple[object, ...], message: str) -> None:
    done = shell(*arguments)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"conebeam: {message}"
    assert "Traceback" not in done.output


def test_compare_with_a_csv(shell: Shell) -> None:
    shell("run", "toy.toml")
    quantity = load("toy.h5")["depth"]
    rows = [
        f"{at!r},{value!r},{0.5}"
        for at, value in zip(
            quantity.axes[0].centres().tolist(), (quantity.values * 1.01).tolist(), strict=True
        )
    ]
    Path("ref.csv").write_text("z_mid_cm,dose,u_pct\n" + "\n".join(rows) + "\n")
    done = shell("compare", "toy.h5", "ref.csv", "--json", "c.json", "--picture", "c.png")
    assert done.exit_code == 0, done.output
    assert "100.0% of 10 points within 2.000%" in done.stdout
    assert "-0.99%" in done.stdout
    written = json.loads(Path("c.json").read_text())
    assert written["difference"] == pytest.approx([1 / 1.01 - 1] * 10)
    assert written["share_within"] == 1.0
    assert written["sigma_reference"] == pytest.approx([0.005] * 10)
    assert Path("c.png").read_bytes().startswith(b"\x89PNG")
    strict = shell("compare", "toy.h5", "ref.csv", "--tolerance", "0.5%", "--curve", "depth")
    assert "0.0% of 10 points within 0.500%" in strict.stdout
    scaled = shell("compare", "toy.h5", "ref.csv", "--normalise", "at:0.5", "--relative-to", "max")
    assert "mean +0.000%" in scaled.stdout


def test_compare_two_results(shell: Shell) -> None:
    shell("run", "toy.toml")
    shell("run", "toy.toml", "--seed", 8, "--out", "other.h5")
    done = shell("compare", "toy.h5", "other.h5", "--json", "c.json")
    assert done.exit_code == 0, done.output
    written = json.loads(Path("c.json").read_text())
    excess = np.abs(written["difference"]) - 4 * np.hypot(written["sigma_ours"], written["sigma_reference"])
    assert excess.max() < 0.0
    assert np.abs(written["difference"]).max() > 0.0


def test_plots_and_curves(shell: Shell) -> None:
    shell("run", "toy.toml")
    done = shell("plot", "toy.h5", "--csv", "curves")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == ["toy.png", "curves/depth.csv", "curves/parts.csv"]
    assert shell("plot", "toy.h5", "--plane", "z=2.5", "--out", "p.pdf").exit_code == 0
    assert Path("p.pdf").read_bytes().startswith(b"%PDF")
    assert shell("plot", "toy.h5", "--curve", "depth", "--out", "d.svg").exit_code == 0
    wrong = shell("plot", "toy.h5", "--plane", "q=1")
    assert wrong.stderr.splitlines()[-1] == ("conebeam: --plane must read x=CM, y=CM or z=CM, not 'q=1'")
