"""Structures from tables: what recipes and artifacts may say, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from retrim.errors import ConfigError
from retrim.structures import BlockColumns, Elements, Within, from_dict

KNOWN = "Elements, Filters, Channels, BlockColumns, BlockRows, PatternSet, Within, Segments"


def test_tables_are_plain() -> None:
    assert Within(BlockColumns(32), Elements()).to_dict() == {
        "type": "Within",
        "outer": {"type": "BlockColumns", "rows": 32, "budget": "balanced"},
        "inner": {"type": "Elements"},
    }


def test_a_group_is_written_where_there_is_one() -> None:
    """What was written before there were groups is written the same today."""
    grouped = BlockColumns(32, group=2)
    assert grouped.to_dict() == {"type": "BlockColumns", "rows": 32, "budget": "balanced", "group": 2}
    assert repr(grouped) == "BlockColumns(rows=32, budget='balanced', group=2)"
    assert "group" not in BlockColumns(32).to_dict()
    assert repr(BlockColumns(32)) == "BlockColumns(rows=32, budget='balanced')"
    assert from_dict(grouped.to_dict()) == grouped != BlockColumns(32)


def test_fields_with_a_default_may_be_left_out() -> None:
    assert from_dict({"type": "BlockColumns", "rows": 8}) == BlockColumns(8, "balanced")


def test_the_table_given_is_left_alone() -> None:
    spec = {"type": "BlockColumns", "rows": 8}
    from_dict(spec)
    assert spec == {"type": "BlockColumns", "rows": 8}


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"type": "Blocks"}, f"structure type must be one of {KNOWN}, not 'Blocks'"),
        ({"rows": 4}, f"structure type must be one of {KNOWN}, not None"),
        ({"type": ["Elements"]}, f"structure type must be one of {KNOWN}, not ['Elements']"),
        ("Elements", "a structure must be a table with a type and its fields, not 'Elements'"),
        ({"type": "BlockColumns"}, "BlockColumns must have the fields budget, group, rows"),
        ({"type": "Within", "outer": {"type": "Filters"}}, "Within must have the fields inner, outer"),
        (
            {"type": "Within", "outer": {"type": "Filters"}, "inner": 4},
            "a structure must be a table with a type and its fields, not 4",
        ),
        (
            {"type": "Within", "outer": {"type": "Filters", "rows": 4}, "inner": {"type": "Elements"}},
            "Filters must have no field 'rows': its fields are none",
        ),
        (
            {"type": "BlockRows", "cols": 4, "rows": 2},
            "BlockRows must have no field 'rows': its fields are budget, cols",
        ),
        (
            {"type": "BlockColumns", "rows": 4, "group": 8},
            "group of BlockColumns must be 1, 2 or 4, not 8",
        ),
        ({"type": "BlockRows", "cols": 0}, "cols of BlockRows must be a whole number >= 1, not 0"),
        (
            {"type": "BlockRows", "cols": 4, "budget": "even"},
            "budget must be 'balanced' or 'global', not 'even'",
        ),
    ],
)
def test_wrong_tables_are_refused(spec: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(spec)
    assert str(caught.value) == sentence
