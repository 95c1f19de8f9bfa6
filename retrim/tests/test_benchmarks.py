"""The benchmarks run and write what they promise; how fast is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_linear_writes_its_rows(tmp_path: Path) -> None:
    out = tmp_path / "linear.json"
    command = [
        sys.executable,
        BENCHMARKS / "linear.py",
        "--chains",
        "256",
        "--tokens",
        "2",
        "--seconds",
        "0.1",
    ]
    done = subprocess.run([*command, "--json", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["threads"] == 1
    assert {"host", "commit", "clock", "load", "precision", "date"} <= set(report)
    (row,) = report["rows"]
    assert (row["chain"], row["tokens"]) == ("256", 2)
    assert list(row["speedup"]) == ["1", "1/2", "1/3", "1/5"]
    assert row["dense_best"] in row["dense_ms"]
    assert "torch" in row["dense_ms"]
