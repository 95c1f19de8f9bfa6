"""Base of all scene models, and validation errors as one sentence."""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from conebeam.errors import ConfigError

_DEPTH: ContextVar[int] = ContextVar("depth", default=0)
_SOURCE_TAGS = {"point", "parallel", "pencil", "rectangle", "circle", "mono", "csv", "tube", "tube_result"}
_CELL_TAGS = {"box", "sphere", "ellipsoid", "cylinder", "cone", "wedge"}
_PHANTOM_TAGS = {"water_box", "slabs", "cylinder", "voxels"}
_SCORER_TAGS = {"dose", "energy", "fluence", "air_kerma"}
_TAGS = _SOURCE_TAGS | _CELL_TAGS | _PHANTOM_TAGS | _SCORER_TAGS


class Model(BaseModel):
    """Frozen, keyword-only; unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, strict=False, validate_default=True
    )

    def __init__(self, **values: Any) -> None:
        # pydantic builds nested models through here too: only the outermost call
        # turns the error into a sentence, when the whole path to the key is known.
        nested = _DEPTH.get()
        token = _DEPTH.set(nested + 1)
        try:
            super().__init__(**values)
        except ValidationError as error:
            if nested:
                raise
            raise ConfigError(sentence(error, _owner(type(self).__name__))) from None
        finally:
            _DEPTH.reset(token)


def _fraction(value: object) -> object:
    if isinstance(value, str):
        text = value.strip()
        try:
            return float(text[:-1]) / 100.0 if text.endswith("%") else float(text)
        except ValueError:
            raise ValueError("must be a number or a percentage such as '0.5%'") from None
    return value


def _point(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Length = Annotated[float, Field(gt=0.0)]
Point = Annotated[tuple[float, float, float], BeforeValidator(_point)]
Range = Annotated[tuple[float, float], BeforeValidator(_point)]
Fraction = Annotated[float, BeforeValidator(_fraction), Field(gt=0.0, lt=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _+-]*$")]

_RULES = {
    "greater_than": "be greater than {gt}",
    "greater_than_equal": "be at least {ge}",
    "less_than": "be below {lt}",
    "less_than_equal": "be at most {le}",
    "finite_number": "be a finite number",
    "int_type": "be a whole number",
    "int_parsing": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "float_parsing": "be a number",
    "string_type": "be text",
    "bool_parsing": "be true or false",
    "literal_error": "be {expected}",
    "string_pattern_mismatch": "be a word of letters, digits, spaces, '_', '+' and '-'",
    "too_short": "have {min_length} or more entries",
    "too_long": "have at most {max_length} entries",
    "union_tag_invalid": "have a kind among {expected_tags}",
    "union_tag_not_found": "have a kind",
    "model_type": "be a table of keys",
    "model_attributes_type": "be a table of keys",
    "dict_type": "be a table of keys",
    "list_type": "be a list",
    "tuple_type": "be a list",
}


def sentence(error: ValidationError, owner: str) -> str:
    """The first of pydantic's complaints as ``<key> must <rule>, not <value>``."""
    found = error.errors(include_url=False)
    unknown = (one for one in found if one["type"] == "extra_forbidden")  # a misspelt key is missing too
    first = next(unknown, found[0])
    kind, context = first["type"], first.get("ctx", {})
    path = _path(first["loc"])
    if kind == "extra_forbidden":
        where = _path(first["loc"][:-1])
        return f"{where or owner} must not have the unknown key '{first['loc'][-1]}'; remove it"
    if kind == "missing" and isinstance(first["loc"][-1], int):
        return f"{_path(first['loc'][:-1])} must have {first['loc'][-1] + 1} or more entries"
    if kind == "missing":
        where = _path(first["loc"][:-1])
        return f"{where or owner} must have the key '{first['loc'][-1]}'; add it"
    thing = path or owner
    if kind in ("value_error", "assertion_error"):
        message = str(context.get("error", first["msg"]))
        # A validator that words its own subject ("the field must …") keeps it.
        return f"{thing} {message}" if message.startswith("must ") else message
    rule = _RULES.get(kind)
    if rule is None:
        return f"{thing} must be valid, not {first['input']!r} ({first['msg']})"
    return f"{thing} must {rule.format(**context)}, not {_shown(first['input'])}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return f"'{value['kind']}'" if "kind" in value else "a table without it"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in _TAGS:
            path += f".{part}" if path else part
    return path


def _owner(name: str) -> str:
    return "a " + re.sub(r"(?<!^)([A-Z])", r" \1", name).lower()
