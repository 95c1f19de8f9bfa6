"""Which kernels a matrix runs with, by the number of tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from retrim.artifact.layout import pack_rows
from retrim.errors import ConfigError, RuntimeUnavailableError
from retrim.runtime import PackedMatrix, _core, isa
from retrim.runtime.matrix import VARIANTS, variants


class Recorded:
    """The core of a matrix, that remembers with which kernels it was called."""

    def __init__(self, core: Any) -> None:
        self.core, self.kernels = core, list[tuple[str, int]]()

    def apply(self, x: Any, y: Any, residual: Any, isa_: int, threads: int, variant: int) -> None:
        self.kernels.append(([name for name, _ in _core.isas()][isa_], variant))
        self.core.apply(x, y, residual, isa_, threads, variant)


@pytest.fixture
def matrix() -> PackedMatrix:
    weight = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
    return PackedMatrix(pack_rows(weight, weight > 0))


def test_a_table_chooses_by_tokens(matrix: PackedMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    core = Recorded(matrix._core)
    monkeypatch.setattr(matrix, "_core", core)
    matrix.tune([(1, "portable", "direct"), (4, None, "packed"), (9, None, None)])
    for tokens in (0, 1, 3, 4, 8, 9, 1000):
        matrix(np.zeros((tokens, 48), np.float32))
    best = isa.available()[0]
    direct, packed = VARIANTS["direct"], VARIANTS["packed"]
    assert core.kernels == [
        *[("portable", direct)] * 3,
        *[(best, packed)] * 2,
        *[(best, 0)] * 2,
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_whatever_is_chosen_agrees(precision: str, make: Callable[..., Any]) -> None:
    made = make(96, 80, height=64)
    pack = pack_rows(made.weight, made.weight != 0, 64, precision)
    x = made.x(20)
    expected = PackedMatrix(pack, isa="portable")(x)
    for name in isa.available():
        for variant in variants(precision):
            chosen = PackedMatrix(pack, isa=name, variant=variant)(x)
            np.testing.assert_allclose(chosen, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("table", "error", "sentence"),
    [
        ([], ConfigError, "a table of kernels must rise from at most 1 token, not be for []"),
        (
            [(1, None, None), (1, None, None)],
            ConfigError,
            "a table of kernels must rise from at most 1 token, not be for [1, 1]",
        ),
        ([(2, None, None)], ConfigError, "a table of kernels must rise from at most 1 token, not be for [2]"),
        (
            [(1, None, "gathered")],
            ConfigError,
            "variant must be one of direct, packed for fp32 in groups of 1, not 'gathered'",
        ),
        (
            [(1, "mmx", None)],
            RuntimeUnavailableError,
            f"isa must be one of {', '.join(isa.available())} on this processor, not 'mmx'",
        ),
    ],
)
def test_wrong_tables_are_refused(
    matrix: PackedMatrix, table: list[Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
        matrix.tune(table)


def test_an_instruction_set_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = pack_rows(np.ones((32, 4), np.float32), np.ones((32, 4), bool))
    monkeypatch.setenv(isa.VARIABLE, "portable")
    for name, expected in ((None, "portable"), (isa.available()[0], isa.available()[0])):
        matrix = PackedMatrix(pack, isa=name)
        core = Recorded(matrix._core)
        monkeypatch.setattr(matrix, "_core", core)
        matrix(np.zeros((1, 4), np.float32))
        assert core.kernels == [(expected, 0)]
