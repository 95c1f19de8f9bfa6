"""The example runs, and says what it should."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip(
    "transformers", reason="the Hugging Face extra is not installed: pip install 'retrim[hf]'"
)

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "prune_bert.py"


def test_a_tiny_bert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prune_bert.py", "", str(tmp_path)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    found = re.search(
        r"kept (\S+) of the weights of 12 layers; logits differ by (\S+) of the largest", printed
    )
    assert found is not None
    assert abs(float(found[1]) - 1 / 3) < 0.02 and float(found[2]) < 1e-4
    sizes = re.search(r"pruned (\S+) bytes, packed (\S+) bytes", printed)
    assert sizes is not None
    before, after = (int(size.replace(",", "")) for size in sizes.groups())
    assert after < 0.6 * before
