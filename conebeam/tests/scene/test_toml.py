"""TOML that is written is read back."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conebeam.scene.toml import dumps

plain = st.one_of(
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=("Cs",))),
)
keys = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
values = st.recursive(
    st.one_of(plain, st.lists(plain, max_size=4)),
    lambda inner: st.one_of(
        st.dictionaries(keys, inner, max_size=3),
        st.lists(st.dictionaries(keys, inner, max_size=3), min_size=1, max_size=3),
    ),
    max_leaves=12,
)


@given(st.dictionaries(keys, values, max_size=5))
def test_round_trip(table: dict[str, object]) -> None:
    assert tomllib.loads(dumps(table)) == table


def test_none_is_left_out_and_objects_are_refused() -> None:
    assert dumps({"a": None, "b": 1}) == "b = 1\n"
    with pytest.raises(TypeError, match="a TOML value must be plain, not object"):
        dumps({"a": object()})
