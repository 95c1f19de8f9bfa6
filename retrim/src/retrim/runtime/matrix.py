"""A packed weight matrix that multiplies."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from retrim.artifact.layout import PANEL, PackView, parse
from retrim.errors import ConfigError, ShapeError
from retrim.runtime import _core, isa, oracle
from retrim.runtime import threads as threads_

Activation = Literal["relu", "gelu", "gelu_tanh"]
ACTIVATIONS: dict[str | None, int] = {None: 0, "relu": 1, "gelu": 2, "gelu_tanh": 3}


class PackedMatrix:
    """y = activation(x W^T + b) with W in the packed layout.

    Parameters
    ----------
    pack : ndarray of uint8, shape (n,)
        As `retrim.artifact.layout.pack_rows` wrote it; computed on in place, never copied.
    bias : ndarray of float32, shape (out,), optional
    activation : {"relu", "gelu", "gelu_tanh"}, optional
        Applied while results are in registers.  "gelu" is the exact form.

    Raises
    ------
    ArtifactError
        If the pack is damaged.
    ShapeError
        If the bias does not fit.
    ConfigError
        If the activation is unknown.

    Notes
    -----
    Results do not depend on the number of threads.  They agree with the float64
    oracle to 1e-5 of its largest value.
    """

    def __init__(
        self, pack: np.ndarray, bias: np.ndarray | None = None, activation: Activation | None = None
    ) -> None:
        if activation not in ACTIVATIONS:
            known = ", ".join(str(name) for name in ACTIVATIONS)
            raise ConfigError(f"activation must be one of {known}, not {activation!r}")
        view = parse(pack)
        if bias is not None and np.shape(bias) != (view.outputs,):
            raise ShapeError(f"bias must have shape ({view.outputs},), not {np.shape(bias)}")
        self.view = view
        self.activation: Activation | None = activation
        full = np.zeros(view.outputs, np.float32) if bias is None else np.asarray(bias, np.float32)
        self._idle = _idle_outputs(view)
        self._idle_values = _activated(full[self._idle], activation)
        self._isa = isa.index(isa.selected())
        self._core = _core.Matrix(
            starts=view.starts,
            columns=view.columns,
            rows=view.rows,
            values=view.values,
            bias=_packed_bias(view, full),
            panel_values=_panel_values(view),
            outputs=view.outputs,
            inputs=view.inputs,
            height=view.height,
            packed_rows=view.packed_rows,
            activation=ACTIVATIONS[activation],
        )

    @property
    def outputs(self) -> int:
        """Rows of the weight."""
        return self.view.outputs

    @property
    def inputs(self) -> int:
        """Columns of the weight."""
        return self.view.inputs

    def __call__(
        self, x: np.ndarray, out: np.ndarray | None = None, threads: int | None = None
    ) -> np.ndarray:
        """Multiply.

        Parameters
        ----------
        x : ndarray of float32, shape (..., in)
            Copied only if its features are not contiguous, or if more than two
            dimensions are not contiguous together.
        out : ndarray of float32, shape (..., out), optional
            C-contiguous; written to and returned.  Must not overlap `x`.
        threads : int, optional
            Default: `retrim.runtime.threads.get()`.

        Raises
        ------
        ShapeError
            If x or out has another type or shape.
        """
        if not isinstance(x, np.ndarray) or x.dtype != np.float32:
            raise ShapeError(f"x must be a float32 array, not {getattr(x, 'dtype', type(x).__name__)}")
        if x.ndim < 1 or x.shape[-1] != self.inputs:
            raise ShapeError(f"x must have shape (..., {self.inputs}), not {x.shape}")
        shape = (*x.shape[:-1], self.outputs)
        if out is None:
            out = np.empty(shape, np.float32)
        elif not _is_output(out, shape):
            raise ShapeError(f"out must be a writable C-contiguous float32 array of shape {shape}")
        elif np.may_share_memory(x, out):
            raise ShapeError("out must not overlap x: give it memory of its own")
        rows = x if _has_plain_rows(x) else np.require(x, requirements=["C", "A"]).reshape(-1, self.inputs)
        self.into(rows, out.reshape(-1, self.outputs), threads)
        return out

    def into(self, x: Any, y: Any, threads: int | None = None) -> None:
        """Multiply into `y`, without a copy, on whatever speaks DLPack.

        Parameters
        ----------
        x : float32 CPU array, shape (tokens, in)
        y : float32 CPU array, shape (tokens, out)
            Features of both have unit stride; they must not overlap.

        Raises
        ------
        ShapeError
            If one of them is something else.
        """
        count = threads_.get() if threads is None else threads_.check(threads)
        try:
            self._core.apply(x, y, self._isa, count)
        except (TypeError, ValueError) as error:
            raise ShapeError(
                f"x and y must be float32 CPU arrays of shapes (tokens, {self.inputs}) and "
                f"(tokens, {self.outputs}) with unit stride along features, y writable, "
                f"not {_described(x)} and {_described(y)}"
            ) from error
        if len(self._idle):
            np.from_dlpack(y)[:, self._idle] = self._idle_values


def _described(array: object) -> str:
    kind, shape = getattr(array, "dtype", None), getattr(array, "shape", None)
    return type(array).__name__ if shape is None else f"{kind} {tuple(shape)}"


def _is_output(out: object, shape: tuple[int, ...]) -> bool:
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.shape != shape:
        return False
    return out.flags.c_contiguous and out.flags.writeable and out.flags.aligned


def _has_plain_rows(x: np.ndarray) -> bool:
    """Whether the kernels read `x` as it lies: rows anywhere, features side by side."""
    return x.ndim == 2 and x.flags.aligned and x.strides[1] == x.itemsize


def _panel_values(view: PackView) -> np.ndarray:
    panels = view.packed_rows // PANEL
    block = np.arange(panels) * PANEL // view.height
    kept = np.diff(view.starts.astype(np.int64))[block] if panels else np.zeros(0, np.int64)
    return np.concatenate([[0], np.cumsum(kept * PANEL)]).astype(np.int64)


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
        return np.zeros(0, np.int64)
    return np.setdiff1d(np.arange(view.outputs), view.rows)


def _activated(bias: np.ndarray, activation: Activation | None) -> np.ndarray:
    return oracle.activate(bias.astype(np.float64), activation).astype(np.float32)
