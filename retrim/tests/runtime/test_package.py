"""What the run-time loads, and what it says of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from retrim.runtime import host, isa

LOADED = (
    "import sys, retrim.runtime, retrim.runtime.host, retrim.runtime.oracle; print('\\n'.join(sys.modules))"
)


def test_it_imports_numpy_alone() -> None:
    before = subprocess.run(
        [sys.executable, "-c", "import sys; print('\\n'.join(sys.modules))"],
        check=True,
        capture_output=True,
        text=True,
    )
    after = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True)
    new = {name.partition(".")[0] for name in set(after.stdout.split()) - set(before.stdout.split())}
    assert new - set(sys.stdlib_module_names) == {"numpy", "retrim"}


def test_describe_is_ready_for_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETRIM_ISA", raising=False)
    found = host.describe()
    assert json.loads(json.dumps(found)) == found
    assert found["isa"] == isa.available()
    assert found["isa_selected"] == isa.available()[0]
    assert found["cores"] == os.cpu_count()
    assert found["cpu"]
    assert found["system"]
    assert found["python"].startswith("3.")
    assert {"retrim", "numpy"} <= set(found["versions"])


def test_describe_names_the_chosen_instruction_set(instruction_set: str) -> None:
    assert host.describe()["isa_selected"] == instruction_set


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_PACKAGES", ("retrim", "no-such-package"))
    assert list(host.describe()["versions"]) == ["retrim"]
