"""`retrim levels` from recipe to table: found again, whatever the number of jobs; masks as the method says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrim.artifact import load
from retrim.cli import app
from retrim.errors import (
    CheckpointError,
    ConfigError,
    DeviceError,
    Interrupted,
    MissingExtraError,
    ProfileError,
)
from retrim.levels import free_masks, method
from retrim.recipe import level_cycles, level_results
from retrim.recipe.level_cycles import calibrated_in
from retrim.recipe.level_masks import LevelMasks
from retrim.recipe.level_results import compare_methods, packed_levels, run_levels, table_of
from retrim.recipe.level_runners import runner
from retrim.recipe.leveling import LevelsRun
from retrim.recipe.levels import LevelsRecipe, read_levels_recipe
from retrim.recipe.part import checked
from retrim.runtime import profile_file
from retrim.runtime.entry import Request
from retrim.runtime.latency_model import LatencyModel
from retrim.zoo.models import load_dense, load_packed

LINES = "".join(
    f"the {a} {b} sees the {b} {a} .\n" for a in ("red", "green", "blue") for b in ("cat", "dog", "cow")
)
STAGE: dict[str, Any] = {"epochs": 1, "rate": 5e-3, "optimizer": "adam", "decay": 0.0}
TABLE: dict[str, Any] = {
    "version": 1,
    "task": {
        "type": "language",
        "text": "train.txt",
        "held_out": "test.txt",
        "vocabulary": 300,
        "width": 64,
        "layers": 1,
        "heads": 2,
        "context": 16,
        "batch": 8,
        "windows": 48,
    },
    "dense": STAGE,
    "backbone": {
        "weights": ["blocks.*.attention.*.weight", "blocks.*.ffn.*.weight"],
        "density": 0.5,
        "pruner": {"type": "magnitude"},
        "prune": STAGE,
        "retrain": {**STAGE, "score_after": [0, 1]},
    },
    "device": {"mhz": [1400, 1200, 1000], "tokens": 16},
    "patterns": {"tile": [8, 8], "group": 4, "densities": [1.0, 0.6, 0.3, 0.1]},
    "search": {"trials": 6, "batch": 3, "least": 0.5, "stage": STAGE, "steps": 4, "method": "evolution"},
    "final": STAGE,
}


FIRST = "blocks.0.attention.qkv.weight"


def recipe(**changes: Any) -> LevelsRecipe:
    return checked(LevelsRecipe, {**TABLE, **changes}, "r.toml")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "train.txt").write_text(LINES * 60)
    (folder / "test.txt").write_text(LINES * 8)
    return folder


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LevelsRun, dict[str, Any]]:
    run = LevelsRun(recipe(), data, tmp_path_factory.mktemp("run"))
    return run, run_levels(run)


def test_a_run_is_whole_and_found_again(
    done: tuple[LevelsRun, dict[str, Any]], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, result = done
    json.dumps(result)
    assert len(result["trials"]) == 6
    # tiles of 16 cells: 0.6 and 0.1 are rounded
    assert sorted({entry[0] for entry in result["space"]["candidates"]}) == [2 / 16, 5 / 16, 10 / 16, 1.0]
    levels = result["levels"]
    assert [entry["mhz"] for entry in levels["level"]] == [1400, 1200, 1000]
    for entry, number in zip(levels["level"], result["choice"], strict=True):
        density, _, cycles = result["space"]["candidates"][number]
        assert entry["density"] == pytest.approx(0.5 * density)
        assert entry["cycles"] == cycles
        assert cycles / (1000 * entry["mhz"]) <= levels["deadline_ms"] * (1 + 1e-9)
    # 64 wide: 12 x 64 x 64 block weights, 300 x 64 of the head; 16 tokens, one multiply-add a cycle
    assert levels["dense"]["cycles"] == pytest.approx(16 * (12 * 64 * 64 + 300 * 64))
    assert levels["backbone"]["cycles"] == pytest.approx(16 * (6 * 64 * 64 + 300 * 64))
    assert levels["deadline_ms"] == pytest.approx(1.05 * levels["backbone"]["cycles"] / 1.4e6)

    again = LevelsRun(run.recipe, data, run.folder)
    monkeypatch.setattr(again, "score", lambda choice: pytest.fail("a trial was scored again"))
    assert {**run_levels(again), "host": None} == {**result, "host": None}


@pytest.fixture
def alone(one_thread: None, data: Path, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "alone").mkdir()
    return run_levels(LevelsRun(recipe(), data, tmp_path / "alone"))


def test_processes_do_not_change_the_result(alone: dict[str, Any], data: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    run = LevelsRun(recipe(), data, tmp_path / "two")
    two = run_levels(run, run_trials=runner(run, jobs=2))
    assert alone["trials"] == two["trials"]
    assert alone["levels"] == two["levels"]
    assert len(alone["trials"]) == 6


class _Ray:
    """Answers the last question first."""

    def init(self, **_: Any) -> None:
        """Nothing to start."""

    def remote(self, **_: Any) -> Any:
        class Remote:
            def __init__(self, function: Any) -> None:
                self.function = function

            def remote(self, *arguments: Any) -> Any:
                return partial(self.function, *arguments)

        return Remote

    def wait(self, waiting: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return waiting[-num_returns:], waiting[:-num_returns]

    def get(self, found: Any) -> Any:
        return found()


def test_the_order_of_answers_does_not_change_the_result(
    alone: dict[str, Any], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", _Ray())
    (tmp_path / "ray").mkdir()
    run = LevelsRun(recipe(), data, tmp_path / "ray")
    found = run_levels(run, run_trials=runner(run, ray="auto"))
    assert found["trials"] == alone["trials"]
    assert found["levels"] == alone["levels"]


def test_without_ray_or_its_cluster(
    done: tuple[LevelsRun, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="--ray needs Ray: pip install ray"):
        runner(done[0], ray="auto")

    class Nowhere(_Ray):
        def init(self, **_: Any) -> None:
            raise ConnectionError("no cluster")

    monkeypatch.setitem(sys.modules, "ray", Nowhere())
    with pytest.raises(ConfigError, match="--ray must be the address of a running Ray cluster"):
        runner(done[0], ray="nowhere:1")


@pytest.mark.slow
def test_a_cluster_of_ray_gives_the_same_result(alone: dict[str, Any], data: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    (tmp_path / "ray").mkdir()
    run = LevelsRun(recipe(), data, tmp_path / "ray")
    try:
        found = run_levels(run, run_trials=runner(run, ray="local"))
    finally:
        ray.shutdown()
    assert found["trials"] == alone["trials"]
    assert found["levels"] == alone["levels"]


def test_another_choice_is_trained_beside_the_first(done: tuple[LevelsRun, dict[str, Any]]) -> None:
    run, result = done
    chosen = tuple(result["choice"])
    before = run.trained(chosen)[1]
    files = len(list(run.folder.glob("levels-*.pt")))
    others = {(0, 3, 5), (0, 3, 3), (0, 0, 3)} - {chosen}  # two of them differ in weights alone
    for other in others:
        run.trained(other)
    assert len(list(run.folder.glob("levels-*.pt"))) == files + len(others)
    assert run.trained(chosen)[1] == before


KINDS: dict[str, dict[str, Any]] = {
    "free": {"sets": 2},
    "nested": {"sets": 1, "nested": True},
    "free and lists": {"sets": 1, "lists": True},
    "lists": {"sets": 0, "lists": True, "nested": True},
    "surgeon": {"sets": 0, "lists": True, "nested": True, "importance": "surgeon"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_masks_lie_in_the_backbone(kind: str, done: tuple[LevelsRun, dict[str, Any]], data: Path) -> None:
    patterns = {**TABLE["patterns"], **KINDS[kind]}
    nested = bool(patterns.get("nested"))
    run = LevelsRun(recipe(patterns=patterns), data, done[0].folder)
    candidates = run.space.candidates
    masks = run.level_masks.masks(candidates)
    _, pruner = run.backbone
    for target in pruner.targets:
        kept = pruner.supports[target.name].mask
        for candidate, found in zip(candidates, masks, strict=True):
            mask = found[target.name]
            assert not (mask & ~kept).any()
            columns = int(kept[0].sum())  # as many in every row
            share = candidate.density
            if kind in ("lists", "surgeon"):  # whole columns
                share = max(1, int(share * columns + 0.5)) / columns
            assert int(mask.sum()) == pytest.approx(share * int(kept.sum()))
            rows = mask.reshape(-1, 4, mask.shape[1])
            assert (rows == rows[:, :1]).all()  # groups of four rows alike
        if kind == "free and lists":  # a set, then lists, which keep more
            weight = target.parameter.detach()
            bound, free = (weight[masks[place][target.name]].square().sum() for place in (2, 3))
            assert [candidates[place].patterns for place in (2, 3)] == [0, 1]
            assert free > bound
        if nested:
            inner = [found[target.name] for found in masks]
            assert all(not (sparse & ~dense).any() for dense, sparse in pairwise(inner))


def test_importance_counts_inputs(done: tuple[LevelsRun, dict[str, Any]], data: Path) -> None:
    """Of the first layer: strongest columns of the weights times their inputs' root mean square, taken by hand."""
    patterns = {**TABLE["patterns"], **KINDS["lists"], "importance": "inputs"}
    run = LevelsRun(recipe(patterns=patterns), data, done[0].folder)
    model, pruner = run.backbone
    sizes = _first_inputs(run).square().mean(0).sqrt()
    weight = model.get_parameter(FIRST).detach()
    kept = pruner.supports[FIRST].mask
    candidates = run.space.candidates
    for candidate, level in zip(candidates, run.level_masks.masks(candidates), strict=True):
        for rows in range(0, len(weight), 4):
            energies = (weight * sizes)[rows : rows + 4].square().sum(0)
            columns = int(kept[rows].sum())
            strongest = torch.topk(energies, max(1, int(candidate.density * columns + 0.5))).indices
            assert sorted(strongest.tolist()) == level[FIRST][rows].nonzero().flatten().tolist()


