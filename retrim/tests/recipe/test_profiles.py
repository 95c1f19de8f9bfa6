"""`retrim profile`: what is measured, where it is kept, what is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retrim.errors import ConfigError, ProfileError
from retrim.recipe import job, profiles, read
from retrim.recipe.wishes import Wishes
from retrim.runtime import profile_file


@pytest.fixture
def packed(recipe: Path, tmp_path: Path) -> Path:
    folder, target = tmp_path / "run", tmp_path / "model.safetensors"
    folder.mkdir()
    job.prune(read(recipe), folder)
    job.pack(folder, target)
    return target


def test_common_layers(measurer: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    profiles.calibrate(None, (8,), 2, seconds=3.0, measuring=lambda *done: told.append(done))
    assert measurer.seconds == [3.0] and told[-1] == (len(measurer.requests),) * 2
    kinds = {(r.precision, r.activations, r.tokens, r.threads) for r in measurer.requests}
    assert kinds == {
        ("fp32", None, 8, 2),
        ("bf16", None, 8, 2),
        ("int8", "dynamic", 8, 2),
        ("int8", "static", 8, 2),
    }
    found = profiles.show(None, (8,), 2)
    assert json.loads(json.dumps(found)) == found
    assert found["path"] == str(tmp_path / "profile.json")
    assert [row["precision"] for row in found["layers"]][:1] == ["fp32"]
    assert all(row["choice"]["speedup"] >= 0.75 for row in found["layers"])
    assert len(found["entries"]) == len(profile_file.read(tmp_path / "profile.json").entries)


def test_layers_of_an_artifact(measurer: Any, packed: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    profiles.calibrate(packed, (16, 1), 1, seconds=5.0, path=own)
    found = profiles.show(packed, (16, 1), 1, path=own)
    assert [(row["name"], row["tokens"]) for row in found["layers"]] == [
        (f"blocks.{i}.ffn.{name}.weight", tokens)
        for tokens in (16, 1)
        for i in (0, 1)
        for name in ("up", "down")
    ]
    assert found["speedup"] == pytest.approx(2) and found["advice"] == []
    assert all(row["choice"]["measured"] for row in found["layers"])
    assert not (tmp_path / "profile.json").exists()


def test_nothing_to_show(measurer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profile.json"
    with pytest.raises(ProfileError) as caught:
        profiles.show(None, (1,), 1)
    assert str(caught.value) == (
        f"profile {str(path)!r} must be measured before it is shown: call `retrim profile --calibrate`"
    )
    monkeypatch.setenv(profile_file.VARIABLE, "none")
    with pytest.raises(ProfileError) as caught:
        profiles.calibrate(None, (1,), 1, seconds=1.0)
    assert str(caught.value) == (
        "a profile must have a file, but RETRIM_PROFILE is 'none' or there is no home folder: name one with --profile"
    )


def test_packing_measures_what_is_missing(measurer: Any, packed: Path, tmp_path: Path) -> None:
    run, path = tmp_path / "run", tmp_path / "profile.json"
    measurer.seconds.clear()
    job.pack(run, packed, Wishes(precisions=("fp32", "int8"), tokens=16))
    assert measurer.seconds == [0.0, 0.0] and not path.exists()  # there was no time to
    measurer.requests.clear()
    result = job.pack(run, packed, Wishes(precisions=("fp32", "int8"), tokens=16, seconds=5.0))
    assert len(measurer.requests) == 4 and path.exists()
    assert [row["precision"] for row in result["layers"]] == ["fp32", "int8"] * 4
    assert result["speedup"] == pytest.approx(2) and result["advice"] == []
    assert json.loads(json.dumps(result)) == result
    measurer.requests.clear()
    result = job.pack(run, packed, Wishes(precisions=("auto",), tokens=16, seconds=5.0))
    assert {request.precision for request in measurer.requests} == {"bf16"}
    assert [row["precision"] for row in result["layers"]] == ["int8"] * 4
    assert result["metrics"]["accuracy"] > 0  # of the packed model


def test_timing_names_the_kernels(measurer: Any, packed: Path, tmp_path: Path) -> None:
    job.pack(tmp_path / "run", packed, Wishes(precisions=("bf16", "fp32"), tokens=16, seconds=5.0))
    result = job.bench(packed, tokens=16, threads=1, seconds=0.1)
    assert [row["choice"]["measured"] for row in result["kernels"]] == [True] * 4
    assert result["rows"][0]["precision"] == "bf16" and result["expected"] == pytest.approx(1.5)
    assert result["rows"][0]["accuracy"] > 0
    result = job.bench(packed, tokens=16, threads=1, seconds=0.1, precision="fp32")
    assert [row["precision"] for row in result["kernels"]] == ["fp32"] * 4
    assert result["rows"][0]["accuracy"] is None  # that of the first packs is known alone


def test_wishes_are_checked() -> None:
    for precisions, said in (
        (("fp16",), "fp16"),
        (("auto", "fp32"), "auto, fp32"),
        (("fp32", "fp32"), "fp32, fp32"),
        ((), "nothing"),
    ):
        with pytest.raises(ConfigError) as caught:
            Wishes(precisions=precisions)
        assert str(caught.value) == (
            f"precision must be auto alone, or one or more of fp32, bf16, int8, each once, not {said}"
        )
    with pytest.raises(ConfigError, match=r"^threads must be a whole number from 1 to 256, not 0$"):
        Wishes(threads=0)
