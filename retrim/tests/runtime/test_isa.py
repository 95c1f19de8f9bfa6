"""The choice of an instruction set."""

from __future__ import annotations

import platform
import re

import numpy as np
import pytest

from retrim.artifact.layout import pack_rows
from retrim.errors import RuntimeUnavailableError
from retrim.runtime import PackedMatrix, _core, isa


def test_portable_is_always_there_and_last() -> None:
    assert isa.available()[-1] == "portable"
    assert [name for name, _ in _core.isas()][-1] == "portable"


def test_this_processor_runs_what_its_kind_must() -> None:
    known = [name for name, _ in _core.isas()]
    machine = platform.machine()
    if machine == "x86_64":
        assert known == ["amx", "avx512_bf16", "avx512_vnni", "avx512", "avx2_vnni", "avx2", "portable"]
    elif machine in ("aarch64", "arm64"):
        assert known == ["neon_dot", "neon", "portable"]
        assert isa.available()[-2:] == ["neon", "portable"]


def test_the_fastest_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("RETRIM_ISA")
        else:
            monkeypatch.setenv("RETRIM_ISA", unset)
        assert isa.selected() == isa.available()[0]


def test_the_variable_chooses(instruction_set: str) -> None:
    assert isa.selected() == instruction_set
    assert _core.isas()[isa.index(instruction_set)] == (instruction_set, True)


def test_an_unknown_name_is_refused_where_a_layer_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIM_ISA", "sse9")
    sentence = f"RETRIM_ISA must be one of {', '.join(isa.available())} on this processor, not 'sse9'"
    with pytest.raises(RuntimeUnavailableError, match=f"^{re.escape(sentence)}$"):
        isa.selected()
    weight = np.ones((32, 4), np.float32)
    with pytest.raises(RuntimeUnavailableError, match=f"^{re.escape(sentence)}$"):
        PackedMatrix(pack_rows(weight, weight > 0))


def test_one_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without AVX2 goes on with RETRIM_ISA=portable, and says so otherwise."""
    monkeypatch.setattr(_core, "isas", lambda: [("avx512", False), ("avx2", False), ("portable", True)])
    monkeypatch.delenv("RETRIM_ISA", raising=False)
    assert isa.selected() == "portable"
    monkeypatch.setenv("RETRIM_ISA", "avx2")
    sentence = "RETRIM_ISA must be one of portable on this processor, not 'avx2'"
    with pytest.raises(RuntimeUnavailableError, match=f"^{re.escape(sentence)}$"):
        isa.selected()


def test_the_core_itself_refuses_what_would_crash() -> None:
    weight = np.ones((32, 4), np.float32)
    matrix = PackedMatrix(pack_rows(weight, weight > 0))
    x, y = np.zeros((1, 4), np.float32), np.zeros((1, 32), np.float32)
    for number in (-1, len(_core.isas())):
        with pytest.raises(ValueError, match=r"^the instruction set must be one that this processor has$"):
            matrix._core.apply(x, y, None, number, 1)
