"""Timed outputs held to the oracle: a run that computes something else is not a rival."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from chains import Chain
from packed import PackedChain

from retrim.artifact.bfloat16 import from_bits
from retrim.runtime import oracle

TOLERANCES = {"fp32": 1e-5, "bf16": 1e-2, "int8": 5e-2}
"""Of a dense run-time's last output: root mean square of its error over that of the output.

The precision's own rounding, of activations and sums, is a third of it at most."""


def check_rivals(shape: str, chain: Chain, outputs: Mapping[str, Any]) -> None:
    """Hold the last output of each dense run-time to a float64 chain on the same weights.

    Raises
    ------
    SystemExit
        If one disagrees.
    """
    expected = chain.x.astype(np.float64)
    for layer in chain.layers:
        expected = oracle.linear(expected, layer.dense(), layer.bias)
    size = np.sqrt(np.mean(expected**2))
    for name, output in outputs.items():
        values = _values(output)
        if values.shape != expected.shape:
            _refuse(shape, chain, name, f"it has shape {values.shape}")
        error = float(np.sqrt(np.mean((values - expected) ** 2)) / size)
        if not error <= TOLERANCES[chain.precision]:
            _refuse(shape, chain, name, f"they differ by {error:.1e} of its size")


def check_ours(shape: str, chain: Chain, timed: Iterable[tuple[str, PackedChain, np.ndarray]]) -> None:
    """Hold our own layers, one by one, and the last output to the oracle.

    Raises
    ------
    SystemExit
        If one disagrees.
    """
    for name, layers, output in timed:
        wrong = layers.disagreement(output)
        if wrong:
            _refuse(shape, chain, name, wrong)


def _values(output: Any) -> np.ndarray:
    """Numbers of a tensor of any run-time."""
    if hasattr(output, "float"):  # torch
        output = output.float().numpy()
    return from_bits(output) if output.dtype == np.uint16 else np.asarray(output)


def _refuse(shape: str, chain: Chain, name: str, why: str) -> None:
    raise SystemExit(
        f"{name} on {shape} with {chain.tokens} tokens must agree with the {chain.precision} oracle, "
        f"but {why}: nothing is reported"
    )
