"""What to expect of packed layers, and what is advised where a structure does not pay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrim.artifact import Artifact, Pack, PackedWeight, load, save
from retrim.recipe import expectation
from retrim.recipe.expectation import advice, expect, fastest, filled, measure, rivals, together
from retrim.runtime import isa
from retrim.runtime.profile import Profile
from retrim.structures import BlockColumns, Elements, Structure

BEST = isa.available()[0]


def weight(structure: Structure, density: float, *precisions: str, shape: tuple[int, int] = (64, 96)) -> Any:
    matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found, support = structure.project(matrix, density)
    return PackedWeight(
        shape=shape,
        kind="linear",
        structure=structure.to_dict(),
        density=density,
        packs=tuple(
            Pack(name, structure.pack_height, structure.pack(found, support, name))
            for name in precisions or ("fp32",)
        ),
        support=support.mask,
    )


def artifact(**weights: PackedWeight) -> Artifact:
    return Artifact(architecture="x", config={}, tensors={}, weights=weights)


def learnt(found: Artifact, tokens: tuple[int, ...] = (128,)) -> Profile:
    return measure(found, Profile(), tokens, 1, seconds=9.0)


def advised(found: Artifact) -> list[str]:
    profile = learnt(found)
    sentences = [advice(each, profile) for each in expect(found, profile, 128, 1)]
    return [words for words in sentences if words is not None]


def test_nothing_is_expected_without_data() -> None:
    (found,) = expect(artifact(a=weight(BlockColumns(32), 0.5)), Profile(), 128, 1)
    assert found.choice is None and found.row()["choice"] is None
    assert advice(found, Profile()) is None and together([found]) is None and together([]) is None


def test_a_row_is_ready_for_json(measurer: Any) -> None:
    packed = artifact(a=weight(BlockColumns(32), 0.5))
    (found,) = expect(packed, learnt(packed), 128, 1)
    row = found.row()
    assert row["choice"]["isa"] == BEST and row["choice"]["speedup"] == pytest.approx(2)
    assert (row["shape"], row["stored"], row["precision"], row["tokens"]) == ([64, 96], 0.5, "fp32", 128)
    assert together([found]) == pytest.approx(2)


def test_layers_that_pay_are_let_be(measurer: Any) -> None:
    assert advised(artifact(a=weight(BlockColumns(32), 0.5), b=weight(BlockColumns(64), 1 / 3))) == []
    assert all(request.rows in (32, 64) for request in measurer.requests)
    assert len(measurer.requests) == 2  # nothing else had to be measured


def test_rows_that_share_a_panel(measurer: Any) -> None:
    (words,) = advised(artifact(a=weight(BlockColumns(8), 0.5)))
    assert words == (
        "a: density 0.5 with rows=8: expected 1.1×, for panels of 32 rows store 0.94 of the weight; use rows=32 (2×)"
    )


def test_elements(measurer: Any) -> None:
    (words,) = advised(artifact(a=weight(Elements(), 0.25)))
    assert words == (
        "a: density 0.25 with Elements: expected 1×, for panels of 32 rows store 1 of the weight; use "
        "BlockColumns(rows=32) (4×)"
    )


def test_groups_and_densities_where_columns_are_joined(measurer: Any) -> None:
    found = advised(
        artifact(
            a=weight(BlockColumns(32), 0.8125, "int8"),
            b=weight(BlockColumns(32), 0.96875, "bf16"),
            c=weight(BlockColumns(32, group=2), 0.96875, "int8"),
        )
    )
    assert found == [
        "a: density 0.812 with rows=32 in int8: expected 0.92×; use group=4 (1.2×)",
        "b: density 0.969 with rows=32 in bf16: expected 0.77×; use density 1/2 (1.5×)",
        "c: density 0.969 with rows=32, group=2 in int8: expected 0.77×; use density 1/2 (1.5×)",
    ]


def test_what_has_no_remedy_is_left_dense(measurer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expectation, "remedies", lambda found: iter(()))
    packed = artifact(a=weight(BlockColumns(32), 0.96875))
    profile = Profile().adding(measurer.times(expect(packed, Profile(), 128, 1)[0].request))
    profile = profile.adding(measurer.times(expect(packed, Profile(), 128, 1)[0].request.dense()))
    slow = [
        type(e)(**{**e.to_dict(), "microseconds": e.microseconds * 6}) if e.density < 1 else e
        for e in profile.entries
    ]
    profile = Profile().adding(slow)
    (found,) = expect(packed, profile, 128, 1)
    assert advice(found, profile) == "a: density 0.969 with rows=32: expected 0.17×; leave it dense"


def test_a_structure_of_a_newer_version_is_named_as_it_is(measurer: Any) -> None:
    old = weight(Elements(), 0.25)
    newer = PackedWeight(old.shape, old.kind, {"type": "Waves"}, 0.25, old.packs, old.support)
    (words,) = advised(artifact(a=newer))
    assert words.startswith("a: density 0.25 with Waves: expected 1×, ")


def test_the_fastest_precision_of_each_weight(measurer: Any) -> None:
    packed = artifact(a=weight(BlockColumns(32), 0.5, "fp32", "bf16", "int8"))
    chosen = fastest(packed, expect(packed, learnt(packed), 128, 1)).weights["a"]
    assert [pack.precision for pack in chosen.packs] == ["int8"]
    unknown = fastest(packed, expect(packed, Profile(), 128, 1)).weights["a"]
    assert [pack.precision for pack in unknown.packs] == ["fp32"]


def test_near_density_one_all_columns_are_stored(measurer: Any, tmp_path: Path) -> None:
    """Where free columns cost more to join than their zeros to multiply."""
    packed = artifact(
        a=weight(BlockColumns(32), 0.96875, "fp32", "int8"),
        b=weight(BlockColumns(32), 0.5, "int8"),
        c=weight(BlockColumns(32, group=2), 0.9375, "int8"),
    )
    profile = learnt(packed)
    found = filled(packed, expect(packed, profile, 128, 1), profile)
    for name in "bc":
        assert found.weights[name] is packed.weights[name]
    own = found.weights["a"]
    assert own.pack("fp32") is packed.weights["a"].pack("fp32")
    requests = [e.request for e in expect(found, profile, 128, 1) if e.name == "a"]
    assert [(r.density, r.group) for r in requests] == [(0.96875, 1), (1.0, 4)]
    np.testing.assert_array_equal(own.mask(), packed.weights["a"].mask())
    save(tmp_path / "x.safetensors", found)
    np.testing.assert_array_equal(load(tmp_path / "x.safetensors").weights["a"].mask(), own.mask())


def test_zeros_of_a_filled_pack_stay_zero(measurer: Any) -> None:
    packed = artifact(a=weight(BlockColumns(32), 0.96875, "int8"))
    profile = learnt(packed)
    own = filled(packed, expect(packed, profile, 128, 1), profile).weights["a"]
    np.testing.assert_array_equal(own.matrix(), packed.weights["a"].matrix())
    assert own.mask().mean() == pytest.approx(0.96875)


def test_several_numbers_of_tokens(measurer: Any) -> None:
    packed = artifact(a=weight(BlockColumns(32), 0.5))
    learnt(packed, (128, 1))
    assert [request.tokens for request in measurer.requests] == [128, 1]


def test_torch_is_a_rival_where_it_is() -> None:
    (rival,) = rivals()
    assert rival.__module__ == "retrim.torch.dense_timing"
