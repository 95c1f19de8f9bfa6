"""A packed weight matrix that multiplies."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from retrim.artifact.layout import PANEL, AnyView, ListView, parse
from retrim.errors import ConfigError, ShapeError
from retrim.runtime import isa as isa_
from retrim.runtime import threads as threads_
from retrim.runtime.cores import ACTIVATIONS, PRECISIONS, core_of

Activation = Literal["relu", "gelu", "gelu_tanh"]
WIDTHS = {"fp32": 1, "bf16": 2, "int8": 4}
"""Columns that one 32-bit lane holds."""
VARIANTS: dict[str | None, int] = {None: 0, "direct": 1, "packed": 2, "gathered": 3, "compressed": 4}

_NAMES = {"float32": "float32", "uint16": "bfloat16", "bfloat16": "bfloat16", "uint8": "uint8"}
_TAKES = {
    "fp32": ("float32",),
    "bf16": ("float32", "bfloat16"),
    "int8": ("float32", "bfloat16", "uint8"),
}


def variants(precision: str, group: int = 1, rows: int = PANEL) -> tuple[str, ...]:
    """How kernels of a precision may read x where kept columns come in groups: what `PackedMatrix` takes.

    ``direct`` reads the natural rows of x by index, ``packed`` tiles of 16
    tokens that were transposed once.  Where groups do not fill a lane (two
    columns in bf16, four in int8), ``gathered`` joins columns of transposed
    tiles to lanes for every block, and ``compressed`` cuts the rows of a few
    tokens down to each block's columns.  Packs of row groups (fewer than 32
    `rows` to a list) know ``packed`` alone, and do not run in int8.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if rows < PANEL:
        return () if precision == "int8" else ("packed",)
    return ("direct", "packed") if group % WIDTHS[precision] == 0 else ("gathered", "compressed")


