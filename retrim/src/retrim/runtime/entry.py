"""What a profile is made of: layers as requests, and their measured times as entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from retrim.artifact.layout import GROUPS, PRECISIONS, AnyView, ListView, lane_width
from retrim.errors import ConfigError

ACTIVATIONS = ("static", "dynamic")
TORCH = "torch"
"""In place of an instruction set: a dense layer of torch."""
_SAME = 1.02  # ratio of densities that count as one
_MOST = 2**40


@dataclass(frozen=True, kw_only=True)
class Request:
    """A packed layer that is to run on some tokens.

    Parameters
    ----------
    precision : {"fp32", "bf16", "int8"}
    activations : {"static", "dynamic"}, optional
        In int8, whether inputs have one known scale or each token its own.
    outputs, inputs : int
        Shape of the weight.
    density : float
        Stored over all, padding within lanes apart.
    rows, group : int
        Height of a block (below 32: of a row group), and neighbouring columns stored together.
    tokens, threads : int

    Raises
    ------
    ConfigError
        If one of them says something it must not say.
    """

    precision: str
    activations: str | None
    outputs: int
    inputs: int
    density: float
    rows: int
    group: int
    tokens: int
    threads: int

    def __post_init__(self) -> None:
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("activations", self.activations, ACTIVATIONS if self.precision == "int8" else (None,))
        _one_of("group", self.group, GROUPS)
        for name in ("outputs", "inputs", "rows", "tokens", "threads"):
            _whole(name, getattr(self, name))
        _number("density", self.density, most=1.0)

    @classmethod
    def of(cls, view: AnyView, tokens: int, threads: int, activations: str | None = None) -> Request:
        """A pack, to run on `tokens`; in int8 each token is scaled by itself unless `activations` says otherwise."""
        if view.precision == "int8" and activations is None:
            activations = "dynamic"
        return cls(
            precision=view.precision,
            activations=activations,
            outputs=view.outputs,
            inputs=view.inputs,
            density=stored(view),
            rows=view.height,
            group=view.group,
            tokens=tokens,
            threads=threads,
        )

    @property
    def work(self) -> float:
        """Stored weights."""
        return self.outputs * self.inputs * self.density

    @property
    def layer(self) -> tuple[Any, ...]:
        """Everything but density and tokens."""
        return (
            self.precision,
            self.activations,
            self.outputs,
            self.inputs,
            self.rows,
            self.group,
            self.threads,
        )

    def dense(self) -> Request:
        """The same layer with nothing left out, in groups that fill a lane."""
        group = lane_width(self.precision)
        while self.inputs % group:
            group //= 2
        return replace(self, density=1.0, rows=32, group=group)

    def is_like(self, other: Request) -> bool:
        """Whether one time holds for both."""
        alike = same_density(self.density, other.density)
        return alike and self.layer == other.layer and self.tokens == other.tokens


@dataclass(frozen=True, kw_only=True)
class Entry(Request):
    """A measured time.

    Parameters
    ----------
    isa, variant : str
        Kernels: instruction set and how they read x; ``torch`` and an operator's name.
    microseconds : float
        Median.
    runs : int
        Of so many.
    """

    isa: str
    variant: str
    microseconds: float
    runs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("isa", "variant"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"{name} must be a name, not {value!r}")
        _whole("runs", self.runs)
        _number("microseconds", self.microseconds, most=1e15)

    @classmethod
    def read(cls, found: Any) -> Entry:
        """Take an entry from a file.

        Raises
        ------
        ConfigError
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(found, Mapping) or set(found) != set(names):
            have = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise ConfigError(f"an entry must have the fields {', '.join(names)}, not {have}")
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, in the order of the documentation."""
        found = asdict(self)
        order = (
            "precision",
            "activations",
            "isa",
            "variant",
            "outputs",
            "inputs",
            "density",
            "rows",
            "group",
        )
        return {name: found[name] for name in (*order, "tokens", "threads", "microseconds", "runs")}

    def replaces(self, other: Entry) -> bool:
        """Whether both measured the same."""
        return (self.isa, self.variant) == (other.isa, other.variant) and self.is_like(other)


def same_density(one: float, other: float) -> bool:
    """Whether two densities count as one."""
    return max(one, other) <= _SAME * min(one, other)


def stored(view: AnyView) -> float:
    """Stored columns times rows over the weight's size: the density that kernels see."""
    if isinstance(view, ListView):
        return min(1.0, max(view.stored_density, 1 / (view.outputs * view.inputs)))
    kept = np.diff(view.starts).astype(np.int64)
    first = np.arange(len(kept)) * view.height
    rows = np.minimum(view.height, view.outputs - first).clip(min=0)  # padding costs as little as it is
    if view.rows is not None:
        rows = np.minimum(view.height, np.count_nonzero(view.rows >= 0) - first).clip(min=0)
    found = float((kept * rows).sum()) / (view.outputs * view.inputs)
    return min(1.0, max(found, 1 / (view.outputs * view.inputs)))


def _one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if isinstance(value, bool) or value not in known:
        raise ConfigError(f"{name} must be {' or '.join(map(str, known))}, not {value!r}")


def _whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise ConfigError(f"{name} must be a whole number >= 1, not {value!r}")


def _number(name: str, value: Any, most: float) -> None:
    right = isinstance(value, int | float) and not isinstance(value, bool)
    if not right or not 0 < value <= most:
        raise ConfigError(f"{name} must be a number above 0 and at most {most:g}, not {value!r}")
