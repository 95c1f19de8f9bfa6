"""Layers as requests, and their times as entries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from retrim.artifact.layout import pack_rows, parse
from retrim.errors import ConfigError
from retrim.runtime.entry import Entry, Request, stored

LAYER: dict[str, Any] = {
    "precision": "fp32",
    "activations": None,
    "outputs": 64,
    "inputs": 48,
    "density": 0.5,
    "rows": 32,
    "group": 1,
    "tokens": 128,
    "threads": 1,
}
ENTRY: dict[str, Any] = LAYER | {"isa": "avx2", "variant": "direct", "microseconds": 10.0, "runs": 5}


def test_an_entry_is_what_json_says() -> None:
    entry = Entry(**ENTRY)
    assert Entry.read(json.loads(json.dumps(entry.to_dict()))) == entry
    assert list(entry.to_dict()) == [
        *("precision", "activations", "isa", "variant", "outputs", "inputs", "density", "rows", "group"),
        *("tokens", "threads", "microseconds", "runs"),
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"precision": "fp8"}, "precision must be fp32 or bf16 or int8, not 'fp8'"),
        ({"precision": []}, "precision must be fp32 or bf16 or int8, not []"),
        ({"activations": "static"}, "activations must be None, not 'static'"),
        ({"precision": "int8"}, "activations must be static or dynamic, not None"),
        ({"group": 3}, "group must be 1 or 2 or 4, not 3"),
        ({"group": True}, "group must be 1 or 2 or 4, not True"),
        ({"outputs": 0}, "outputs must be a whole number >= 1, not 0"),
        ({"tokens": 1.5}, "tokens must be a whole number >= 1, not 1.5"),
        ({"threads": True}, "threads must be a whole number >= 1, not True"),
        ({"density": 1.01}, "density must be a number above 0 and at most 1, not 1.01"),
        ({"density": "half"}, "density must be a number above 0 and at most 1, not 'half'"),
        ({"microseconds": float("nan")}, "microseconds must be a number above 0 and at most 1e+15, not nan"),
        ({"microseconds": 0}, "microseconds must be a number above 0 and at most 1e+15, not 0"),
        (
            {"microseconds": 10**400},
            f"microseconds must be a number above 0 and at most 1e+15, not {10**400}",
        ),
        ({"isa": ""}, "isa must be a name, not ''"),
        ({"variant": None}, "variant must be a name, not None"),
        ({"runs": -1}, "runs must be a whole number >= 1, not -1"),
    ],
)
def test_wrong_entries_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        Entry.read(ENTRY | changes)


@pytest.mark.parametrize(
    ("found", "have"), [(3, "int"), ({"isa": "avx2"}, "isa"), (ENTRY | {"x": 1}, ", ".join(ENTRY) + ", x")]
)
def test_other_fields_are_refused(found: Any, have: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Entry.read(found)
    assert str(caught.value) == (
        "an entry must have the fields precision, activations, outputs, inputs, density, rows, group, tokens, "
        f"threads, isa, variant, microseconds, runs, not {have}"
    )


def test_a_pack_as_a_request(make: Callable[..., Any]) -> None:
    made = make(96, 64, density=0.5, height=64)
    view = parse(made.pack)
    request = Request.of(view, 7, 2)
    assert (request.outputs, request.inputs, request.rows, request.group) == (96, 64, 64, 1)
    assert (request.tokens, request.threads, request.activations) == (7, 2, None)
    assert request.density == np.count_nonzero(made.weight) / made.weight.size
    int8 = parse(pack_rows(made.weight, made.weight != 0, 64, "int8"))
    assert Request.of(int8, 1, 1).activations == "dynamic"
    assert Request.of(int8, 1, 1, "static").activations == "static"


def test_the_density_is_what_panels_store() -> None:
    """Blocks of 8 rows keep half; 32 of them share a list of columns, the union."""
    rng = np.random.default_rng(0)
    mask = np.repeat(rng.random((8, 64)).argsort(axis=1) < 32, 8, axis=0)
    view = parse(pack_rows(np.ones((64, 64), np.float32), mask))
    union = mask.reshape(2, 32, 64).any(axis=1)
    assert stored(view) == np.count_nonzero(union) / union.size > 0.9


def test_rows_that_are_left_out_count_as_little() -> None:
    mask = np.zeros((320, 64), bool)
    mask[7::10] = True
    view = parse(pack_rows(mask.astype(np.float32), mask))
    assert view.rows is not None
    assert stored(view) == 32 / 320
    empty = parse(pack_rows(np.zeros((32, 8), np.float32), np.zeros((32, 8), bool)))
    assert stored(empty) == 1 / 256


def test_dense_layers_fill_their_lanes() -> None:
    request = Request(**LAYER | {"rows": 64})
    assert request.dense() == replace(request, density=1.0, rows=32)
    assert replace(request, precision="bf16").dense().group == 2
    int8 = replace(request, precision="int8", activations="static")
    assert int8.dense().group == 4
    assert replace(int8, inputs=50).dense().group == 2
    assert replace(int8, inputs=51).dense().group == 1


def test_densities_within_two_percent_are_one() -> None:
    request = Request(**LAYER)
    assert request.is_like(replace(request, density=0.505))
    for change in ({"density": 0.52}, {"rows": 64}, {"tokens": 127}, {"threads": 2}):
        assert not request.is_like(replace(request, **change))  # type: ignore[arg-type]
