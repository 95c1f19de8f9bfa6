"""`retrim data` and `retrim experiment`, as their users call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

RECIPE = """
version = 1
[task]
type = "tusimple"
data = "made"
config = "small"
batch = 2
[prune]
epochs = 1
rate = 1e-3
optimizer = "adam"
[retrain]
epochs = 1
rate = 1e-3
optimizer = "adam"
score_after = [0, 1]
[[forms]]
name = "elements"
rates = [4]
rules = [{ weights = "model.layer*.conv?.weight", structure = { type = "Elements" } }]
[[methods]]
name = "SLR"
pruner = { type = "SLR" }
seeds = [0]
[[methods]]
name = "ADMM"
pruner = { type = "ADMM" }
seeds = [0]
"""


def retrim(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "retrim.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
        check=False,
    )


def test_scenes_are_made_and_pruners_compared_on_them(tmp_path: Path) -> None:
    made = retrim(
        "data", "synth-tusimple", "--out", "made", "--training", "4", "--validation", "2", folder=tmp_path
    )
    assert made.returncode == 0, made.stderr
    assert "made: 4 images to train on, 2 held out, in the layout of TuSimple" in made.stdout
    again = retrim("data", "synth-tusimple", "--out", "made", folder=tmp_path)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1

    (tmp_path / "r.toml").write_text(RECIPE)
    early = retrim("experiment", "slr", "r.toml", "--data", ".", "--report", folder=tmp_path)
    assert early.returncode == 2
    assert early.stderr == (
        "retrim: folder 'runs/r' must hold what was run, to be reported, but holds nothing of this recipe: leave --report "
        "out, or give results with --from\n"
    )
    assert not (tmp_path / "runs" / "r").exists()
    options = (
        "experiment",
        "slr",
        "r.toml",
        "--data",
        ".",
        "--threads",
        "1",
        "--json",
        "r.json",
        "--plot",
        "r.png",
    )
    done = retrim(*options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "accuracy in percent; dense" in done.stdout
    found = json.loads((tmp_path / "r.json").read_text())
    assert [row["method"] for row in found["rows"]] == ["SLR", "ADMM"]
    assert found["metric"] == "accuracy"
    assert found["recipe"]["forms"][0]["rules"][0]["structure"] == {"type": "Elements"}
    assert (tmp_path / "r.png").stat().st_size > 10_000

    wrong = retrim("experiment", "slr", "r.toml", "--data", "elsewhere", folder=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "retrim: task.data must be a file or folder of 'elsewhere', but 'made' is not there: give the folder of your "
        "data by --data, or its name in the recipe\n"
    )


def test_scans_are_made(tmp_path: Path) -> None:
    command = ("data", "synth-kitti", "--training", "2", "--validation", "1", "--seed", "3")
    for out in ("made", "again"):
        made = retrim(*command, "--out", out, folder=tmp_path)
        assert made.returncode == 0, made.stderr
        assert f"{out}: 2 scans to train on, 1 held out, in the layout of KITTI" in made.stdout
    files = sorted(path.relative_to(tmp_path / "made") for path in (tmp_path / "made").rglob("*.*"))
    assert {path.suffix for path in files} == {".bin", ".txt"}
    for path in files:
        assert (tmp_path / "made" / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    again = retrim(*command, "--out", "made", folder=tmp_path)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
