"""What all recipes are made of: frozen tables without unknown keys, and complaints in our words."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from retrim.errors import ConfigError


class Part(BaseModel):
    """A table of a recipe: unknown keys are refused, and nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


P = TypeVar("P", bound=Part)


def read_toml(path: Path) -> dict[str, Any]:
    """The recipe's table, not checked.

    Raises
    ------
    ConfigError
        If the file is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"recipe {str(path)!r} must be a file that can be read: {error.strerror or error}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {str(path)!r} must be TOML: {error}") from None


def checked(kind: type[P], table: dict[str, Any], name: str) -> P:
    """Check a table; `name` is for messages.

    Raises
    ------
    ConfigError
        With the first complaint: where, and what to write instead.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"recipe {name!r}: {_sentence(kind, error)}") from None


def _sentence(kind: type[Part], error: ValidationError) -> str:
    """The first complaint, in our words."""
    found = error.errors()
    unknown = (one for one in found if one["type"] == "extra_forbidden")  # a misspelt key is missing too
    first = next(unknown, found[0])
    place, value, context = first["loc"], first["input"], first.get("ctx", {})
    parts, where = _walk(kind, place)
    match first["type"]:
        case "extra_forbidden":
            parts, parent = _walk(kind, place[:-1])
            keys = sorted({name for part in parts for name in part.model_fields})
            return f"{parent or 'a recipe'} must have no key {place[-1]!r}: its keys are {', '.join(keys)}"
        case "missing":
            return f"{where} must be given"
        case "value_error":
            return f"{where}: {context['error']}" if where else str(context["error"])
        case "union_tag_invalid" | "union_tag_not_found":
            tags = sorted(tag for part in parts for tag in _tags(part))
            given = value.get("type") if isinstance(value, dict) else value
            return f"{where}.type must be one of {', '.join(tags)}, not {given!r}"
        case "literal_error":
            return f"{where} must be {context['expected']}, not {value!r}"
        case "too_short":
            return f"{where} must have at least {context['min_length']} entry, not {context['actual_length']}"
        case "finite_number":
            return f"{where} must be a finite number, not {value}"
        case _:
            said = first["msg"].removeprefix("Input should be ")
            plain = isinstance(value, str | int | float) and not (
                isinstance(value, float) and math.isnan(value)
            )
            return f"{where} must be {said}, not {value if plain else type(value).__name__!r}"


def _walk(kind: type[Part], place: tuple[int | str, ...]) -> tuple[list[type[Part]], str]:
    """The tables that may stand at a place, and the place in words, without choices of `type`."""
    here: list[type[Part]] = [kind]
    said: list[str] = []
    for name in place:
        chosen = [part for part in here if name in _tags(part)]
        if chosen:
            here = chosen
            continue
        said.append(str(name))
        if isinstance(name, str):
            fields = [part.model_fields[name].annotation for part in here if name in part.model_fields]
            here = [part for field in fields for part in _parts_in(field)]
    return here, ".".join(said)


def _tags(part: type[Part]) -> tuple[str, ...]:
    """What its key `type` must say, where it has one."""
    return get_args(part.model_fields["type"].annotation) if "type" in part.model_fields else ()


def _parts_in(annotation: Any) -> list[type[Part]]:
    """Every table that a field's annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    return [part for inner in get_args(annotation) for part in _parts_in(inner)]
