"""The compiled core's object for a pack: its sections, and what follows from the bias."""

from __future__ import annotations

import numpy as np

from retrim.artifact.layout import AnyView, ListView, PackView
from retrim.errors import ConfigError
from retrim.runtime import _core, oracle

PRECISIONS = {"fp32": 0, "bf16": 1, "int8": 2}
ACTIVATIONS: dict[str | None, int] = {None: 0, "relu": 1, "gelu": 2, "gelu_tanh": 3}
_MOST_INT8 = 132_104  # columns whose products fit 32 bits


def core_of(
    view: AnyView,
    bias: np.ndarray,
    activation: str | None,
    input_scale: float | None,
    output_scale: float | None,
) -> _core.Matrix:
    """A core that computes on a pack where it lies.

    Parameters
    ----------
    bias : ndarray of float32, shape (out,)

    Raises
    ------
    ConfigError
        If kernels do not run such a pack.
    """
    if isinstance(view, ListView):
        return _of_lists(view, bias, activation)
    return _of_blocks(view, bias, activation, input_scale, output_scale)


def _of_lists(view: ListView, bias: np.ndarray, activation: str | None) -> _core.Matrix:
    if view.precision == "int8":
        raise ConfigError("a pack of row groups must be of fp32 or bf16 to run, not of int8: pack it in bf16")
    padded = np.zeros(view.packed_rows, np.float32)
    padded[: view.outputs] = bias
    narrow = view.columns.dtype == np.uint16
    return _core.Matrix(
        precision=PRECISIONS[view.precision],
        list_rows=view.height,
        ends=view.ends.reshape(-1),
        short_columns=view.columns if narrow else None,
        columns=None if narrow else view.columns,
        values=view.values.view(np.uint8),
        bias=padded,
        segments=view.segments,
        outputs=view.outputs,
        inputs=view.inputs,
        packed_rows=view.packed_rows,
        activation=ACTIVATIONS[activation],
    )


def _of_blocks(
    view: PackView,
    bias: np.ndarray,
    activation: str | None,
    input_scale: float | None,
    output_scale: float | None,
) -> _core.Matrix:
    if view.precision == "int8" and view.starts.size > 1 and np.diff(view.starts).max() > _MOST_INT8:
        raise ConfigError(
            f"an int8 weight must keep at most {_MOST_INT8} columns in a block: pack it in bf16"
        )
    idle = _idle_outputs(view)
    return _core.Matrix(
        precision=PRECISIONS[view.precision],
        group=view.group,
        starts=view.starts,
        columns=view.columns,
        rows=view.rows,
        scales=view.scales,
        values=view.values.view(np.uint8),
        bias=_packed_bias(view, bias),
        idle=idle,
        idle_values=_activated(bias[idle], activation),
        outputs=view.outputs,
        inputs=view.inputs,
        height=view.height,
        packed_rows=view.packed_rows,
        activation=ACTIVATIONS[activation],
        input_scale=input_scale or 0.0,
        output_scale=output_scale or 0.0,
    )


def _packed_bias(view: PackView, bias: np.ndarray) -> np.ndarray:
    packed = np.zeros(view.packed_rows, np.float32)
    if view.rows is None:
        packed[: view.outputs] = bias
    else:
        real = view.rows >= 0
        packed[real] = bias[view.rows[real]]
    return packed


def _idle_outputs(view: PackView) -> np.ndarray:
    """Outputs that no packed row computes."""
    if view.rows is None:
        return np.zeros(0, np.int32)
    return np.setdiff1d(np.arange(view.outputs, dtype=np.int32), view.rows)


def _activated(bias: np.ndarray, activation: str | None) -> np.ndarray:
    return oracle.activate(bias.astype(np.float64), activation).astype(np.float32)
