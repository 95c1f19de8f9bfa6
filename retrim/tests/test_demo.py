"""The demo, with a budget of seconds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from retrim import demo
from retrim.artifact import load
from retrim.report import page

BUDGET = demo.Budget(dense=3, branch=2, harden_at=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo")
    text = "".join(f"def f{i}(x):\n    return x * {i} + {i % 7}\n\n" for i in range(9000))
    (path / "text.py").write_text(text)
    return path


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    return demo.run(folder, corpus=folder / "text.py", budget=BUDGET)


def test_one_row_for_each_branch(result: dict[str, Any]) -> None:
    rows = result["rows"]
    assert [(row["method"], row["density"]) for row in rows] == [
        ("dense", 1.0),
        (demo.GROUP_LASSO, 0.5),
        (demo.ONE_SHOT, 0.5),
        (demo.GROUP_LASSO, pytest.approx(1 / 3, abs=1e-3)),
        (demo.ONE_SHOT, pytest.approx(1 / 3, abs=1e-3)),
    ]
    assert rows[0]["speedup"] is None and rows[0]["ms_dense"] > 0
    for row in rows[1:]:
        assert row["speedup"] == pytest.approx(row["ms_dense"] / row["ms_packed"])
        assert row["parameters"] < rows[0]["parameters"] and row["bytes"] < rows[0]["bytes"]
        assert row["speedup_linears"] > 0 and row["amdahl"] > 0
    for row in rows:
        assert row["perplexity"] > 1 and 0 <= row["accuracy"] <= 1


def test_result_is_ready_for_json_and_for_the_page(result: dict[str, Any]) -> None:
    text = json.dumps(result)
    assert "NaN" not in text and math.isfinite(result["seconds"])
    words = page(json.loads(text), title="retrim demo")
    for row in result["rows"]:
        assert row["method"] in words
    assert len(result["layers"]) == 4 * 16
    assert set(result["curves"]) == {
        "dense, before branching",
        "dense",
        *(f"{method} 1/{n}" for method in (demo.GROUP_LASSO, demo.ONE_SHOT) for n in (2, 3)),
    }


def test_artifacts_are_what_was_scored(result: dict[str, Any], folder: Path) -> None:
    artifact = load(folder / "reweighted-group-lasso-1-3.safetensors")
    row = result["rows"][3]
    assert artifact.parameters == row["parameters"] and artifact.density == row["density"]
    assert artifact.provenance["corpus"]["digest"] == result["corpus"]["digest"]


def test_a_second_call_trains_nothing(result: dict[str, Any], folder: Path) -> None:
    told: list[str] = []
    again = demo.run(
        folder,
        corpus=folder / "text.py",
        budget=BUDGET,
        progress=lambda name, step, steps, loss: told.append(name),
    )
    assert told == []
    for before, after in zip(result["rows"], again["rows"], strict=True):
        assert (before["accuracy"], before["perplexity"]) == (after["accuracy"], after["perplexity"])
