"""Several results become one page: means and intervals, one dense row, latencies, densities; else one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retrim.errors import ConfigError
from retrim.report import page
from retrim.report.gathered import gather


def branch(method: str, rate: float, seed: int, hard: float, last: float) -> dict[str, Any]:
    score = {"0": {"score": hard}, "2": {"score": last}}
    return {"forms": "blocks", "method": method, "rate": rate, "seed": seed, "score": score}


EXPERIMENT = {
    "kind": "experiment",
    "metric": "score",
    "host": {"cpu": "one"},
    "baseline": {"score": 85.0},
    "recipe": {
        "task": {"type": "glue", "task": "stsb"},
        "forms": [{"name": "blocks"}],
        "dense": None,
        "prune": {"epochs": 3},
        "retrain": {"epochs": 2},
    },
    "rows": [
        *(branch("SLR", 2.0, seed, 70.0 + seed, 80.0 + seed) for seed in range(3)),
        branch("magnitude", 2.0, 0, 10.0, 60.0),
    ],
}
GLUE = {
    "kind": "glue",
    "metric": "score",
    "task": "stsb",
    "seed": 0,
    "baseline": {"score": 85.0},
    "row": {"method": "SLR", "rate": 3.0},
    "packed_score": {"score": 81.25},
    "bytes": {"pruned": 90_000_000, "packed": 60_000_000},
    "latency": {"ms_dense": 30.0, "ms_packed": 15.0, "speedup": 2.0},
    "densities": {"layer.0.weight": 0.25, "layer.1.weight": 0.5},
}
CHECKPOINT = {
    "kind": "checkpoint",
    "density": 1 / 3,
    "tokens": 128,
    "threads": 1,
    "rivals": [{"name": "OpenVINO", "ms": 20.0, "ms_packed": 10.0, "speedup": 2.0}],
}


def test_rows_of_every_kind() -> None:
    found = gather([EXPERIMENT, GLUE, CHECKPOINT])
    (part,) = found["parts"]
    assert part["name"] == "stsb"
    assert [(row["method"], row["density"]) for row in part["rows"]] == [
        ("dense", 1.0),
        ("SLR", 0.5),
        ("magnitude", 0.5),
        ("SLR", 1 / 3),
        ("packed, against OpenVINO", 1 / 3),
    ]
    dense, slr, once, packed, timed = part["rows"]
    assert dense["accuracy"] == 0.85
    assert (slr["seeds"], slr["hard"], slr["accuracy"]) == (3, pytest.approx(0.71), pytest.approx(0.81))
    assert slr["high"] - slr["low"] == pytest.approx(2 * 4.303 * 0.01 / 3**0.5)
    assert "low" not in once
    assert (packed["accuracy"], packed["bytes"]) == (0.8125, 60_000_000)
    assert timed["speedup"] == 2.0
    assert [layer["density"] for layer in found["parts"][0]["layers"]] == [0.25, 0.5]
    assert found["host"] == {"cpu": "one"}

    words = page(found, title="one & all")
    assert "<h1>one &amp; all</h1>" in words
    assert "Score against density" in words
    assert "accuracy" not in words.lower()
    assert words.count("m-4 0V") == 2  # one interval, drawn for two widths


def test_several_rates_in_one_file() -> None:
    further = {**GLUE, "row": {"method": "SLR", "rate": 5.0}}
    found = gather([{"kind": "glue rates", "results": [GLUE, further]}])
    assert [row["density"] for row in found["parts"][0]["rows"]] == [1.0, 1 / 3, 1 / 5]
    assert len(found["parts"][0]["layers"]) == 4


def test_scores_of_several_tasks_are_kept_apart() -> None:
    other = {**GLUE, "task": "sst2", "seed": 3, "baseline": {"score": 90.0}, "packed_score": {"score": 88.0}}
    found = gather([EXPERIMENT, GLUE, other, CHECKPOINT])
    assert [(part["name"], len(part["rows"])) for part in found["parts"]] == [
        ("stsb", 4),
        ("sst2", 2),
        ("", 1),
    ]
    assert [part["rows"][0]["accuracy"] for part in found["parts"][:2]] == [0.85, 0.9]
    assert [part["settings"].get("seed") for part in found["parts"]] == [0, 3, None]
    assert [len(part["layers"]) for part in found["parts"]] == [2, 2, 0]
    words = page(found, title="two")
    for heading in (
        *("In short, stsb", "Results, stsb", "Results, sst2", "Score against density, sst2", "Latency, sst2"),
        *(
            "Density, layer by layer, stsb",
            "Density, layer by layer, sst2",
            "Settings, stsb",
            "Settings, sst2",
        ),
        *("Results", "Latency"),  # of what has times alone
    ):
        assert words.count(f">{heading}</h2>") == 1, heading
    assert words.count('<table class="heat">') == 2
    assert "packed, against OpenVINO 1/3" in words


def test_seeds_of_a_checkpoint_are_a_mean() -> None:
    others = [
        {
            **GLUE,
            "seed": seed,
            "packed_score": {"score": score},
            "latency": {**GLUE["latency"], "ms_packed": ms},
        }
        for seed, score, ms in ((1, 82.25, 16.0), (2, 80.25, 17.0))
    ]
    (part,) = gather([GLUE, *others, {**GLUE, "model": "another"}, {**GLUE, "model": "mine"}])["parts"]
    assert [(row["method"], row.get("seeds")) for row in part["rows"]] == [
        ("dense", None),
        ("SLR", 3),
        ("SLR, another", None),
        ("SLR, mine", None),
    ]
    mean = part["rows"][1]
    assert (mean["accuracy"], mean["ms_packed"], mean["bytes"]) == (pytest.approx(0.8125), 16.0, 60_000_000)
    assert mean["high"] - mean["low"] == pytest.approx(2 * 4.303 * 0.01 / 3**0.5)
    assert part["settings"]["seed"] == "0, 1, 2"
    assert [layer["row"] for layer in part["layers"]] == [
        *2 * ["SLR 1/3"],
        *2 * ["SLR, another 1/3"],
        *2 * ["SLR, mine 1/3"],
    ]
    (twice,) = gather([GLUE, GLUE])["parts"]
    assert len(twice["rows"]) == 3, "one seed twice is of two recipes"


def test_a_dense_row_has_all_that_is_known() -> None:
    for results in ([EXPERIMENT, GLUE], [GLUE, EXPERIMENT]):
        (dense,) = [row for row in gather(results)["parts"][0]["rows"] if row["method"] == "dense"]
        assert dense["bytes"] == 90_000_000


def test_densities_are_those_that_were_reached() -> None:
    rows = [{**row, "plan_rate": 1.9} for row in EXPERIMENT["rows"]]
    once = {**EXPERIMENT["recipe"], "retrain": {"epochs": 3, "score_after": [0]}}
    (part,) = gather([{**EXPERIMENT, "rows": rows, "recipe": once}])["parts"]
    assert [row["density"] for row in part["rows"]] == [1.0, pytest.approx(1 / 1.9), pytest.approx(1 / 1.9)]
    assert "retrain" not in part["settings"]
    (packed,) = gather([{**GLUE, "row": {"method": "SLR", "rate": 3.0, "plan_rate": 2.5}}])["parts"][0][
        "rows"
    ][1:]
    assert packed["density"] == 0.4


def test_one_dense_row_for_each_score() -> None:
    (part,) = gather([EXPERIMENT, GLUE, {**GLUE, "baseline": {"score": 85.5}}])["parts"]
    assert [row["accuracy"] for row in part["rows"] if row["method"] == "dense"] == [0.85, 0.855]
    assert "Score, relative" in page(gather([EXPERIMENT, GLUE]), title="one dense network")
    assert "Score, relative" not in page({"parts": [part]}, title="which one was pruned is not known")


def test_forms_are_named_where_they_differ() -> None:
    rows = [{**row, "forms": "larger blocks"} for row in EXPERIMENT["rows"]]
    (alone,) = gather([EXPERIMENT])["parts"]
    (part,) = gather([EXPERIMENT, {**EXPERIMENT, "rows": rows}])["parts"]
    assert [row["method"] for row in alone["rows"]] == ["dense", "SLR", "magnitude"]
    assert [row["method"] for row in part["rows"]] == [
        *("dense", "SLR, blocks", "magnitude, blocks"),
        *("SLR, larger blocks", "magnitude, larger blocks"),
    ]


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ({"type": "glue", "task": "rte"}, "rte"),
        ({"type": "cifar10", "network": "resnet20"}, "resnet20"),
        ({"type": "kitti"}, "kitti"),
        ({"type": "coco", "cfg": "nets/yolov3.cfg", "weights": "w"}, "coco, yolov3"),
        ({"type": "kitti", "config": "small.yaml"}, "kitti, small"),
    ],
)
def test_names_of_tasks(task: dict[str, Any], name: str) -> None:
    recipe = {**EXPERIMENT["recipe"], "task": task}
    assert [part["name"] for part in gather([{**EXPERIMENT, "recipe": recipe}])["parts"]] == [name]


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ([], "a report must have at least one result, but none is given"),
        (
            [{"kind": "demo"}],
            "a result must be of `retrim experiment`, `retrim glue` or benchmarks/checkpoint.py, not of kind 'demo'",
        ),
        (
            [{"kind": "glue", "metric": "score"}],
            "a result of kind 'glue' lacks what its command writes (KeyError('row')): make it again",
        ),
        (
            [{"kind": "glue rates", "results": ["x"]}],
            "a result must be of `retrim experiment`, `retrim glue` or benchmarks/checkpoint.py, not of kind None",
        ),
        (
            [{**EXPERIMENT, "recipe": {**EXPERIMENT["recipe"], "retrain": None}}],
            "a result of kind 'experiment' lacks what its command writes "
            "(AttributeError(\"'NoneType' object has no attribute 'get'\")): make it again",
        ),
    ],
)
def test_what_cannot_be_shown(results: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        gather(results)
    assert str(caught.value) == sentence


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(EXPERIMENT))
    (tmp_path / "b.json").write_text("[1]")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "retrim.cli", "report", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    done = call("a.json", "--html", "page.html", "--title", "STS-B")
    assert (done.returncode, done.stdout) == (0, "Report: page.html\n"), done.stderr
    assert "<h1>STS-B</h1>" in (tmp_path / "page.html").read_text()
    wrong = call("a.json", "b.json", "--html", "other.html")
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "retrim: 'b.json' must be a JSON file that a command of retrim wrote, but is none\n"
    )
    assert not (tmp_path / "other.html").exists()
    assert "'c.json' must be a result that can be read: No such file" in call("c.json", "--html", "o").stderr
