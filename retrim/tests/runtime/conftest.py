"""Layers for the kernels to multiply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from retrim.artifact.layout import pack_rows
from retrim.runtime import isa, oracle
from retrim.runtime import threads as threads_
from retrim.runtime.matrix import Activation, PackedMatrix


@dataclass(frozen=True)
class Layer:
    """A random weight, its mask already applied, with its bias and its pack."""

    weight: np.ndarray
    bias: np.ndarray | None
    pack: np.ndarray
    activation: Activation | None

    @property
    def matrix(self) -> PackedMatrix:
        return PackedMatrix(self.pack, self.bias, self.activation)

    def x(self, tokens: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng((seed, tokens))
        return rng.standard_normal((tokens, self.weight.shape[1]), np.float32)

    def expected(self, x: np.ndarray) -> np.ndarray:
        return oracle.linear(x, self.weight, self.bias, self.activation)

    def tolerance(self, x: np.ndarray) -> float:
        """1e-5 of the largest result; where a small layer's sums cancel, a few roundings of their terms."""
        bias = np.zeros(len(self.weight)) if self.bias is None else self.bias
        terms = np.abs(x).astype(np.float64) @ np.abs(self.weight).T + np.abs(bias)
        largest = np.abs(self.expected(x)).max(initial=0)
        return max(1e-5 * float(largest), 2.0**-22 * float(terms.max(initial=0)))


def layer(
    outputs: int,
    inputs: int,
    *,
    density: float = 0.4,
    height: int = 32,
    bias: bool = True,
    activation: Activation | None = None,
    idle: int = 0,
    seed: int = 0,
) -> Layer:
    """A layer of block columns, `idle` of whose outputs keep nothing."""
    rng = np.random.default_rng(seed)
    mask = rng.random((-(-outputs // height), inputs)) < density
    mask = np.repeat(mask, height, axis=0)[:outputs]
    mask[rng.permutation(outputs)[:idle]] = False
    weight = np.where(mask, rng.standard_normal((outputs, inputs)), 0).astype(np.float32)
    values = rng.standard_normal(outputs).astype(np.float32) if bias else None
    return Layer(weight, values, pack_rows(weight, mask, height), activation)


@pytest.fixture
def make() -> Callable[..., Layer]:
    """Makes a random layer; its keywords are those of `layer`."""
    return layer


@pytest.fixture(params=isa.available())
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set that this processor runs."""
    monkeypatch.setenv(isa.VARIABLE, request.param)
    return str(request.param)


@pytest.fixture
def chosen_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget afterwards how many threads a test chose."""
    monkeypatch.setattr(threads_, "_chosen", None)
    monkeypatch.delenv(threads_.VARIABLE, raising=False)
