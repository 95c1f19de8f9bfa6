"""What every search method is: it asks for choices in batches, and is told their rewards in order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np

from retrim.errors import MissingExtraError
from retrim.levels.space import Choice, Space


class Method(Protocol):
    """A search method over one space, deterministic in its seed."""

    def ask(self, count: int) -> list[Choice]:
        """The next choices to try."""
        ...

    def tell(self, choices: Sequence[Choice], rewards: Sequence[float]) -> None:
        """What they were worth, in the order in which they were asked for."""
        ...


def check_installed(methods: Collection[str]) -> None:
    """See that what search methods need is there, before hours of work go by.

    Raises
    ------
    MissingExtraError
        Without Optuna, where one of them is ``tpe``.
    """
    if "tpe" in methods:
        _optuna()


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise MissingExtraError("TPE needs optuna: pip install 'retrim[levels]'") from None
    return optuna


class RandomSearch:
    """Every choice alike."""

    def __init__(self, space: Space, seed: int) -> None:
        self._options = space.options
        self._draw = np.random.default_rng([seed, 1])

    def ask(self, count: int) -> list[Choice]:
        return [tuple(int(self._draw.choice(options)) for options in self._options) for _ in range(count)]

    def tell(self, choices: Sequence[Choice], rewards: Sequence[float]) -> None:
        """Nothing is learnt."""


class Evolution:
    """Regularised evolution (arXiv 1802.01548, algorithm 1): the youngest live, the best of a sample has a child.

    Parameters
    ----------
    space : Space
    seed : int
    population : int
        Choices that live; the first so many are random.
    sample : int
        How many of them compete for each child, which differs in one decision.
    """

    def __init__(self, space: Space, seed: int, *, population: int = 16, sample: int = 5) -> None:
        self._options = space.options
        self._draw = np.random.default_rng([seed, 2])
        self._first = RandomSearch(space, seed)
        self._population, self._sample = population, sample
        self._alive: list[tuple[Choice, float]] = []
        self._asked = 0

    def ask(self, count: int) -> list[Choice]:
        found: list[Choice] = []
        for _ in range(count):
            young = self._asked < self._population or not self._alive
            found += self._first.ask(1) if young else [self._child()]
            self._asked += 1
        return found

    def tell(self, choices: Sequence[Choice], rewards: Sequence[float]) -> None:
        self._alive += zip(choices, rewards, strict=True)
        self._alive = self._alive[-self._population :]

    def _child(self) -> Choice:
        size = min(self._sample, len(self._alive))
        competing = self._draw.choice(len(self._alive), size, replace=False)
        parent: Choice = max((self._alive[i] for i in sorted(competing)), key=lambda entry: entry[1])[0]
        free = [place for place, options in enumerate(self._options) if len(options) > 1]
        if not free:
            return parent
        place = int(self._draw.choice(free))
        others = [option for option in self._options[place] if option != parent[place]]
        return (*parent[:place], int(self._draw.choice(others)), *parent[place + 1 :])


class TPE:
    """Tree-structured Parzen estimators, by Optuna.

    Raises
    ------
    MissingExtraError
        Without Optuna.
    """

    def __init__(self, space: Space, seed: int) -> None:
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._options = space.options
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=10)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._open: list[object] = []

    def ask(self, count: int) -> list[Choice]:
        found = []
        for _ in range(count):
            trial = self._study.ask()
            self._open.append(trial)
            found.append(
                tuple(
                    options[trial.suggest_int(str(place), 0, len(options) - 1)]
                    for place, options in enumerate(self._options)
                )
            )
        return found

    def tell(self, choices: Sequence[Choice], rewards: Sequence[float]) -> None:
        for trial, reward in zip(self._open, rewards, strict=True):
            self._study.tell(trial, reward)
        self._open = []
