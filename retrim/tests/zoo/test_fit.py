"""Training by epochs, and comparisons of pruners, on a task small enough to train in a blink."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from retrim.errors import CheckpointError, ConfigError, Interrupted, ShapeError
from retrim.prune import ADMM, SLR, Magnitude, Plan, Pruner, Rule
from retrim.recipe import comparing
from retrim.recipe.comparing import ComparisonRun, branch_of
from retrim.recipe.comparison import Comparison, read_comparison
from retrim.recipe.comparison_report import paired, report, table
from retrim.recipe.part import checked
from retrim.report.comparison import draw
from retrim.report.intervals import interval
from retrim.structures import Elements
from retrim.zoo.fit import Stage, fit
from retrim.zoo.task import PLACED, FewSteps, Task, described
from retrim.zoo.training import load_state


@dataclass(frozen=True)
class Toy(Task):
    metric = "top1"
    spoiled: bool = False

    def _points(self, key: Sequence[int], count: int) -> tuple[torch.Tensor, torch.Tensor]:
        draw = np.random.default_rng(list(key))
        classes = draw.integers(0, 4, count)
        centres = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[classes]
        points = np.concatenate([centres, np.zeros((count, 6))], 1) + 0.5 * draw.standard_normal((count, 8))
        if self.spoiled:
            points[:] = np.nan
        return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(classes)

    def build(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 4)
        )

    @property
    def steps(self) -> int:
        return 5

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[Any]:
        for number in range(start, self.steps):
            yield self._points([seed, epoch, number], 32)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(model(batch[0]).float(), batch[1])

    def probe(self) -> Sequence[Any]:
        return [self._points([9, 9], 64)]

    @torch.no_grad()
    def score(self, model: nn.Module) -> dict[str, float]:
        mode = model.training
        model.eval()
        points, classes = self._points([7, 7], 512)
        right = float((model(points).argmax(1) == classes).float().mean())
        model.train(mode)
        return {"top1": 100 * right}


RECIPES = Path(__file__).parents[2] / "recipes" / "slr"
PLAN = Plan([Rule(weights="*0.weight", structure=Elements(), density=0.25)])
STAGE = Stage(epochs=3, rate=0.1)
PRUNERS = {"none": None, "slr": lambda: SLR(every=3), "admm": lambda: ADMM(every=3), "at once": Magnitude}


def prepared(name: str, model: nn.Module) -> Pruner | None:
    make = PRUNERS[name]
    if make is None:
        return None
    pruner: Pruner = make()
    pruner.prepare(model, PLAN)
    return pruner


class Stopped(Exception):  # noqa: N818 - it is none
    """The process was killed."""


@pytest.mark.parametrize("name", list(PRUNERS))
@pytest.mark.parametrize("pause", [1, 5, 7, 14])
def test_resumes_bit_for_bit(name: str, pause: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrim.zoo.fit.SAVE_EVERY_SECONDS", -1.0)
    whole = Toy().build(0)
    curve = fit(Toy(), whole, STAGE, seed=3, pruner=prepared(name, whole))

    def kill(step: int, steps: int, loss: float) -> None:
        assert steps == 15
        if step == pause + 1:  # before this step was saved
            raise Stopped

    path = tmp_path / "c.pt"
    model = Toy().build(0)
    with pytest.raises(Stopped):
        fit(Toy(), model, STAGE, seed=3, pruner=prepared(name, model), checkpoint=path, on_step=kill)
    fresh = Toy().build(1)
    again = fit(Toy(), fresh, STAGE, seed=3, pruner=prepared(name, fresh), checkpoint=path)
    for (key, value), there in zip(whole.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert torch.equal(value, there), key
    assert again.loss == curve.loss
    assert len(again.seconds) == 3


def test_dropout_depends_on_the_run_alone() -> None:
    """Not on what was drawn before, which is as it was afterwards."""
    found = []
    for before in (1, 2):
        torch.manual_seed(before)
        kept = torch.get_rng_state()
        model = Toy().build(0)
        torch.set_rng_state(kept)
        fit(Toy(), model, STAGE, seed=3)
        assert torch.equal(torch.get_rng_state(), kept)
        found.append(model[0].weight)
    assert torch.equal(found[0], found[1])
    other = Toy().build(0)
    fit(Toy(), other, STAGE, seed=4)
    assert not torch.equal(other[0].weight, found[0])


def test_learns_and_stops_where_asked() -> None:
    model = Toy().build(0)
    before = Toy().score(model)["top1"]
    curve = fit(Toy(), model, STAGE, seed=0, stop_after=1)
    assert len(curve.loss) == 1
    fit(Toy(), model, Stage(epochs=6, rate=0.1), seed=0)
    assert before < 60 < 85 < Toy().score(model)["top1"]


def test_rates_fall_as_a_cosine_and_restart() -> None:
    stage = Stage(epochs=4, rate=1.0, floor=0.0, restarts=2)
    assert stage.rate_at(0, 10) == 1.0
    assert stage.rate_at(10, 10) == pytest.approx(0.5)
    assert stage.rate_at(19, 10) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.95)))
    assert stage.rate_at(20, 10) == 1.0
    assert Stage(epochs=4, rate=1.0, warmup=4).rate_at(0, 10) == 0.25


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "epochs must be a whole number >= 1, not 0"),
        ({"rate": math.nan}, "rate must be a number > 0, not nan"),
        ({"clip": 0.0}, "clip must be a number > 0, not 0.0"),
        ({"decay": -1.0}, "decay must be a number >= 0, not -1.0"),
        ({"precision": "fp8"}, "precision must be 'fp32' or 'bf16', not 'fp8'"),
        ({"optimizer": "lion"}, "optimizer must be 'sgd' or 'adam', not 'lion'"),
    ],
)
def test_stages_are_checked(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Stage(**{"epochs": 1, "rate": 0.1, **options})
    assert str(caught.value) == sentence


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    fit(Toy(), Toy().build(0), STAGE, seed=0, checkpoint=path)
    kept = path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        fit(Toy(spoiled=True), Toy().build(0), STAGE, seed=0, checkpoint=tmp_path / "other.pt")
    assert str(caught.value) == (
        "the training loss must stay finite, but is nan (gradient 0) at step 1, in epoch 1: lower the learning "
        "rate or rho; the last checkpoint is kept"
    )
    assert path.read_bytes() == kept
    with pytest.raises(CheckpointError) as refused:
        fit(Toy(), Toy().build(0), STAGE, seed=1, checkpoint=path)
    assert "must belong to this very run" in str(refused.value)


# --- comparisons ---------------------------------------------------------------------------------

TABLE: dict[str, Any] = {
    "version": 1,
    "task": {"type": "cifar10"},
    "dense": {"epochs": 4, "rate": 0.1},
    "prune": {"epochs": 2, "rate": 0.1},
    "retrain": {"epochs": 2, "rate": 0.05, "score_after": [0, 1, 2]},
    "tune": {"forms": "elements", "rate": 4, "rho": [0.01, 0.1]},
    "forms": [
        {
            "name": "elements",
            "rates": [2, 4],
            "rules": [{"weights": "*0.weight", "structure": {"type": "Elements"}}],
        }
    ],
    "methods": [
        {"name": "SLR", "pruner": {"type": "SLR", "every_epochs": 0.5}, "seeds": [0, 1], "tuned": True},
        {"name": "ADMM", "pruner": {"type": "ADMM", "every_epochs": 0.5}, "seeds": [0, 1], "tuned": True},
        {"name": "magnitude", "pruner": {"type": "magnitude"}, "seeds": [0]},
    ],
}


def recipe(**changes: Any) -> Comparison:
    return checked(Comparison, {**TABLE, **changes}, "r.toml")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ComparisonRun:
    monkeypatch.setattr(comparing, "make_task", lambda part, data: Toy())
    return ComparisonRun(recipe(), tmp_path, tmp_path / "run")


def test_a_comparison_runs_whole_and_is_found_again(run: ComparisonRun, tmp_path: Path) -> None:
    baseline = run.baseline()
    rows = [run.row(branch) for branch in run.branches()]
    assert [(row["rate"], row["method"], row["seed"]) for row in rows] == [
        (rate, method, seed)
        for rate in (2, 4)
        for method, seeds in (("SLR", (0, 1)), ("ADMM", (0, 1)), ("magnitude", (0,)))
        for seed in seeds
    ]
    for row in rows:
        assert list(row["score"]) == ["0", "1", "2"]
        assert row["plan_rate"] == row["rate"]
        assert 1 < row["model_rate"] < row["rate"]
        assert len(row["updates"]) == (0 if row["method"] == "magnitude" else 5)
        assert 0 < row["lost"] < 1
    result = report(run, baseline, rows)
    json.dumps(result)
    assert len(result["paired"]) == 2 * 2 * 3
    assert {found["rho"] for found in result["tuning"]} <= {0.01, 0.1}
    assert table(result).row_count == 6
    draw(result, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    # of what is done only rows are kept; what lost the tuning was never retrained
    assert len(list((tmp_path / "run").glob("*.pt"))) == 1 + 2
    assert len(list((tmp_path / "run").glob("prune-*.pt"))) == 2

    again = ComparisonRun(run.recipe, tmp_path, tmp_path / "run", progress=never)
    assert [again.row(branch) for branch in again.branches()] == rows
    assert again.baseline() == baseline

    with (
        tmp_path / "run" / f"updates-{comparing.key_of(run.recipe, next(run.branches()))}.csv"
    ).open() as file:
        table_of_updates = list(csv.DictReader(file))
    assert [float(line["distance"]) for line in table_of_updates] == [
        u["distance"] for u in rows[0]["updates"]
    ]
    assert [line["weights_accepted"] for line in table_of_updates] == [
        str(int(update["weights_accepted"])) for update in rows[0]["updates"]
    ]


def test_a_ladder_starts_each_rate_from_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "make_task", lambda part, data: Toy())
    gradual = {"name": "gradual", "pruner": {"type": "gradual", "over_epochs": 1, "every": 1}, "seeds": [0]}
    methods = [*recipe().model_dump()["methods"][:1], gradual]
    methods[0] |= {"tuned": False, "seeds": [0]}
    climbs = recipe(methods=methods, tune=None, ladder=True, reference="SLR")
    run = ComparisonRun(climbs, tmp_path, tmp_path / "run")
    rows = {(row["method"], row["rate"]): row for row in map(run.row, run.branches())}
    by_name = {(branch.method.name, branch.rate): branch for branch in run.branches()}

    for name in ("SLR", "gradual"):
        lower, higher = by_name[name, 2.0], by_name[name, 4.0]
        assert (lower.before, higher.before) == (None, lower)
        model, pruner, _ = run.trained(lower)  # from its checkpoint's end: trained anew
        kept = load_state(tmp_path / "run" / f"network-{comparing.key_of(climbs, lower)}.pt")["model"]
        assert all(torch.equal(kept[key], value) for key, value in model.state_dict().items())
        assert pruner.targets[0].reached == 0.5

        pruner = higher.method.pruner.pruner(Toy().steps, None, 0.5)
        pruner.prepare(model, higher.forms.plan(4.0))
        fit(Toy(), model, climbs.prune.stage(), seed=0, pruner=pruner)
        pruner.harden()
        assert Toy().score(model) == rows[name, 4.0]["score"]["0"]

    # a row that was taken from elsewhere leaves no network: it is trained when one is asked for
    for path in (tmp_path / "run").glob("network-*"):
        path.unlink()
    (tmp_path / "run" / f"row-{comparing.key_of(climbs, by_name['SLR', 4.0])}.json").unlink()
    again = ComparisonRun(climbs, tmp_path, tmp_path / "run")
    found = again.row(by_name["SLR", 4.0])
    assert found["score"] == rows["SLR", 4.0]["score"]


def test_ladders_that_make_no_sense() -> None:
    falling = [{**TABLE["forms"][0], "rates": [4, 2]}]
    fixed = [{**method, "tuned": False} for method in TABLE["methods"]]
    with pytest.raises(ConfigError, match="the rates of a ladder must grow, not 4, 2"):
        recipe(ladder=True, forms=falling, tune=None, methods=fixed)
    with pytest.raises(ConfigError, match="a ladder must give each method its rho"):
        recipe(ladder=True)
    with pytest.raises(ConfigError, match="reference must be one of the methods' names, not 'me'"):
        recipe(reference="me")


def test_a_method_may_be_called_otherwise_later(run: ComparisonRun, tmp_path: Path) -> None:
    """What decides a row is not what it is called."""
    rows = [run.row(branch) for branch in run.branches()]
    called = [method.model_copy(update={"name": f"my {method.name}"}) for method in run.recipe.methods]
    renamed = run.recipe.model_copy(update={"methods": tuple(called)})
    again = ComparisonRun(renamed, tmp_path, tmp_path / "run", progress=never)
    found = [again.row(branch) for branch in again.branches()]
    assert [row["method"] for row in found] == [f"my {row['method']}" for row in rows]
    assert [row["score"] for row in found] == [row["score"] for row in rows]


def test_branches_are_taken_from_an_earlier_result(run: ComparisonRun, tmp_path: Path) -> None:
    rows = [run.row(branch) for branch in run.branches()]
    result = report(run, run.baseline(), rows)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result))
    elsewhere = ComparisonRun(run.recipe, tmp_path, tmp_path / "elsewhere", progress=never)
    assert elsewhere.take(path) == len(rows) + 2  # two that lost the tuning
    assert elsewhere.take(path) == 0
    assert report(elsewhere, elsewhere.baseline(), [elsewhere.row(b) for b in elsewhere.branches()]) == result

    shorter = run.recipe.prune.model_copy(update={"epochs": run.recipe.prune.epochs + 1})
    other = ComparisonRun(run.recipe.model_copy(update={"prune": shorter}), tmp_path, tmp_path / "other")
    assert other.take(path) == 0
    assert list((tmp_path / "other").glob("row-*")) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "must be a result file that can be read: No such file or directory"),
        ("{", "must be a result of `retrim experiment slr --json`, but is something else or damaged"),
        (
            '{"kind": 1}',
            "must be a result of `retrim experiment slr --json`, but is something else or damaged",
        ),
    ],
)
def test_files_that_are_no_results(
    text: str | None, sentence: str, run: ComparisonRun, tmp_path: Path
) -> None:
    path = tmp_path / "result.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        run.take(path)
    assert str(caught.value) == f"{str(path)!r} {sentence}"


def test_rows_that_are_not_of_their_recipe(run: ComparisonRun) -> None:
    row = {"forms": "elements", "rate": 2.0, "method": "another", "seed": 0, "rho": None}
    with pytest.raises(ConfigError) as caught:
        branch_of(run.recipe, {**row, "forms": run.recipe.forms[0].name})
    assert str(caught.value) == (
        "rows of a result must be of its recipe, which has no 'another': take the file as it was written"
    )


def never(*_: Any) -> None:
    raise AssertionError("something was trained again")


def test_an_interrupted_branch_goes_on_to_the_same_row(
    run: ComparisonRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrim.zoo.fit.SAVE_EVERY_SECONDS", -1.0)
    branch = next(iter(run.branches()))
    whole = run.row(branch)

    kills = [
        ("dense", 7),
        (branch.name, 4),
        ("retraining", 2),
        ("retraining", 5),
        ("retraining", 6),
        ("retraining", 9),
    ]
    for where, when in kills:

        def kill(name: str, step: int, steps: int, loss: float, place: str = where, last: int = when) -> None:
            if place in name and step == last:
                raise Stopped

        with pytest.raises(Stopped):
            ComparisonRun(run.recipe, tmp_path, tmp_path / "other", progress=kill).row(branch)
    again = ComparisonRun(run.recipe, tmp_path, tmp_path / "other").row(branch)
    seconds = whole.pop("seconds_per_step"), again.pop("seconds_per_step")
    assert all(value > 0 for value in seconds)
    assert again == whole


def test_epochs_of_retraining_are_counted_from_hardening(run: ComparisonRun) -> None:
    """The score after 2 epochs is that of two, not of one and two more; that after one is taken after one."""
    branch = next(iter(run.branches()))
    seen: list[tuple[int, int]] = []
    scored: list[int] = []

    class Counted(Toy):
        def score(self, model: nn.Module) -> dict[str, float]:
            scored.append(len(seen))
            return super().score(model)

    def count(name: str, step: int, steps: int, loss: float) -> None:
        if "retraining" in name:
            seen.append((step, steps))

    run.task, run._progress = Counted(), count
    run.row(branch)
    assert seen == [(step, 10) for step in range(1, 11)]
    assert scored == [0, 5, 10]


def test_branches_learn_from_the_dense_network(run: ComparisonRun) -> None:
    taught: list[nn.Module] = []

    class Pupil(Toy):
        def taught(self, teacher: nn.Module) -> Task:
            taught.append(teacher)
            return Toy()

        def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
            assert len(taught) == 0, "only the dense network learns without a teacher"
            return super().loss(model, batch)

    run.task = Pupil()
    branch = next(iter(run.branches()))
    run.row(branch)
    assert taught and all(teacher is run.dense for teacher in taught)


@pytest.mark.parametrize("kind", ["gradual", "ReweightedGroupLasso"])
def test_other_methods_count_in_epochs(kind: str, run: ComparisonRun) -> None:
    part = {"gradual": {"over_epochs": 1.0, "every": 1}, "ReweightedGroupLasso": {"every_epochs": 0.4}}[kind]
    table = {**TABLE, "methods": [{"name": kind, "pruner": {"type": kind, **part}, "seeds": [0]}]}
    run.recipe = checked(Comparison, table, "r.toml")
    pruner = run.recipe.methods[0].pruner.pruner(5, None)
    if kind == "gradual":
        assert (pruner.schedule.end, pruner.schedule.every) == (5, 1)
    else:
        assert pruner.refresh_every == 2
    row = run.row(next(iter(run.branches())))
    assert row["plan_rate"] == row["rate"]


def test_a_row_that_was_removed_is_made_again(run: ComparisonRun, tmp_path: Path) -> None:
    """Also where retraining has gone past an epoch that is to be scored."""
    branch = next(iter(run.branches()))
    whole = run.row(branch)

    def kill(name: str, step: int, steps: int, loss: float) -> None:
        if "retraining" in name and step == 8:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrim.zoo.fit.SAVE_EVERY_SECONDS", -1.0)
        with pytest.raises(Stopped):
            ComparisonRun(run.recipe, tmp_path, tmp_path / "other", progress=kill).row(branch)
    again = ComparisonRun(run.recipe, tmp_path, tmp_path / "other")
    again._row_path(branch).unlink()
    assert again.row(branch)["score"] == whole["score"]


def test_only_some_branches(run: ComparisonRun) -> None:
    trained: list[str] = []
    run._progress = lambda name, *rest: None if name in trained else trained.append(name)
    rows = [run.row(branch) for branch in run.branches(["magnitude"])]
    assert [row["method"] for row in rows] == ["magnitude"] * 2
    assert not [name for name in trained if "SLR" in name or "ADMM" in name], "grids of others are not run"
    assert report(run, run.baseline(), rows)["tuning"] == []
    assert list(run.branches(())) == list(run.branches(["magnitude"]))
    [run.row(branch) for branch in run.branches(["ADMM, elements 2x, seed 1"])]
    assert [(b.method.name, b.rate, b.seed) for b in run.branches(())] == [
        ("ADMM", 2, 1),
        ("magnitude", 2, 0),
        ("magnitude", 4, 0),
    ]
    assert [found["method"] for found in report(run, run.baseline(), rows)["tuning"]] == ["ADMM"]
    with pytest.raises(ConfigError) as caught:
        next(run.branches(["magnitudes"]))
    assert str(caught.value) == (
        "no branch's name holds 'magnitudes': names are like 'SLR, elements 2x, seed 0'"
    )


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ([{"weights": "nothing", "structure": {"type": "Elements"}}], "must match a parameter of the model"),
        ([{"weights": "*0.weight", "structure": {"type": "BlockColumns", "rows": 5}}], "must divide"),
    ],
)
def test_plans_are_checked_before_any_training(
    rules: list[dict[str, Any]], sentence: str, run: ComparisonRun, tmp_path: Path
) -> None:
    forms = [{**TABLE["forms"][0], "rules": rules}]
    wrong = ComparisonRun(recipe(forms=forms), tmp_path, tmp_path / "run", progress=never)
    with pytest.raises((ConfigError, ShapeError), match=sentence):
        wrong.baseline()


def test_what_a_task_is_says_nothing_of_where_its_files_lie() -> None:
    @dataclass(frozen=True)
    class Filed(Toy):
        folder: Path = Path("data/set")
        model: str = field(default="models/tiny", metadata=PLACED)
        teacher: Any = field(default=None, repr=False)

    first = described(Filed())
    assert first.endswith("Filed(spoiled=False, folder='set', model='tiny')")
    assert described(Filed(folder=Path("/elsewhere/set"), model="/elsewhere/tiny", teacher=3)) == first
    assert described(Filed(folder=Path("data/other"))) != first
    assert described(FewSteps(Filed(), 3)) == f"FewSteps(task={first}, most=3)"


def test_a_signal_in_the_last_step_stops_too(tmp_path: Path) -> None:
    model = Toy().build(0)

    def stop(step: int, steps: int, loss: float) -> None:
        if step == steps:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(
        Interrupted, match="in epoch 3 of 3, after step 15; the same command goes on from there"
    ):
        fit(Toy(), model, STAGE, seed=3, checkpoint=tmp_path / "c.pt", on_step=stop)
    again = Toy().build(1)
    fit(Toy(), again, STAGE, seed=3, checkpoint=tmp_path / "c.pt", on_step=never)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_damaged_row_is_named(run: ComparisonRun) -> None:
    branch = next(iter(run.branches()))
    run.row(branch)
    row = run._row_path(branch)
    row.write_text(row.read_text()[:40])
    with pytest.raises(CheckpointError) as caught:
        run.row(branch)
    assert str(caught.value) == f"{str(row)!r} must be the result of a branch, but is damaged: remove it"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"forms": [{**TABLE["forms"][0], "rates": [0.5]}]},
            "forms.0.rates: a rate must be a number >= 1 (weights over kept weights), not 0.5",
        ),
        (
            {"forms": [{**TABLE["forms"][0], "rates": [2, 4, 2]}]},
            "forms.0.rates: rates must hold each value once, not 2, 4, 2",
        ),
        (
            {"methods": [{"name": "SLR", "pruner": {"type": "SLR"}, "seeds": [0, 0]}]},
            "methods.0.seeds: seeds must hold each value once, not 0, 0",
        ),
        (
            {"methods": [{"name": "SLR", "pruner": {"type": "SLR"}, "seeds": [-1]}]},
            "methods.0.seeds: a seed must be a whole number >= 0, not -1",
        ),
        (
            {"methods": [{"name": "one", "pruner": {"type": "magnitude"}, "tuned": True}]},
            "methods.0: only ADMM and SLR have a rho to tune, not magnitude: leave tuned out",
        ),
        (
            {"tune": {"forms": "elements", "rate": 4, "rho": [0.0, 0.1]}},
            "tune.rho: a rho must be a number > 0, not 0",
        ),
        (
            {"methods": [{"name": "slow", "pruner": {"type": "gradual", "over_epochs": 2.5}}]},
            "over_epochs of 'slow' must be at most the 2 epochs of pruning, not 2.5",
        ),
        (
            {"tune": {"forms": "elements", "rate": 4, "rhos": [0.1]}},
            "tune must have no key 'rhos': its keys are forms, rate, rho, seed",
        ),
        (
            {"task": {"type": "mnist"}},
            "task.type must be one of cifar10, coco, glue, imagenet, kitti, language, tusimple, not 'mnist'",
        ),
        (
            {"task": {"type": "cifar10", "image": 3}},
            "task must have no key 'image': its keys are batch, data, images, network, type, weights",
        ),
        (
            {"methods": [{"name": "x", "pruner": {"type": "SLR", "rhoo": 1}}]},
            (
                "methods.0.pruner must have no key 'rhoo': its keys are M, batches, by_inputs, every_epochs, over_epochs, pull, "
                "r, rejected, rho, step_size, "
                "steps, type"
            ),
        ),
        ({"tune": None}, "tune must be given, since a method is tuned"),
        (
            {"tune": {**TABLE["tune"], "forms": "rows"}},
            "tune.forms must be one of the forms' names, not 'rows'",
        ),
        (
            {"forms": TABLE["forms"] * 2},
            "forms must have names of their own, but 'elements' stands there twice",
        ),
        (
            {"retrain": {"epochs": 2, "rate": 0.1, "score_after": [0, 3]}},
            "retrain: score_after must end with the 2 epochs of training, not 3",
        ),
        (
            {"retrain": {"epochs": 2, "rate": 0.1, "score_after": [1]}},
            "retrain.score_after: score_after must be whole numbers that begin with 0 and grow, not [1]",
        ),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(**changes)
    assert str(caught.value) == f"recipe 'r.toml': {sentence}"


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ComparisonRun(recipe(), tmp_path, tmp_path)
    assert str(caught.value) == (
        f"task.data must be a file or folder of {str(tmp_path)!r}, but 'cifar10_jpg.tar.xz' is not there: give the "
        "folder of your data by --data, or its name in the recipe"
    )


@pytest.mark.parametrize("method", ["SLR", "ADMM", "magnitude"])
def test_two_steps_of_a_recipe_on_real_images(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(os.environ.get("RETRIM_DATA", Path(__file__).parents[4] / "shared" / "data"))
    data = folder / "cifar10_jpg.tar.xz"
    if not data.exists():
        pytest.skip(f"{data} is not there: the images that the recipe trains on")
    found = read_comparison(RECIPES / "resnet20-cifar10.toml")
    few = found.model_copy(
        update={
            "task": found.task.model_copy(update={"data": "few", "batch": 16, "images": 32}),
            "dense": None,
            "prune": found.prune.model_copy(update={"epochs": 1}),
            "retrain": found.retrain.model_copy(update={"epochs": 1, "score_after": (0, 1)}),
        }
    )
    (tmp_path / "cifar10_resnet_weights").symlink_to(folder / "cifar10_resnet_weights")
    take_some(data, tmp_path / "few")
    run = ComparisonRun(few, tmp_path, tmp_path / "run")
    chosen = next(part for part in few.methods if part.name == method)
    row = run.row(comparing.Branch(few.forms[0], 4, chosen, 0, 0.01))
    assert set(row["score"]) == {"0", "1"}
    assert row["plan_rate"] == pytest.approx(4, rel=0.001)
    assert run.baseline()["top1"] > 50  # public weights see what is in the images


def take_some(archive: Path, folder: Path) -> None:
    """The first images of the archive: 40 to test, and the same to train on."""
    taken = 0
    with tarfile.open(archive) as images:
        for member in images:
            content = images.extractfile(member) if member.isfile() and "/" in member.name else None
            if content is None or taken == 40:
                continue
            for part in ("train", "test"):
                to = folder / part / "/".join(Path(member.name).parts[-2:])
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(
                    content.read()
                    if part == "train"
                    else (folder / "train" / to.relative_to(folder / part)).read_bytes()
                )
            taken += 1
            if taken == 40:
                break


def test_intervals_are_students() -> None:
    assert interval([1.0]) == (None, None)
    low, high = interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5))


def test_methods_are_paired_with_admm_by_seed() -> None:
    def row(method: str, seed: int, hard: float) -> dict[str, Any]:
        return {"forms": "e", "rate": 4, "method": method, "seed": seed, "score": {"0": {"top1": hard}}}

    rows = [row("SLR", 0, 50.0), row("SLR", 1, 52.0), row("ADMM", 1, 49.0), row("ADMM", 0, 48.0)]
    rows += [row("SLR", 2, 99.0), row("magnitude", 0, 40.0)]
    slr, magnitude = paired(rows, "top1", "ADMM")
    assert (slr["method"], slr["seeds"], slr["difference"]) == ("SLR", [0, 1], 2.5)
    assert slr["high"] - slr["low"] == pytest.approx(2 * 12.706 * 0.5, rel=1e-3)
    assert (magnitude["method"], magnitude["difference"], magnitude["low"]) == ("magnitude", -8.0, None)
    assert {pair["method"]: pair["difference"] for pair in paired(rows, "top1", "magnitude")} == {
        "SLR": 10.0,
        "ADMM": 8.0,
    }