@pytest.fixture
def surgeon(done: tuple[LevelsRun, dict[str, Any]], data: Path, tmp_path: Path) -> LevelsRun:
    """With networks that are trained already, and no lists yet."""
    for file in done[0].folder.glob("*.pt"):
        shutil.copy(file, tmp_path)
    return LevelsRun(recipe(patterns={**TABLE["patterns"], **KINDS["surgeon"]}), data, tmp_path)


def lost(run: LevelsRun) -> list[float]:
    """Error of the first layer's outputs at each density, before any training."""
    inputs = _first_inputs(run)
    wanted = inputs @ run.backbone[0].get_parameter(FIRST).T
    weight = run.level_masks.start.get_parameter(FIRST)
    levels = run.level_masks.masks(run.space.candidates)
    return [float((inputs @ (weight * level[FIRST]).T - wanted).square().sum().detach()) for level in levels]


def test_the_surgeons_lists_change_outputs_less(
    done: tuple[LevelsRun, dict[str, Any]], surgeon: LevelsRun, data: Path
) -> None:
    plain = LevelsRun(recipe(patterns={**TABLE["patterns"], **KINDS["lists"]}), data, done[0].folder)
    ours, theirs = lost(surgeon), lost(plain)
    assert ours[-1] < 0.9 * theirs[-1]
    assert all(dense < sparse for dense, sparse in pairwise(ours))


