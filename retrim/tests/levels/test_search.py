"""Spaces, rewards by hand, methods: deterministic, resumable, the controller better than chance."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import pytest
import torch

from retrim.errors import CheckpointError, ConfigError, DeviceError
from retrim.levels import METHODS, Candidate, Choice, Controller, Point, Reward, Space, Trials, best, search

DENSITIES = (0.8, 0.6, 0.4, 0.3, 0.2)


def space(deadline_ms: float = 10.0, **fields: object) -> Space:
    """Three points, five densities in two sets; cycles in proportion to density."""
    points = tuple(Point(mhz=f, milliwatts=f / 2, millijoules=3e5) for f in (1400, 1000, 600))
    candidates = tuple(
        Candidate(density=d, patterns=k, cycles=1e7 * d + 1e5 * k) for d in DENSITIES for k in (0, 1)
    )
    return Space(points=points, candidates=candidates, deadline_ms=deadline_ms, **fields)


def score(choice: Choice) -> list[float]:
    """Denser is better; set 1 a little, at the middle point a lot."""
    found = space().candidates
    return [
        0.4 + 0.2 * found[j].density + (0.1 if place == 1 else 0.01) * found[j].patterns
        for place, j in enumerate(choice)
    ]


REWARD = Reward(dense=0.6, least=0.4)


def test_points_offer_what_meets_the_deadline() -> None:
    made = space()
    for point, options in zip(made.points, made.options, strict=True):
        wanted = [j for j, c in enumerate(made.candidates) if c.cycles / (1000 * point.mhz) <= 10.0]
        assert sorted(options) == wanted
        densities = [made.candidates[j].density for j in options]
        assert densities == sorted(densities, reverse=True)
    assert [len(options) for options in made.options] == [10, 10, 7]
    assert made.size == 700
    two = space(keep=2)
    assert [sorted({two.candidates[j].density for j in options}) for options in two.options] == [
        [0.6, 0.8],
        [0.6, 0.8],
        [0.4, 0.6],
    ]
    assert [len(options) for options in space(shrunk=False).options] == [10, 10, 10]


def test_runs_and_rewards_by_hand() -> None:
    made = space()
    choice = (0, 4, 8)  # densities 0.8, 0.4, 0.2
    # energy / (power x time): 3e5 mJ / (700 mW x 8e6 / 1.4e9 s), ...
    runs = [3e5 / (700 * 8e6 / 1.4e9), 3e5 / (500 * 4e6 / 1e9), 3e5 / (300 * 2e6 / 6e8)]
    assert made.runs(choice) == pytest.approx(runs)
    most = sum(3e5 / (f / 2 * 2e6 / (1e6 * f)) for f in (1400, 1000, 600))
    assert made.most_runs == pytest.approx(most)
    value = (0.5 - 0.4) / 0.2 + sum(runs) / most
    assert REWARD(made, choice, [0.55, 0.5, 0.45]) == pytest.approx(value)
    assert REWARD(made, choice, [0.5, 0.55, 0.45]) == pytest.approx(value - 0.1)
    assert REWARD.late(made, choice) == pytest.approx(-1 + sum(runs) / most)
    mean = (0.55 * runs[0] + 0.5 * runs[1] + 0.45 * runs[2]) / sum(runs)
    by_runs = Reward(dense=0.6, least=0.4, weights="runs", runs=0.5)
    assert by_runs(made, choice, [0.55, 0.5, 0.45]) == pytest.approx(
        (mean - 0.4) / 0.2 + 0.5 * sum(runs) / most
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_search_depends_on_its_seed_alone_and_goes_on(method: str, tmp_path: Path) -> None:
    if method == "tpe":
        pytest.importorskip("optuna", reason="optuna is not installed")
    made = space(shrunk=False)
    options = {"method": method, "trials": 40, "batch": 8}
    state = torch.get_rng_state()
    whole = search(made, score, REWARD, seed=3, **options)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(whole) == 40
    assert any(trial.accuracies is None for trial in whole)  # a deadline was missed, and nothing trained
    other = search(made, score, REWARD, seed=4, **options)
    assert [t.choice for t in other] != [t.choice for t in whole]

    scored: list[Choice] = []

    def dies(choice: Choice) -> list[float]:
        if len(scored) == 9:
            raise KeyboardInterrupt
        scored.append(choice)
        return score(choice)

    path = tmp_path / "trials.sqlite"
    with Trials(path, "run") as store, pytest.raises(KeyboardInterrupt):
        search(made, dies, REWARD, seed=3, store=store, **options)
    scored_again: list[Choice] = []

    def counts(choice: Choice) -> list[float]:
        scored_again.append(choice)
        return score(choice)

    with Trials(path, "run") as store:
        assert search(made, counts, REWARD, seed=3, store=store, **options) == whole
        assert not set(scored) & set(scored_again)
        assert len(store) == len(scored) + len(scored_again)
    assert len(set(scored_again)) == len(scored_again)  # each choice once
    with Trials(path, "another run") as store:
        assert store.find(whole[0].choice) is None

    def backwards(score_: object, choices: Sequence[Choice]) -> Iterable[tuple[Choice, Sequence[float]]]:
        return [(choice, score(choice)) for choice in reversed(choices)]

    assert search(made, score, REWARD, seed=3, run=backwards, **options) == whole


def test_the_controller_finds_more_than_chance() -> None:
    made = space()
    ideal = max(REWARD(made, choice, score(choice)) for choice in product(*made.options))

    def reached(method: str) -> list[float]:
        return [
            best(search(made, score, REWARD, method=method, trials=160, batch=8, seed=seed)).reward
            for seed in range(5)
        ]

    controller, chance = reached("controller"), reached("random")
    assert statistics.mean(controller) > statistics.mean(chance)
    assert statistics.mean(controller) > ideal - 0.02


def test_the_policy_begins_uniform_and_ends_sure() -> None:
    made = space()
    controller = Controller(made, 0)
    counts = [0] * 10
    for choice in controller.ask(4000):
        counts[made.options[0].index(choice[0])] += 1
    assert all(abs(count - 400) < 5 * (4000 * 0.1 * 0.9) ** 0.5 for count in counts)
    for _ in range(150):
        choices = controller.ask(8)
        controller.tell(choices, [float(choice[0] == made.options[0][3]) for choice in choices])
    assert controller.best()[0] == made.options[0][3]


def test_gradients_of_the_policy_are_reinforces() -> None:
    """A step of plain ascent on one batch, by the definition: (R - b) grad log p + entropy."""
    made = space()
    controller = Controller(made, 1, entropy=0.3)
    first = controller.ask(6)
    controller.tell(first, [1.0, 0.0, 0.5, 0.2, 0.9, 0.1])  # leaves the uniform start
    choices, rewards = controller.ask(4), [0.3, 0.7, 0.1, 0.6]
    baseline, policy = controller._baseline, controller._policy
    places = torch.tensor(
        [[o.index(c) for o, c in zip(made.options, choice, strict=True)] for choice in choices]
    )
    logs, entropies = policy(places)
    gain = sum((r - baseline) * logs[i] for i, r in enumerate(rewards)) / 4 + 0.3 * entropies.mean()
    wanted = torch.autograd.grad(gain, list(policy.parameters()), allow_unused=True)
    controller.tell(choices, rewards)
    for parameter, gradient in zip(policy.parameters(), wanted, strict=True):
        if gradient is not None:
            assert torch.allclose(parameter.grad, -gradient, atol=1e-12)
    assert controller._baseline == pytest.approx(0.8 * baseline + 0.2 * sum(rewards) / 4)
    # probabilities of all choices add up to 1
    every = torch.tensor(list(product(*(range(len(o)) for o in made.options))))
    assert policy(every)[0].exp().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (
            lambda: space(deadline_ms=1.0),
            DeviceError,
            "deadline_ms must be one that the sparsest candidate meets at 600 MHz, not 1: 3.334 ms is feasible; or offer "
            "sparser candidates, or leave the slowest points out",
        ),
        (lambda: space(keep=0), ConfigError, "keep must be a whole number >= 1, not 0"),
        (
            lambda: Space(points=space().points[::-1], candidates=space().candidates, deadline_ms=10),
            ConfigError,
            "operating points must come the fastest first, not 600, 1000, 1400 MHz",
        ),
        (
            lambda: Space(points=(), candidates=(), deadline_ms=10),
            ConfigError,
            "a space must have an operating point and a candidate at least",
        ),
        (
            lambda: Candidate(density=0.0, cycles=1.0),
            ConfigError,
            "a candidate must have 0 < density <= 1 and cycles > 0, not 0.0 and 1.0",
        ),
        (
            lambda: Reward(dense=0.4, least=0.4),
            ConfigError,
            "the least accuracy must be below the dense one, 0.4, not 0.4",
        ),
        (
            lambda: Reward(dense=0.5, least=0.4, disorder=-1),
            ConfigError,
            "disorder must be a number >= 0, not -1",
        ),
        (
            lambda: search(space(), score, REWARD, method="grid", trials=1),
            ConfigError,
            "method must be one of controller, random, evolution, tpe, not 'grid'",
        ),
        (
            lambda: search(space(), score, REWARD, trials=0),
            ConfigError,
            "trials and batch must be whole numbers >= 1, not 0 and 8",
        ),
        (
            lambda: search(space(), lambda _: [0.5], REWARD, trials=1, method="random"),
            ConfigError,
            None,
        ),
    ],
)
def test_what_makes_no_sense(make, error, sentence: str | None) -> None:
    with pytest.raises(error) as caught:
        make()
    if sentence is None:
        assert "must be 3 accuracies, not (0.5,)" in str(caught.value)
    else:
        assert str(caught.value) == sentence


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "trials.sqlite"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(CheckpointError, match="must be a file of SQLite that can be written"):
        Trials(path, "run")
