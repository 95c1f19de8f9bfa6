"""Structures by name, as recipes and artifacts write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from retrim.errors import ConfigError
from retrim.structures.base import Structure
from retrim.structures.blocks import BlockColumns, BlockRows
from retrim.structures.channels import Channels
from retrim.structures.elements import Elements
from retrim.structures.filters import Filters
from retrim.structures.patterns import PatternSet
from retrim.structures.segments import Segments
from retrim.structures.within import Within

STRUCTURES: dict[str, type[Structure]] = {
    kind.__name__: kind
    for kind in (Elements, Filters, Channels, BlockColumns, BlockRows, PatternSet, Within, Segments)
}
_NESTED: dict[type[Structure], tuple[str, ...]] = {Within: ("outer", "inner"), Segments: ("inner",)}


def from_dict(spec: Mapping[str, Any]) -> Structure:
    """Build the structure that `Structure.to_dict` wrote.

    Raises
    ------
    ConfigError
        If the type is unknown, a field is unknown or missing, or a value is wrong.
    """
    if not isinstance(spec, Mapping):
        raise ConfigError(f"a structure must be a table with a type and its fields, not {spec!r}")
    spec = dict(spec)
    name = spec.pop("type", None)
    if not isinstance(name, str) or name not in STRUCTURES:
        raise ConfigError(f"structure type must be one of {', '.join(STRUCTURES)}, not {name!r}")
    kind = STRUCTURES[name]
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    for key in spec:
        if key not in known:
            raise ConfigError(
                f"{name} must have no field {key!r}: its fields are {', '.join(sorted(known)) or 'none'}"
            )
    nested = _NESTED.get(kind, ())
    spec = {key: from_dict(value) if key in nested else value for key, value in spec.items()}
    try:
        return kind(**spec)
    except TypeError as error:
        raise ConfigError(f"{name} must have the fields {', '.join(sorted(known))}") from error