def test_pattern_sets_beside_the_surgeons_lists_are_of_the_same_weights(
    surgeon: LevelsRun, data: Path
) -> None:
    patterns = {**TABLE["patterns"], **KINDS["surgeon"], "sets": 1, "nested": False}
    run = LevelsRun(recipe(patterns=patterns), data, surgeon.folder)
    weight = run.level_masks.start.get_parameter(FIRST).detach()
    _, pruner = run.backbone
    small = weight[pruner.supports[FIRST].mask].reshape(len(weight), -1).numpy()  # as many in every row
    candidates = run.space.candidates
    for candidate, level in zip(candidates, run.level_masks.masks(candidates), strict=True):
        if candidate.patterns == 0:
            mask = free_masks(run.level_masks.families[0], small, [candidate.density])[0]
            kept = float(np.square(small[mask]).sum())
            assert float(weight[level[FIRST]].square().sum()) == pytest.approx(kept)


def test_the_surgeons_lists_are_found_again(
    surgeon: LevelsRun, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = lost(surgeon)
    (file,) = (surgeon.folder / "lists").glob(f"{FIRST}-*.safetensors")
    with monkeypatch.context() as patched:
        patched.setattr(LevelMasks, "_ladder", lambda *_: pytest.fail("lists were ordered again"))
        assert lost(LevelsRun(surgeon.recipe, data, surgeon.folder)) == ours
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(CheckpointError, match=r"qkv\.weight-\w+\.safetensors cannot be read .* remove it"):
        _ = LevelsRun(surgeon.recipe, data, surgeon.folder).level_masks.start
    file.unlink()
    assert lost(LevelsRun(surgeon.recipe, data, surgeon.folder)) == ours
    _, pruner = surgeon.backbone
    with torch.no_grad():
        pruner.targets[0].parameter.mul_(2)  # another backbone: other lists
    other = LevelMasks(
        *surgeon.backbone, surgeon.recipe.patterns, surgeon.task, seed=0, folder=surgeon.folder / "lists"
    )
    twice = other.start.get_parameter(pruner.targets[0].name)
    assert not torch.equal(twice, surgeon.level_masks.start.get_parameter(pruner.targets[0].name))


def test_inputs_that_cannot_be_measured(surgeon: LevelsRun, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pruner = surgeon.backbone
    monkeypatch.setattr(LevelMasks, "_moments", lambda _: {})
    with pytest.raises(
        ConfigError, match=r"'surgeon' needs layers whose inputs can be measured, but blocks\.0"
    ):
        _ = surgeon.level_masks.start
    target = pruner.targets[0]
    nothing = {target.name: torch.zeros(64, 64)}
    monkeypatch.setattr(LevelMasks, "_moments", lambda _: nothing)
    with pytest.raises(ConfigError, match=r"has no input but zeros: take patterns\.importance = 'magnitude'"):
        _ = LevelsRun(surgeon.recipe, surgeon.data, surgeon.folder).level_masks.start


def _first_inputs(run: LevelsRun) -> torch.Tensor:
    """Of the first block's attention over the task's probe."""
    model, _ = run.backbone
    seen = []
    with torch.no_grad():
        for batch in run.task.probe():
            hidden = model.embed(batch[:, :-1]) + model.position.weight[: batch.shape[1] - 1]
            seen.append(model.blocks[0].norm1(hidden))
    return torch.cat(seen).flatten(0, 1)


def test_levels_share_weights_and_differ_in_masks(done: tuple[LevelsRun, dict[str, Any]]) -> None:
    run, result = done
    model, accuracies, masks = run.trained(tuple(result["choice"]))
    assert accuracies == [entry["accuracy"] for entry in result["levels"]["level"]]
    with torch.no_grad():
        for name, mask in masks[0].items():
            model.get_parameter(name).mul_(mask)
    assert run.task.score(model)[run.task.metric] / 100 == pytest.approx(accuracies[0], abs=1e-6)


@pytest.mark.parametrize("kind", ["free", "nested", "lists", "surgeon"])
def test_packed_levels_score_what_the_table_says(
    kind: str, done: tuple[LevelsRun, dict[str, Any]], data: Path
) -> None:
    run, result = done
    nested = kind != "free"
    if nested:  # lists are packed nested without being asked for it
        patterns = {**TABLE["patterns"], **KINDS[kind], "nested": kind == "nested"}
        run = LevelsRun(recipe(patterns=patterns), data, run.folder)
        result = run_levels(run)
    choice, levels = tuple(result["choice"]), result["levels"]
    if not nested:  # levels that do not lie within each other, whatever was found
        choice = tuple(sparse for sparse in range(len(run.space.candidates)) if sparse not in (0, 1))[:3]
        levels = table_of(run, choice, run.trained(choice)[1], run.baseline())
    artifact = packed_levels(run, choice, levels)
    assert all((level.segments is not None) == nested for level in artifact.levels.values())
    running = load_packed(artifact)
    for entry in levels["level"]:
        running.levels.switch(entry["name"])
        score = run.task.score(running)[run.task.metric] / 100
        assert score == pytest.approx(entry["accuracy"], abs=2e-3)  # sums run in another order
        assert run.task.score(load_dense(artifact, entry["name"]))[run.task.metric] / 100 == pytest.approx(
            entry["accuracy"], abs=1e-6
        )


def test_methods_are_compared_at_equal_trials(done: tuple[LevelsRun, dict[str, Any]]) -> None:
    run, _ = done
    found = compare_methods(run, [0, 1], ["random", "evolution"])
    assert [row["method"] for row in found["rows"]] == ["random", "evolution"]
    assert all(len(row["rewards"]) == 2 for row in found["rows"])
    assert found["rows"][0]["minus_random"] == 0
    gap = found["rows"][1]["mean"] - found["rows"][0]["mean"]
    assert found["rows"][1]["minus_random"] == pytest.approx(gap)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"device": {"mhz": [1000, 1400]}}, "mhz must fall, the fastest point first, not 1000, 1400"),
        ({"device": {"mhz": [1400, 1000], "shares": [1.0]}}, "shares must be 2 numbers > 0"),
        ({"patterns": {"tile": [8, 8], "densities": [1.5]}}, "densities must be above 0 and at most 1"),
        ({"patterns": {"tile": [2, 8], "densities": [0.5]}}, "a tile must be 4 x 4 to 128 x 128, not 2 x 8"),
        (
            {"patterns": {"tile": [8, 8], "densities": [0.5], "nested": True}},
            "nested levels share one pattern set, so sets must be 1 without lists, or 0 with them, not 2",
        ),
        (
            {"patterns": {"tile": [8, 8], "densities": [0.5], "sets": 0}},
            "there must be something to choose: sets of patterns, or lists = true",
        ),
        (
            {"patterns": {"tile": [8, 8], "densities": [0.5], "nested": True, "sets": 1, "lists": True}},
            "nested levels share one pattern set, so sets must be 1 without lists, or 0 with them, not 1 with lists",
        ),
        (
            {"patterns": {"tile": [8, 8], "densities": [0.5], "importance": "surgeon"}},
            "importance = 'surgeon' orders lists, so lists must be true",
        ),
        (
            {
                "patterns": {**TABLE["patterns"], "lists": True, "importance": "surgeon", "group": 8},
                "backbone": {**TABLE["backbone"], "rows": 4},
            },
            "patterns.group must divide backbone.rows with importance = 'surgeon', not 8 in 4",
        ),
    ],
)
def test_recipes_that_make_no_sense(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(**changes)
    assert words in str(caught.value)


def test_a_deadline_that_nothing_meets(done: tuple[LevelsRun, dict[str, Any]], data: Path) -> None:
    device = {**TABLE["device"], "deadline": 0.2}
    run = LevelsRun(recipe(device=device), data, done[0].folder)
    with pytest.raises(
        DeviceError, match=r"deadline_ms must be one that the sparsest candidate meets at 1000 MHz"
    ):
        _ = run.space


def toml(table: dict[str, Any], prefix: str = "") -> str:
    own = [f"{k} = {json.dumps(v)}" for k, v in table.items() if not isinstance(v, dict) or k == "pruner"]
    own = [line.replace('{"type": "magnitude"}', '{ type = "magnitude" }') for line in own]
    inner = [
        f"[{prefix}{k}]\n{toml(v, f'{prefix}{k}.')}"
        for k, v in table.items()
        if isinstance(v, dict) and k != "pruner"
    ]
    return "\n".join([*own, *inner])


@pytest.mark.parametrize("how", ["compared", "searched"])
def test_a_missing_optuna_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    search = {**TABLE["search"], "method": "evolution" if how == "compared" else "tpe"}
    (tmp_path / "r.toml").write_text(toml({**TABLE, "search": search}))
    monkeypatch.setitem(sys.modules, "optuna", None)
    command = ["levels", str(tmp_path / "r.toml"), "--out", str(tmp_path / "out"), "--threads", "1"]
    with pytest.raises(MissingExtraError) as error:
        app([*command, "--compare", str(int(how == "compared"))], standalone_mode=False)
    assert str(error.value) == "TPE needs optuna: pip install 'retrim[levels]'"
    assert not (tmp_path / "out").exists()


def test_results_are_written_before_methods_are_compared(
    done: tuple[LevelsRun, dict[str, Any]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.toml").write_text(toml(TABLE))
    shutil.copytree(done[0].folder, tmp_path / "out")

    def interrupted(*_: Any, **__: Any) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr(level_results, "compare_methods", interrupted)
    monkeypatch.setattr(method, "check_installed", lambda _: None)
    table, numbers, packed = (tmp_path / name for name in ("levels.json", "r.json", "model.safetensors"))
    command = ["levels", str(tmp_path / "r.toml"), "--out", str(tmp_path / "out"), "--threads", "1"]
    command += ["--data", str(data), "--table", str(table), "--json", str(numbers)]
    with pytest.raises(Interrupted, match="stopped"):
        app([*command, "--artifact", str(packed), "--compare", "1"], standalone_mode=False)
    assert json.loads(numbers.read_text())["levels"] == json.loads(table.read_text()) == done[1]["levels"]
    assert list(load(packed).levels) == ["l3", "l2", "l1"]


def test_the_command(data: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(toml(TABLE))
    assert read_levels_recipe(tmp_path / "r.toml") == recipe()

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "retrim.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    options = ("--data", str(data), "--threads", "1", "--table", "levels.json", "--json", "r.json")
    found = call("levels", "r.toml", *options, "--artifact", "model.safetensors")
    assert found.returncode == 0, found.stderr
    assert "levels l3, l2, l1; `retrim bench model.safetensors` times them" in found.stdout
    table = json.loads((tmp_path / "levels.json").read_text())
    facts = load(tmp_path / "model.safetensors").levels
    assert {name: level.facts for name, level in facts.items()} == {
        entry["name"]: {key: value for key, value in entry.items() if key != "name"}
        for entry in table["level"]
    }
    shown = call("inspect", "model.safetensors", "--json", "inspect.json")
    assert "level l3: mhz 1400, density" in shown.stdout
    assert list(json.loads((tmp_path / "inspect.json").read_text())["levels"]) == list(facts)
    (tmp_path / "more.txt").write_text(LINES * 1000)
    scored = call("eval", "model.safetensors", "--level", "l1", "--corpus", "more.txt")
    assert scored.returncode == 0, scored.stderr
    wrong = call("eval", "model.safetensors", "--level", "l9", "--corpus", "more.txt")
    assert (wrong.returncode, wrong.stderr) == (2, "retrim: level must be one of l3, l2, l1, not 'l9'\n")
    timed = call("bench", "model.safetensors", "--tokens", "4", "--seconds", "0.3", "--json", "bench.json")
    assert timed.returncode == 0, timed.stderr
    assert "A switch of levels, resident:" in timed.stdout
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["method"] for row in rows] == list(facts)
    assert [row["density"] for row in rows] == pytest.approx(
        [entry["density"] for entry in sorted(table["level"], key=lambda e: -e["density"])], abs=1e-6
    )
    assert set(json.loads((tmp_path / "bench.json").read_text())["switches"]) >= {"resident", "repack"}
    assert "6 trials of" in found.stdout
    assert json.loads((tmp_path / "r.json").read_text())["kind"] == "levels"
    emptied = call("simulate", "levels.json", "--json", "battery.json")
    assert emptied.returncode == 0, emptied.stderr
    for precision in ("int8", "fp33"):
        wrong = call("levels", "r.toml", *options, "--precision", precision)
        assert (wrong.returncode, wrong.stderr) == (
            2,
            f"retrim: precision of levels must be fp32 or bf16, not {precision!r}\n",
        )
    missing = call("levels", "r.toml", "--data", str(tmp_path / "none"))
    assert missing.returncode == 2
    assert "task.text must be a file or folder of" in missing.stderr


def test_levels_weigh_in_training_as_in_the_reward(data: Path, tmp_path: Path) -> None:
    run = LevelsRun(recipe(), data, tmp_path)
    choice = (0, 2, 2)
    assert run._weights(choice, [0, 2]) == [1.0, 2.0]
    by_runs = LevelsRun(recipe(search={**TABLE["search"], "weights": "runs"}), data, tmp_path)
    runs = by_runs.space.runs(choice)
    assert by_runs._weights(choice, [0, 2]) == pytest.approx([runs[0], runs[1] + runs[2]])
    assert len({run._key(name) for name in ("levels", "trials")} | {by_runs._key("levels")}) == 3
    assert run._key("trials") != by_runs._key("trials")
    assert run._key("backbone") == by_runs._key("backbone")


WIDTHS = {"wikitext-2": 800, "minilm-stsb": 384, "search": 128}


def test_recipes_fit_their_networks() -> None:
    folder = Path(__file__).parents[2] / "recipes" / "rt3"
    for path in sorted(folder.glob("*.toml")):
        found = read_levels_recipe(path)
        width, tile = WIDTHS[path.stem], found.patterns.tile
        for inputs in (width, 4 * width):
            kept = round(inputs * found.backbone.density)
            assert kept % tile[1] == 0, path
        assert np.gcd(width, tile[0]) == tile[0], path


def test_latencies_from_a_profile(
    done: tuple[LevelsRun, dict[str, Any]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = {**TABLE["device"], "latency": "profile"}
    plain = LevelsRun(recipe(device=device), data, done[0].folder)
    with pytest.raises(ProfileError, match="must be run with a profile: name one"):
        plain.cycles(0.5)
    path = tmp_path / "profile.json"
    told: list[tuple[str, int, int]] = []
    run = LevelsRun(
        recipe(device=device),
        data,
        done[0].folder,
        progress=lambda stage, step, steps, _: told.append((stage, step, steps)),
        calibrated=calibrated_in(path),
    )
    cycles = [run.cycles(density) for density in run.level_masks.densities]
    assert told[-1][0] == "measuring kernels"
    assert told[-1][1] == told[-1][2]  # all of them
    # the head takes its multiply-accumulates; the rest its time here, at the rate of this machine's best dense layer
    profile = profile_file.read_here(path)
    throughput = run.cluster.throughput("fp32")
    model = LatencyModel(profile)
    for density, found in zip(run.level_masks.densities, cycles, strict=True):
        own = 0.0
        for target in run.backbone[1].targets:
            outputs, inputs = target.matrix().shape
            request = Request(
                precision="fp32", activations=None, outputs=outputs, inputs=inputs, density=0.5 * density, rows=4,
                group=1, tokens=16, threads=1,
            )  # fmt: skip
            own += model.layer(request).microseconds * model.rate(request) / throughput
        assert found == pytest.approx(16 * 300 * 64 / throughput + own)
    monkeypatch.setattr(level_cycles, "calibrate", lambda *a, **k: pytest.fail("measured again"))
    again = LevelsRun(recipe(device=device), data, done[0].folder, calibrated=calibrated_in(path))
    assert [again.cycles(density) for density in run.level_masks.densities] == cycles
    assert again.deadline_ms == pytest.approx(1.05 * again.latency.backbone / 1.4e6)
    assert again.latency.dense == done[0].latency.dense
