"""Recipes are checked whole; what is wrong is named, with what to write instead."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from retrim.errors import ConfigError
from retrim.prune import ADMM, SLR, CubicSchedule, ReweightedGroupLasso
from retrim.recipe import parse, read
from retrim.recipe.comparison import ADMMMethod, LassoMethod, RetrainPart, SLRMethod
from retrim.recipe.run import make_pruner
from retrim.recipe.schema import GroupLassoPart, MagnitudePart
from retrim.structures import BlockColumns, Elements, Within

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def table(**changes: Any) -> dict[str, Any]:
    """A right recipe; dotted keys with double underscores change it (None removes)."""
    found: dict[str, Any] = tomllib.loads(
        """
version = 1
[train]
steps = 10
[prune]
steps = 10
harden_at = 5
pruner = { type = "Magnitude" }
[[prune.plan]]
weights = "*.weight"
structure = { type = "BlockColumns", rows = 32 }
density = 0.5
"""
    )
    for path, value in changes.items():
        *parents, key = path.split("__")
        at: Any = found
        for parent in parents:
            at = at[int(parent)] if parent.isdecimal() else at[parent]
        if value is None:
            del at[key]
        else:
            at[key] = value
    return found


def test_a_recipe_becomes_objects() -> None:
    recipe = parse(table(seed=7), "r.toml")
    assert recipe.seed == 7 and recipe.train.steps == 10 and recipe.model.width == 256
    assert recipe.prune.plan[0].structure == BlockColumns(32)
    assert recipe.prune.pruner == MagnitudePart(type="Magnitude")
    assert recipe.prune.distil is None


def test_columns_may_be_kept_in_groups() -> None:
    grouped = {"type": "BlockColumns", "rows": 32, "group": 2}
    rule = parse(table(prune__plan__0__structure=grouped), "r").prune.plan[0]
    assert rule.structure == BlockColumns(32, group=2)


def test_structures_within_structures_and_pairs_of_densities() -> None:
    within = {
        "type": "Within",
        "outer": {"type": "BlockColumns", "rows": 4},
        "inner": {"type": "Elements"},
    }
    rule = parse(
        table(prune__plan__0__structure=within, prune__plan__0__density=[0.5, 0.25]), "r"
    ).prune.plan[0]
    assert rule.structure == Within(BlockColumns(4), Elements())
    assert rule.density == (0.5, 0.25)


def test_group_lasso_has_the_defaults_of_the_method() -> None:
    part = parse(table(prune__pruner={"type": "ReweightedGroupLasso"}), "r").prune.pruner
    assert part == GroupLassoPart(
        type="ReweightedGroupLasso", strength=None, fraction=0.1, epsilon=1e-3, refresh_every=100
    )


def test_group_lasso_by_inputs() -> None:
    part = parse(
        table(prune__pruner={"type": "ReweightedGroupLasso", "over": 9, "by_inputs": True, "batches": 4}), "r"
    )
    pruner = make_pruner(part.prune)
    assert isinstance(pruner, ReweightedGroupLasso)
    assert (pruner.over, pruner.by_inputs, pruner.batches) == (9, True, 4)


@pytest.mark.parametrize(("name", "method"), [("ADMM", ADMM), ("SLR", SLR)])
def test_admm_and_slr_by_inputs(name: str, method: type[ADMM] | type[SLR]) -> None:
    options = {"pull": 0.1, "by_inputs": True, "batches": 4, "schedule": {"end": 20}}
    pruner = make_pruner(parse(table(prune__pruner={"type": name, "every": 5, **options}), "r").prune)
    assert isinstance(pruner, method)
    assert (pruner.every, pruner.pull, pruner.by_inputs, pruner.batches) == (5, 0.1, True, 4)
    assert pruner.schedule == CubicSchedule(begin=0, end=20)
    plain = make_pruner(parse(table(prune__pruner={"type": name}), "r").prune)
    assert isinstance(plain, method)
    assert (plain.pull, plain.by_inputs, plain.schedule) == (None, False, None)


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(table(), "r").seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_repository_are_right(path: Path) -> None:
    assert read(path).version == 1


WRONG = [
    ({"sed": 3}, "a recipe must have no key 'sed': its keys are corpus, model, prune, seed, train, version"),
    (
        {"train__stepps": 3},
        "train must have no key 'stepps': its keys are batch, clip, decay, floor, precision, rate, steps, warmup",
    ),
    (
        {"prune__plan__0__densty": 1},
        "prune.plan.0 must have no key 'densty': its keys are density, structure, weights",
    ),
    (
        {"prune__pruner": {"type": "Magnitude", "fractio": 1}},
        "prune.pruner must have no key 'fractio': its keys are schedule, type",
    ),
    ({"train": None}, "train must be given"),
    ({"train__steps": 0}, "train.steps must be greater than or equal to 1, not 0"),
    (
        {"train__steps": "many"},
        "train.steps must be a valid integer, unable to parse string as an integer, not 'many'",
    ),
    ({"train__rate": float("nan")}, "train.rate must be a finite number, not nan"),
    ({"train__precision": "fp8"}, "train.precision must be 'fp32' or 'bf16', not 'fp8'"),
    ({"version": 2}, "version must be 1, not 2"),
    (
        {"prune__plan__0__density": 0},
        "prune.plan.0.density: density must be a number with 0 < density <= 1, not 0",
    ),
    (
        {"prune__plan__0__density": 1.5},
        "prune.plan.0.density: density must be a number with 0 < density <= 1, not 1.5",
    ),
    (
        {"prune__plan__0__density": float("nan")},
        "prune.plan.0.density: density must be a number with 0 < density <= 1, not nan",
    ),
    (
        {"prune__plan__0__structure": {"type": "Blocks"}},
        (
            "prune.plan.0.structure: structure type must be one of Elements, Filters, Channels, BlockColumns, "
            "BlockRows, PatternSet, Within, Segments, not 'Blocks'"
        ),
    ),
    (
        {"prune__plan__0__structure": {"type": "BlockColumns", "rows": 0}},
        "prune.plan.0.structure: rows of BlockColumns must be a whole number >= 1, not 0",
    ),
    (
        {"prune__plan__0__structure": {"type": "BlockColumns", "rows": 32, "group": 3}},
        "prune.plan.0.structure: group of BlockColumns must be 1, 2 or 4, not 3",
    ),
    (
        {"prune__pruner": {"type": "Lasso"}},
        "prune.pruner.type must be one of ADMM, Magnitude, OptimalBrainSurgeon, ReweightedGroupLasso, SLR, not 'Lasso'",
    ),
    ({"prune__harden_at": 11}, "prune: harden_at must be at most the 10 steps, not 11"),
    ({"prune__plan": []}, "prune.plan must have at least 1 entry, not 0"),
]


@pytest.mark.parametrize(("changes", "sentence"), WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_what_is_wrong_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(table(**changes), "r.toml")
    assert str(caught.value) == f"recipe 'r.toml': {sentence}"


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    missing, broken, binary = (tmp_path / name for name in ("missing.toml", "broken.toml", "binary.toml"))
    broken.write_text("version = ")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, words in (
        (missing, "must be a file that can be read: No such file or directory"),
        (tmp_path, "must be a file that can be read: Is a directory"),
        (broken, "must be TOML: Invalid value (at end of document)"),
        (binary, "must be TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ):
        with pytest.raises(ConfigError) as caught:
            read(path)
        assert str(caught.value) == f"recipe {str(path)!r} {words}"


def test_group_lasso_over_epochs() -> None:
    """Its steps; and a recipe without it is named as it was before there was any."""
    plain = LassoMethod(type="ReweightedGroupLasso")
    assert "over_epochs" not in plain.model_dump(mode="json")
    part = LassoMethod(type="ReweightedGroupLasso", over_epochs=1.5)
    assert part.model_dump(mode="json")["over_epochs"] == 1.5
    pruner = part.pruner(10, None)
    assert isinstance(pruner, ReweightedGroupLasso)
    assert pruner.over == 15
    with pytest.raises(ValueError, match="over_epochs sets the strength at every step: leave strength out"):
        LassoMethod(type="ReweightedGroupLasso", over_epochs=1.5, strength=0.1)


def test_group_lasso_by_inputs_over_epochs() -> None:
    plain = LassoMethod(type="ReweightedGroupLasso").model_dump(mode="json")
    assert not {"by_inputs", "batches"} & set(plain)
    part = LassoMethod(type="ReweightedGroupLasso", by_inputs=True, batches=8, over_epochs=1.5)
    assert {"by_inputs": True, "batches": 8}.items() <= part.model_dump(mode="json").items()
    pruner = part.pruner(20, None)
    assert isinstance(pruner, ReweightedGroupLasso)
    assert (pruner.by_inputs, pruner.batches) == (True, 8)
    few = part.pruner(5, None)
    assert isinstance(few, ReweightedGroupLasso)
    assert (few.over, few.batches) == (8, 4)  # half of the steps at most


@pytest.mark.parametrize(("part", "method"), [(ADMMMethod, ADMM), (SLRMethod, SLR)])
def test_admm_and_slr_over_epochs(
    part: type[ADMMMethod] | type[SLRMethod], method: type[ADMM] | type[SLR]
) -> None:
    later = {"pull", "over_epochs", "by_inputs", "batches"}
    assert not later & set(part(type=method.__name__).model_dump(mode="json"))
    made = part(type=method.__name__, every_epochs=0.25, pull=0.1, over_epochs=1.5, by_inputs=True)
    assert {"pull": 0.1, "over_epochs": 1.5, "by_inputs": True}.items() <= made.model_dump(
        mode="json"
    ).items()
    pruner = made.pruner(20, 0.3, 0.5)
    assert isinstance(pruner, method)
    assert (pruner.rho, pruner.every, pruner.pull, pruner.batches) == (0.3, 5, 0.1, 15)
    assert pruner.schedule == CubicSchedule(begin=0, end=30, initial=0.5)


def test_retraining_is_scored_at_both_ends() -> None:
    assert RetrainPart(epochs=10, rate=0.1).score_after == (0, 10)
    assert RetrainPart(epochs=3, rate=0.1, score_after=(0, 1, 3)).score_after == (0, 1, 3)
    assert RetrainPart(epochs=3, rate=0.1, score_after=(0,)).score_after == (0,)  # no retraining
    with pytest.raises(ValueError, match="score_after must end with the 10 epochs of training, not 3"):
        RetrainPart(epochs=10, rate=0.1, score_after=(0, 1, 3))
