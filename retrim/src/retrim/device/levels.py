"""Tables of levels: which sub-model belongs to which operating point, and what one inference costs it.

A file is TOML, or the same in JSON:

    format = "retrim-levels"
    version = 1
    deadline_ms = 100.0
    dense = { density = 1.0, accuracy = 0.412, cycles = 3.1e8 }
    backbone = { density = 0.5, accuracy = 0.410, cycles = 1.6e8 }
    [[level]]
    name = "l6"
    mhz = 1400
    density = 0.4
    accuracy = 0.409
    latency_ms = 99.0

Instead of `cycles` a level may say `latency_ms` at its own `mhz`.  Time goes as cycles over frequency:
that the memory's clock stays where it is is not modelled.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retrim.device.checks import LEAST, number, table, words
from retrim.errors import DeviceError

FORMAT, VERSION = "retrim-levels", 1
TOLERANCE = 1e-6  # relative: what meets a deadline but for rounding meets it
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Level:
    """A model at an operating point.

    Parameters
    ----------
    name : str
    mhz : float
    cycles : float
        Of one inference.
    density : float, optional
        Kept weights over all, 0 < density ≤ 1.
    accuracy : float, optional
        Whatever the task counts, 0 to 1.

    Raises
    ------
    DeviceError
        If a number is out of range.
    """

    name: str
    mhz: float
    cycles: float
    density: float | None = None
    accuracy: float | None = None

    def __post_init__(self) -> None:
        words("a level's name", self.name)
        number(f"mhz of level {self.name!r}", self.mhz, above=True, most=1e5)
        number(f"cycles of level {self.name!r}", self.cycles, least=LEAST, most=1e15)
        if self.density is not None:
            number(f"density of level {self.name!r}", self.density, above=True, most=1)
        if self.accuracy is not None:
            number(f"accuracy of level {self.name!r}", self.accuracy, most=1)

    def latency_ms(self, mhz: float | None = None) -> float:
        """Milliseconds of one inference, at its own frequency or at another."""
        return self.cycles / (1000 * (self.mhz if mhz is None else mhz))

    def meets(self, deadline_ms: float, mhz: float | None = None) -> bool:
        """Whether an inference is done in time."""
        return self.latency_ms(mhz) <= deadline_ms * (1 + TOLERANCE)


@dataclass(frozen=True, kw_only=True)
class LevelTable:
    """Levels from the fastest operating point to the slowest, and what they are compared with.

    Parameters
    ----------
    levels : tuple of Level
        Sorted when built; frequencies must differ.
    dense, backbone : Level, optional
        The models before pruning, and before levels; at the top level's frequency.
    deadline_ms : float, optional

    Raises
    ------
    DeviceError
        Without levels, or with two of one name or frequency.
    """

    levels: tuple[Level, ...]
    dense: Level | None = None
    backbone: Level | None = None
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        if not self.levels:
            raise DeviceError("a table of levels must have a level, but has none")
        ordered = tuple(sorted(self.levels, key=lambda level: -level.mhz))
        object.__setattr__(self, "levels", ordered)
        for what in ("name", "mhz"):
            values = [getattr(level, what) for level in ordered]
            if len(set(values)) < len(values):
                raise DeviceError(f"levels must differ in {what}, but have {', '.join(map(str, values))}")
        if self.deadline_ms is not None:
            number("deadline_ms", self.deadline_ms, least=LEAST)

    def level(self, name: str) -> Level:
        """A level by its name.

        Raises
        ------
        DeviceError
            If there is none of this name.
        """
        for level in self.levels:
            if level.name == name:
                return level
        known = ", ".join(level.name for level in self.levels)
        raise DeviceError(f"level must be one of {known}, not {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """As a file says it, ready for JSON; `read_levels` reads it."""
        found: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        if self.deadline_ms is not None:
            found["deadline_ms"] = self.deadline_ms
        for name, rival in (("dense", self.dense), ("backbone", self.backbone)):
            if rival is not None:
                found[name] = {key: value for key, value in _said(rival).items() if key != "name"}
        return found | {"level": [_said(level) for level in self.levels]}

    def late(self, deadline_ms: float) -> tuple[Level, ...]:
        """Levels that miss a deadline at their own frequencies.

        Raises
        ------
        DeviceError
            If all of them do; says which deadline would be feasible.
        """
        found = tuple(level for level in self.levels if not level.meets(deadline_ms))
        if len(found) == len(self.levels):
            best = min(self.levels, key=lambda level: level.latency_ms())
            raise DeviceError(
                f"deadline_ms must be one that a level meets, not {deadline_ms:g}: the fastest, {best.name!r}, takes "
                f"{best.latency_ms():.4g} ms at {best.mhz:g} MHz; ask for {_above(best.latency_ms()):g} ms or more, or "
                "for sparser levels"
            )
        return found


def just_meeting(frequencies_mhz: Sequence[float], deadline_ms: float) -> LevelTable:
    """Levels that each take exactly the deadline at their frequency: the most that switching could gain.

    Densities go as frequencies; accuracies are unknown.
    """
    number("deadline_ms", deadline_ms, least=LEAST)
    top = max(frequencies_mhz, default=1.0)
    return LevelTable(
        levels=tuple(
            Level(name=f"{mhz:g} MHz", mhz=mhz, cycles=1000 * mhz * deadline_ms, density=mhz / top)
            for mhz in frequencies_mhz
        ),
        deadline_ms=deadline_ms,
    )


def read_levels(path: Path) -> LevelTable:
    """Read a table of levels, TOML or JSON by its ending.

    Raises
    ------
    DeviceError
        If it cannot be read, or says what it must not say.
    """
    name = repr(str(path))
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DeviceError("it must be below 1 MiB")
        text = path.read_text("utf-8")
        return _table(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
    except OSError as error:
        raise DeviceError(
            f"table of levels {name} must be a file that can be read: {error.strerror or error}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DeviceError(f"table of levels {name} must be TOML or JSON: {error}") from None
    except DeviceError as error:
        raise DeviceError(f"table of levels {name}: {error}") from None


def _table(found: Any) -> LevelTable:
    found = table(
        "the file", found, needs=("format", "version", "level"), may=("deadline_ms", "dense", "backbone")
    )
    if found["format"] != FORMAT:
        raise DeviceError(f"format must be {FORMAT!r}, not {found['format']!r}")
    if found["version"] != VERSION:
        raise DeviceError(f"version must be {VERSION}, not {found['version']!r}: upgrade retrim")
    if not isinstance(found["level"], list) or not found["level"]:
        raise DeviceError("level must be a list of tables ([[level]]) with one at least")
    levels = tuple(_level(item, None, None) for item in found["level"])
    top = max(level.mhz for level in levels)
    rivals = {
        name: None if found.get(name) is None else _level(found[name], name, top)
        for name in ("dense", "backbone")
    }
    return LevelTable(levels=levels, deadline_ms=found.get("deadline_ms"), **rivals)


def _level(found: Any, name: str | None, mhz: float | None) -> Level:
    what = "a level" if name is None else name
    needs = ("name", "mhz") if name is None else ()
    found = table(what, found, needs=needs, may=("mhz", "density", "accuracy", "cycles", "latency_ms"))
    name = name or words("a level's name", found["name"])
    mhz = number(f"mhz of level {name!r}", found.get("mhz", mhz), above=True, most=1e5)
    if ("cycles" in found) == ("latency_ms" in found):
        raise DeviceError(f"level {name!r} must say either cycles or latency_ms")
    cycles = _cycles(name, found, mhz)
    return Level(
        name=name, mhz=mhz, cycles=cycles, density=found.get("density"), accuracy=found.get("accuracy")
    )


def _cycles(name: str, found: Mapping[str, Any], mhz: float) -> float:
    if "cycles" in found:
        return number(f"cycles of level {name!r}", found["cycles"], least=LEAST, most=1e15)
    return 1000 * mhz * number(f"latency_ms of level {name!r}", found["latency_ms"], above=True)


def _said(level: Level) -> dict[str, Any]:
    return {key: value for key, value in asdict(level).items() if value is not None}


def _above(value: float) -> float:
    """`value` in four digits, not below it."""
    rounded = float(f"{value:.4g}")
    return rounded if rounded >= value else float(f"{value * 1.0005:.4g}")