class PackedMatrix:
    """y = activation(x W^T + b) + residual with W in the packed layout.

    Parameters
    ----------
    pack : ndarray of uint8, shape (n,)
        As `retrim.artifact.layout.pack_rows` or `pack_lists` wrote it; computed on in place, never copied.
    bias : ndarray of float32, shape (out,), optional
    activation : {"relu", "gelu", "gelu_tanh"}, optional
        Applied while results are in registers.  "gelu" is the exact form.
    input_scale : float, optional
        int8 only.  x is held to 8 bits as round(x / input_scale), -127 to 127.
        Without it each token has a scale of its own, max|x| / 127.
    output_scale : float, optional
        int8 only.  Makes uint8 outputs possible: round(y / output_scale) + 128.
    variant : str, optional
        One of `variants`; without it the one that suits the number of tokens.
    isa : str, optional
        One of `retrim.runtime.isa.available`; default `retrim.runtime.isa.selected`.

    Raises
    ------
    ArtifactError
        If the pack is damaged.
    ShapeError
        If the bias does not fit.
    ConfigError
        If another parameter is wrong.

    Notes
    -----
    Results do not depend on the number of threads.  In float32 they agree with
    the float64 oracle to 1e-5 of its largest value; in bf16 so do they where x
    and y are float32 and x is rounded first.  In int8 the sums are exact.
    """

    def __init__(
        self,
        pack: np.ndarray,
        bias: np.ndarray | None = None,
        activation: Activation | None = None,
        *,
        input_scale: float | None = None,
        output_scale: float | None = None,
        variant: str | None = None,
        isa: str | None = None,
    ) -> None:
        self._set(parse(pack), bias, activation, input_scale, output_scale, variant, isa)

    @classmethod
    def of_view(
        cls,
        view: AnyView,
        bias: np.ndarray | None = None,
        activation: Activation | None = None,
        owner: object = None,
    ) -> PackedMatrix:
        """A matrix of a pack that is known to be sound: nothing is checked that kernels rely on.

        Parameters
        ----------
        view : PackView or ListView
        owner : object, optional
            Lives as long as the matrix.

        Raises
        ------
        ShapeError, ConfigError
            As the constructor.
        """
        found = cls.__new__(cls)
        found._set(view, bias, activation, None, None, None, None)
        found._owner = owner
        return found

    def _set(
        self,
        view: AnyView,
        bias: np.ndarray | None,
        activation: Activation | None,
        input_scale: float | None,
        output_scale: float | None,
        variant: str | None,
        isa: str | None,
    ) -> None:
        if activation not in ACTIVATIONS:
            known = ", ".join(str(name) for name in ACTIVATIONS)
            raise ConfigError(f"activation must be one of {known}, not {activation!r}")
        if bias is not None and np.shape(bias) != (view.outputs,):
            raise ShapeError(f"bias must have shape ({view.outputs},), not {np.shape(bias)}")
        _check_variant(variant, view)
        _check_scale("input_scale", input_scale, view)
        _check_scale("output_scale", output_scale, view)
        self.view = view
        self.activation: Activation | None = activation
        self.input_scale, self.output_scale = input_scale, output_scale
        full = np.zeros(view.outputs, np.float32) if bias is None else np.asarray(bias, np.float32)
        self._from, self._kernels = [0], [(isa_.index(isa_.chosen(isa)), VARIANTS[variant])]
        self._level = 0  # all segments
        self._owner: object = None
        self._core = core_of(view, full, activation, input_scale, output_scale)

    @property
    def outputs(self) -> int:
        """Rows of the weight."""
        return self.view.outputs

    @property
    def inputs(self) -> int:
        """Columns of the weight."""
        return self.view.inputs

    @property
    def precision(self) -> str:
        """Of the weight: fp32, bf16 or int8."""
        return self.view.precision

    @property
    def group(self) -> int:
        """Kept columns come in aligned groups of this many."""
        return self.view.group

    @property
    def nbytes(self) -> int:
        """Of the pack."""
        return self.view.nbytes

    @property
    def levels(self) -> int:
        """How many levels the pack holds: segments of its lists, 1 in blocks."""
        return self.view.segments if isinstance(self.view, ListView) else 1

    def at(self, level: int) -> PackedMatrix:
        """The same pack with the first so many segments of its lists alone; shares all memory with this one.

        Parameters
        ----------
        level : int
            1 to `levels`.

        Raises
        ------
        ConfigError
            If the pack does not hold the level.
        """
        if type(level) is not int or not 1 <= level <= self.levels:
            raise ConfigError(
                f"level must be a whole number from 1 to the pack's {self.levels}, not {level!r}"
            )
        found = copy(self)
        found._level = level
        return found

    def tune(self, table: Sequence[tuple[int, str | None, str | None]]) -> None:
        """Say which kernels run, by the number of tokens.

        Parameters
        ----------
        table : sequence of (int, str or None, str or None)
            From so many tokens on, this instruction set and variant, as the
            constructor takes them.  Rises from at most 1 token.

        Raises
        ------
        ConfigError, RuntimeUnavailableError
            If a name is unknown here, or the table does not rise.
        """
        first = [tokens for tokens, _, _ in table]
        if not first or first[0] > 1 or any(b <= a for a, b in pairwise(first)):
            raise ConfigError(f"a table of kernels must rise from at most 1 token, not be for {first}")
        for _, _, variant in table:
            _check_variant(variant, self.view)
        kernels = [(isa_.index(isa_.chosen(name)), VARIANTS[variant]) for _, name, variant in table]
        self._from, self._kernels = first, kernels

    def __call__(
        self,
        x: np.ndarray,
        out: np.ndarray | None = None,
        threads: int | None = None,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        """Multiply.

        Parameters
        ----------
        x : ndarray, shape (..., in)
            float32; with a bf16 pack also the bits of bfloat16 in uint16; with an
            int8 pack these and, where there is an input scale, uint8 (the int8 plus 128).
            Copied only if its features are not contiguous, or if more than two
            dimensions are not contiguous together.
        out : ndarray, shape (..., out), optional
            C-contiguous; written to and returned.  Must not overlap `x`.  Of
            any type that x could have (uint8 where there is an output scale);
            made where it is missing, of x's type, or float32 for uint8 without an output scale.
        threads : int, optional
            Default: `retrim.runtime.threads.get()`.
        residual : ndarray, shape (..., out), optional
            Of out's type, added after the activation.

        Raises
        ------
        ShapeError
            If x, out or residual has another type or shape.
        """
        kind = _NAMES.get(str(getattr(x, "dtype", None)))
        if not isinstance(x, np.ndarray) or kind not in self._input_types():
            raise ShapeError(
                f"x must be a {' or '.join(self._input_types())} array, not "
                f"{getattr(x, 'dtype', type(x).__name__)}"
            )
        if x.ndim < 1 or x.shape[-1] != self.inputs:
            raise ShapeError(f"x must have shape (..., {self.inputs}), not {x.shape}")
        shape = (*x.shape[:-1], self.outputs)
        if out is None:
            out = np.empty(shape, self._output_type(x.dtype))
        elif not _is_output(out, shape, self._output_types()):
            raise ShapeError(
                f"out must be a writable C-contiguous {' or '.join(self._output_types())} array of shape {shape}"
            )
        elif np.may_share_memory(x, out):
            raise ShapeError("out must not overlap x: give it memory of its own")
        if residual is not None:
            if not isinstance(residual, np.ndarray) or residual.shape != shape or residual.dtype != out.dtype:
                raise ShapeError(f"residual must be a {out.dtype} array of shape {shape}, as out is")
            residual = np.ascontiguousarray(residual).reshape(-1, self.outputs)
        rows = x if _has_plain_rows(x) else np.require(x, requirements=["C", "A"]).reshape(-1, self.inputs)
        self.into(rows, out.reshape(-1, self.outputs), threads, residual)
        return out

    def into(self, x: Any, y: Any, threads: int | None = None, residual: Any = None) -> None:
        """Multiply into `y`, without a copy, on whatever speaks DLPack.

        Parameters
        ----------
        x : CPU array, shape (tokens, in)
        y : CPU array, shape (tokens, out)
            Of types as `__call__` takes them, or bfloat16 itself.  Features of
            both have unit stride; they must not overlap.
        residual : CPU array, shape (tokens, out), optional
            Of y's type, with unit stride along features; may be y itself.

        Raises
        ------
        ShapeError
            If one of them is something else.
        """
        count = threads_.get() if threads is None else threads_.check(threads)
        kernels = self._kernels[0]
        if len(self._from) > 1:
            kernels = self._kernels[bisect_right(self._from, max(_tokens(x), 1)) - 1]
        try:
            if self._level:
                self._core.apply(x, y, residual, kernels[0], count, kernels[1], self._level)
            else:
                self._core.apply(x, y, residual, kernels[0], count, kernels[1])
        except (TypeError, ValueError) as error:
            raise ShapeError(
                f"x and y must be {' or '.join(self._input_types())} CPU arrays of shapes "
                f"(tokens, {self.inputs}) and (tokens, {self.outputs}) with unit stride along features, y writable"
                f"{self._scale_remedy(x, y)}, not {_described(x)} and {_described(y)}"
                f"{'' if residual is None else f', with a residual like y, not {_described(residual)}'}"
            ) from error

    def _input_types(self) -> tuple[str, ...]:
        return _TAKES[self.precision][: None if self.input_scale else 2]

    def _output_types(self) -> tuple[str, ...]:
        return _TAKES[self.precision][: None if self.output_scale else 2]

    def _output_type(self, x: np.dtype[Any]) -> np.dtype[Any]:
        if x != np.uint8 or self.output_scale:
            return x
        return np.dtype(np.float32)

    def _scale_remedy(self, x: Any, y: Any) -> str:
        """What to say of uint8 where a scale is missing."""
        for array, scale, name in (
            (x, self.input_scale, "input_scale"),
            (y, self.output_scale, "output_scale"),
        ):
            if str(getattr(array, "dtype", "")).endswith("uint8") and not scale:
                return f" (uint8 needs {name})"
        return ""


def _tokens(x: Any) -> int:
    shape: tuple[int, ...] = getattr(x, "shape", ())
    return shape[0] if len(shape) else 1


def _described(array: object) -> str:
    kind, shape = getattr(array, "dtype", None), getattr(array, "shape", None)
    return type(array).__name__ if shape is None else f"{kind} {tuple(shape)}"


def _check_variant(variant: str | None, view: AnyView) -> None:
    known = variants(view.precision, view.group, view.height)
    if variant is not None and variant not in known:
        kind = f"groups of {view.group}" if view.height >= PANEL else "row groups"
        raise ConfigError(
            f"variant must be one of {', '.join(known) or 'none'} for {view.precision} in {kind}, not {variant!r}"
        )


def _check_scale(name: str, scale: float | None, view: AnyView) -> None:
    if scale is None:
        return
    if view.precision != "int8":
        raise ConfigError(f"{name} must be left out for a {view.precision} pack: only int8 is scaled")
    if not (math.isfinite(scale) and 1e-30 < scale < 1e30):
        raise ConfigError(f"{name} must be a number from 1e-30 to 1e30, not {scale!r}")


def _is_output(out: object, shape: tuple[int, ...], types: tuple[str, ...]) -> bool:
    if not isinstance(out, np.ndarray) or _NAMES.get(str(out.dtype)) not in types or out.shape != shape:
        return False
    return out.flags.c_contiguous and out.flags.writeable and out.flags.aligned


def _has_plain_rows(x: np.ndarray) -> bool:
    """Whether the kernels read `x` as it lies: rows anywhere, features side by side."""
    return x.ndim == 2 and x.flags.aligned and x.strides[1] == x.itemsize
