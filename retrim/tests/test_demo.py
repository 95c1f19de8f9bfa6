"""The demo, with a budget of seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from retrim import demo
from retrim.artifact import load
from retrim.recipe import expectation
from retrim.report import page
from retrim.runtime import isa, profile_file, tuning
from retrim.runtime.entry import Entry, Request
from retrim.runtime.matrix import variants
from retrim.runtime.profile import Profile
from retrim.torch import PackedLinear
from retrim.torch.latency import Latency
from retrim.zoo.models import load_packed

BUDGET = demo.Budget(dense=3, branch=2, harden_at=1, trials=2, trial=1, levels=2)


@pytest.fixture(scope="module", autouse=True)
def in_short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "TIMED_SECONDS", 0.1)
        patch.setattr(demo, "SCORED_TOKENS", 4_000)
        patch.setattr(demo, "LEVEL_TOKENS", 1_000)
        yield


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
        *[(demo.GROUP_LASSO, pytest.approx(1 / 3, abs=1e-3))] * 3,
        (demo.ONE_SHOT, pytest.approx(1 / 3, abs=1e-3)),
    ]
    assert [row["precision"] for row in rows] == ["fp32"] * 4 + ["bf16", "int8", "fp32"]
    sizes = [row["bytes"] for row in rows[3:6]]
    assert sizes == sorted(sizes, reverse=True) and sizes[2] < 0.75 * sizes[0]
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
    assert "one-shot magnitude 1/3" in words and "reweighted group lasso 1/3, int8" in words
    assert len(result["layers"]) == 4 * 16
    assert len(result["kernels"]) == 6 * 16  # nothing was measured, and nothing is expected
    assert all(layer["choice"] is None for layer in result["kernels"])
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
    assert set(told) <= {"search"}  # over trials on file
    for before, after in zip(result["rows"], again["rows"], strict=True):
        assert (before["accuracy"], before["perplexity"]) == (after["accuracy"], after["perplexity"])


def test_kernels_are_chosen_by_what_was_measured(
    result: dict[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of one kernel of each layer, as if they had been measured."""

    def calibrate(profile: Profile, requests: Iterable[Request], **_: Any) -> Profile:
        entries = []
        for request in requests:
            for layer, variant in ((request, variants(request.precision)[0]), (request.dense(), "packed")):
                fields = {name: getattr(layer, name) for name in Request.__dataclass_fields__}
                entry = Entry(
                    **fields, isa="portable", variant=variant, microseconds=layer.work / 500, runs=3
                )
                entries.append(entry)
        return profile.adding(entries)

    monkeypatch.setattr(expectation, "calibrate", calibrate)
    monkeypatch.setenv(profile_file.VARIABLE, str(tmp_path / "profile.json"))
    monkeypatch.delenv(isa.VARIABLE, raising=False)
    monkeypatch.setattr(demo, "measure", lambda *_, **__: Latency(9.0, 3.0, 6.0, 1.0, 0.7, 9))
    monkeypatch.setattr(
        demo, "load_packed", lambda artifact: packed.append(load_packed(artifact)) or packed[-1]
    )
    packed: list[Any] = []
    said: list[str] = []
    try:
        again = demo.run(folder, corpus=folder / "text.py", budget=BUDGET, say=said.append)
    finally:
        tuning.forget()
    portable = isa.index("portable")
    for model in packed:
        assert all(portable in dict(layer.matrix._kernels) for layer in layers_of(model))
    assert (
        "  kernels, by this machine's profile: portable direct (16 layers); 2.00× expected over the best dense layers"
        in said
    )
    assert "portable gathered (16 layers)" in said[-6]
    words = page(again, title="retrim demo")
    assert "Kernels of 96 packed weights" in words and "portable gathered" in words


def layers_of(model: Any) -> list[PackedLinear]:
    return [module for module in model.modules() if isinstance(module, PackedLinear)]


def test_levels_meet_the_deadline_and_the_battery_is_emptied(result: dict[str, Any], folder: Path) -> None:
    found = result["levels"]
    table = json.loads((folder / "levels.json").read_text())
    assert table == found["levels"]
    assert [entry["mhz"] for entry in table["level"]] == [1400, 1000, 600]
    for entry in table["level"]:
        assert entry["cycles"] / (1000 * entry["mhz"]) <= table["deadline_ms"] * (1 + 1e-9)
    assert len(found["trials"]) == 2
    names = [level["name"] for level in table["level"]]
    assert sorted(load(folder / "levels.safetensors").levels) == sorted(names)
    assert {"resident", "repack"} <= set(found["switches"])
    policies = {policy["policy"]: policy for policy in found["battery"]["policies"]}
    assert set(policies) == {"a", "b", "c", "d", "e"}
    assert found["battery"]["gain"]["a"] == pytest.approx(
        policies["e"]["inferences"] / policies["a"]["inferences"]
    )
