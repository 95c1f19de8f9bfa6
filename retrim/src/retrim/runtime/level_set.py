"""Level sets: all packs of a model's levels and one index, switched while the model runs.

A call of the model pins the level that is on when it begins; every layer of that call runs on
it, and a switch in between counts for the calls after it.  Switching is the assignment of one
reference, which Python makes whole or not at all.  What a level holds lives as long as it is on, or
a call has it pinned, or its source keeps it.

Sources decide what a switch costs and what memory it takes:

- `Resident`: every level packed; a switch takes a reference.
- `Nested`: one pack, of which each level takes the first so much; a switch takes a reference.
- `Stocked` (`retrim.runtime.repack`): what all levels keep, unpacked; a switch packs the next one.
- `Repacked`: whatever else makes a level's layers when it is switched to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from retrim.errors import ConfigError
from retrim.runtime.matrix import PackedMatrix

Layer = TypeVar("Layer")
"""What runs one layer at one level: a `PackedMatrix`, or anything else."""
_Given = TypeVar("_Given", covariant=True)


class Source(Protocol[_Given]):
    """Where levels come from."""

    @property
    def names(self) -> Sequence[str]:
        """Of the levels."""
        ...

    def layers(self, level: str) -> Mapping[str, _Given]:
        """The layers of a level, by name; the same names for each level."""
        ...


class Resident(Generic[Layer]):
    """All levels are there.

    Parameters
    ----------
    levels : mapping of str to mapping of str to Layer
        Level, layer.

    Raises
    ------
    ConfigError
        If there is no level, or they differ in layers.
    """

    def __init__(self, levels: Mapping[str, Mapping[str, Layer]]) -> None:
        self._levels = {name: dict(layers) for name, layers in levels.items()}
        if not self._levels:
            raise ConfigError("a level set must have a level at least")
        first, *others = self._levels
        for name in others:
            if self._levels[name].keys() != self._levels[first].keys():
                raise ConfigError(
                    f"all levels must have the same layers, but {name!r} differs from {first!r}"
                )

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._levels)

    def layers(self, level: str) -> Mapping[str, Layer]:
        return self._levels[level]


class Nested:
    """One pack for all levels of a layer: each level keeps all that the sparser ones keep.

    Parameters
    ----------
    names : sequence of str
        Of the levels, the sparsest first, as `retrim.artifact.lists.pack_lists` takes their masks.
    layers : mapping of str to PackedMatrix
        Whose packs have a segment for each level.

    Raises
    ------
    ConfigError
        If there is no level, or a pack holds another number of levels.
    """

    def __init__(self, names: Sequence[str], layers: Mapping[str, PackedMatrix]) -> None:
        if not names:
            raise ConfigError("a level set must have a level at least")
        for name, layer in layers.items():
            if layer.levels != len(names):
                raise ConfigError(
                    f"a pack must hold all {len(names)} levels to nest them, but that of {name!r} holds {layer.levels}"
                )
        self._levels = {
            level: {name: layer.at(i + 1) for name, layer in layers.items()} for i, level in enumerate(names)
        }
        self.nbytes = sum(layer.nbytes for layer in layers.values())
        """Of all packs."""

    @property
    def names(self) -> Sequence[str]:
        return tuple(self._levels)

    def layers(self, level: str) -> Mapping[str, PackedMatrix]:
        return self._levels[level]


class Repacked(Generic[Layer]):
    """Levels are made when they are switched to.

    Parameters
    ----------
    names : sequence of str
    make : callable
        The layers of a level.

    Raises
    ------
    ConfigError
        If there is no level.
    """

    def __init__(self, names: Sequence[str], make: Callable[[str], Mapping[str, Layer]]) -> None:
        if not names:
            raise ConfigError("a level set must have a level at least")
        self._names, self._make = tuple(names), make

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def layers(self, level: str) -> Mapping[str, Layer]:
        return self._make(level)


@dataclass(frozen=True)
class On(Generic[Layer]):
    """A level that is on, or was when a call began.

    Attributes
    ----------
    level : str
    layers : mapping of str to Layer
    """

    level: str
    layers: Mapping[str, Layer]


class LevelSet(Generic[Layer]):
    """A model's levels, one of them on.

    Parameters
    ----------
    source : Source
    level : str, optional
        That is on first; default: the first.

    Raises
    ------
    ConfigError
        If the level does not exist.
    """

    def __init__(self, source: Source[Layer], level: str | None = None) -> None:
        self._source = source
        self._switching = threading.Lock()
        self._pins = threading.local()
        self._on = self._made(source.names[0] if level is None else level)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the levels, in the source's order."""
        return tuple(self._source.names)

    @property
    def level(self) -> str:
        """The level that the next call will run on."""
        return self._on.level

    def switch(self, level: str) -> None:
        """Put another level on; calls that have begun finish on theirs.

        Several threads may switch at once: one after the other.  A level that cannot be made leaves
        the one that is on.

        Raises
        ------
        ConfigError
            If the level does not exist.
        """
        with self._switching:
            if level != self._on.level:
                self._on = self._made(level)

    @contextmanager
    def pinned(self) -> Iterator[On[Layer]]:
        """The level of one call, in this thread; calls within the call run on it as well."""
        held: On[Layer] | None = getattr(self._pins, "on", None)
        if held is not None:
            yield held
            return
        self._pins.on = self._on
        try:
            yield self._pins.on
        finally:
            self._pins.on = None

    def pin(self) -> bool:
        """Begin a call where `pinned` cannot enclose it; whether it is the outermost, which must `unpin`."""
        if getattr(self._pins, "on", None) is not None:
            return False
        self._pins.on = self._on
        return True

    def unpin(self) -> None:
        """End the call that `pin` began."""
        self._pins.on = None

    def layer(self, name: str) -> Layer:
        """A layer at the level of this thread's call, or, outside of calls, at the one that is on."""
        held: On[Layer] | None = getattr(self._pins, "on", None)
        return (self._on if held is None else held).layers[name]

    def _made(self, level: str) -> On[Layer]:
        names = self._source.names
        if level not in names:
            raise ConfigError(f"level must be one of {', '.join(names)}, not {level!r}")
        return On(level, self._source.layers(level))
