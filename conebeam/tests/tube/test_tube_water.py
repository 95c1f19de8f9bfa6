"""The comparison of the tube with SpekPy on water runs, and says what it must."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "tube_water.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tube_water", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_quick_run_writes_every_table(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    monkeypatch.setattr(sys, "argv", ["tube_water.py", "--quick", "--columns", "2", "--json", str(path)])
    script.main()
    report = json.loads(path.read_text())
    assert [row["depth_cm"] for row in report["depth"]] == list(range(1, 11))
    assert [row["cm"] for row in report["x"]] == [row["cm"] for row in report["y"]]
    assert report["x"][0]["cm"] == -8.5 and report["x"][-1]["cm"] == 8.5
    for row in (*report["x"], *report["y"]):
        assert 0.0 < row["sigma"] < row["difference sigma"] < 0.3
    assert len(report["columns table"]) == 2
    # 100 kV, 12 degrees: SpekPy's two halves (5 cm from the axis) differ by 7 %.
    theirs = [row["spekpy"] for row in report["columns table"]]
    assert theirs[0] / theirs[-1] == pytest.approx(0.928, abs=0.01)
    assert report["fluence per electron over SpekPy's"] == pytest.approx(1.0, abs=0.1)
    assert "y: SpekPy's within 2 % of the axis value" in capsys.readouterr().out


def test_profiles_are_compared_in_shares_of_the_axis_value(script: ModuleType) -> None:
    """0.019 of the axis value apart is within 2 % of it, also where it is a tenth of the value there."""
    depth = [
        {"depth_cm": 1, "spekpy difference": 0.0, "spekpy axis spectrum difference": 0.0, "spekpy sigma": 0.0}
    ]
    rows = [
        {"cm": cm, "tube": value, "spekpy": theirs, "difference": value / theirs - 1, "sigma": 0.0, "difference sigma": 0.0}
        for cm, value, theirs in ((0.5, 1.0, 1.0), (1.5, 0.9, 0.9), (2.5, 0.19, 0.171), (3.5, 0.19, 0.215))
    ]  # fmt: skip
    found = script.summary({"depth": depth, "x": rows, "y": rows})
    for name in "yx":
        assert found[f"{name}: SpekPy's within 2 % of the axis value"] == 0.75
        assert found[f"{name}: SpekPy's within 2 %"] == 0.5
        assert found[f"{name}: flat within 2 %"] == 0.25


def test_shares_count_both_signs(script: ModuleType) -> None:
    assert script.share([0.0, 0.02, -0.02, 0.021, -0.03]) == pytest.approx(0.6)
