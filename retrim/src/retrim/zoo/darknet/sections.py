"""Darknet's `.cfg` files: sections of options, one `key=value` a line.

The first section, `[net]`, is about the input and the training; each other one is a
layer.  `#` and `;` begin a comment.  Stricter than darknet, which takes the first of
two equal keys and passes over lines that it does not understand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from retrim.errors import ConfigError

NET = "net"
"""Name of the first section."""

_ALIASES = {"network": NET, "conv": "convolutional", "max": "maxpool", "avg": "avgpool"}
_COMMENTS = ("#", ";")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section and its options, as they are written.

    Attributes
    ----------
    name : str
        Without brackets, in darknet's long form ("convolutional" also for "conv").
    number : int
        Darknet's index of the layer, from 0; -1 for `[net]`.
    line : int
        Of the name, from 1.
    source : str
        The file, for messages.
    options : Mapping of str to str
    """

    name: str
    number: int
    line: int
    source: str
    options: Mapping[str, str]

    @property
    def place(self) -> str:
        """What messages call it."""
        number = "" if self.number < 0 else f"section {self.number} "
        return f"{number}[{self.name}] (line {self.line} of {self.source!r})"

    def wrong(self, rule: str, value: object, remedy: str) -> ConfigError:
        """The error "section … must …, but …: …"."""
        return ConfigError(f"{self.place} must {rule}, but has {value}: {remedy}")

    def text(self, key: str, default: str) -> str:
        """An option as it is written."""
        return self.options.get(key, default)

    def whole(self, key: str, default: int, least: int = 1) -> int:
        """An option that is a whole number of at least `least`."""
        found = self.wholes(key, (default,))
        if len(found) != 1 or found[0] < least:
            raise self._not(key, f"one whole number >= {least}")
        return found[0]

    def number_of(self, key: str, default: float) -> float:
        """An option that is a finite number."""
        found = self.numbers(key, (default,))
        if len(found) != 1:
            raise self._not(key, "one number")
        return found[0]

    def wholes(self, key: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """An option that is a list of whole numbers, between commas."""
        if key not in self.options:
            return default
        try:
            return tuple(int(word) for word in _words(self.options[key]))
        except ValueError:
            raise self._not(key, "whole numbers between commas") from None

    def numbers(self, key: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        """An option that is a list of finite numbers, between commas."""
        if key not in self.options:
            return default
        try:
            found = tuple(float(word) for word in _words(self.options[key]))
        except ValueError:
            raise self._not(key, "numbers between commas") from None
        if not all(math.isfinite(value) for value in found):
            raise self._not(key, "finite numbers")
        return found

    def _not(self, key: str, rule: str) -> ConfigError:
        return self.wrong(f"give {key} as {rule}", f"{key}={self.options.get(key)}", "correct the file")


def read_sections(path: Path | str) -> tuple[Section, ...]:
    """Sections of a file; see `parse_sections`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(
            f"cfg {str(path)!r} must be a text file, but cannot be read: {why}; fetch it again"
        ) from error
    return parse_sections(text, str(path))


def parse_sections(text: str, source: str = "cfg") -> tuple[Section, ...]:
    """Sections of the text of a `.cfg`, `[net]` first.

    Parameters
    ----------
    text : str
    source : str
        What messages call it.

    Raises
    ------
    ConfigError
        If a line is neither a name in brackets nor `key=value`, a key occurs twice, or `[net]` is not first.
    """
    found: list[tuple[str, int, dict[str, str]]] = []
    for line, content in enumerate(text.splitlines(), 1):
        words = _without_comment(content)
        if not words:
            continue
        if words.startswith("["):
            found.append((_name(words, line, source), line, {}))
        else:
            _add(found, words, line, source)
    if len(found) < 2 or found[0][0] != NET:
        names = ", ".join(f"[{name}]" for name, _, _ in found[:3]) or "nothing"
        raise ConfigError(
            f"cfg {source!r} must begin with [net], followed by layers, but holds {names}: name a detector's cfg"
        )
    _check_nets(found, source)
    return tuple(
        Section(name=name, number=index - 1, line=line, source=source, options=options)
        for index, (name, line, options) in enumerate(found)
    )


def _without_comment(content: str) -> str:
    for mark in _COMMENTS:
        content = content.partition(mark)[0]
    return content.strip()


def _name(words: str, line: int, source: str) -> str:
    if not words.endswith("]") or not words[1:-1].strip():
        raise ConfigError(
            f"line {line} of {source!r} must be a name in brackets, but is {words!r}: close the bracket"
        )
    name = words[1:-1].strip().lower()
    return _ALIASES.get(name, name)


def _add(found: list[tuple[str, int, dict[str, str]]], words: str, line: int, source: str) -> None:
    """Put one `key=value` into the last section."""
    key, equals, value = (part.strip() for part in words.partition("="))
    if not equals or not key or not value:
        raise ConfigError(
            f"line {line} of {source!r} must be [section] or key=value, but is {words!r}: correct or drop it"
        )
    if not found:
        raise ConfigError(
            f"line {line} of {source!r} must come after a [section], but {words!r} has none before it: begin with [net]"
        )
    options = found[-1][2]
    if key in options:
        raise ConfigError(
            f"line {line} of {source!r} must not give {key!r} again, but [{found[-1][0]}] has {key}={options[key]} "
            "already: drop one of them"
        )
    options[key] = value


def _check_nets(found: list[tuple[str, int, dict[str, str]]], source: str) -> None:
    for name, line, _ in found[1:]:
        if name == NET:
            raise ConfigError(f"line {line} of {source!r} must name a layer, but is a second [net]: drop it")


def _words(value: str) -> list[str]:
    """Between commas; darknet's own files end lists in one."""
    words = [word.strip() for word in value.split(",")]
    return words[:-1] if len(words) > 1 and not words[-1] else words
