"""The search over choices: batches of trials, rewards in their order, every choice scored once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from retrim.errors import ConfigError
from retrim.levels.method import TPE, Evolution, Method, RandomSearch
from retrim.levels.reward import Reward
from retrim.levels.space import Choice, Space
from retrim.levels.trials import Trials

METHODS = ("controller", "random", "evolution", "tpe")

Score = Callable[[Choice], Sequence[float]]
"""Accuracies of a choice's levels, one for each point; a function of the choice alone."""


Runner = Callable[[Score, Sequence[Choice]], Iterable[tuple[Choice, Sequence[float]]]]
"""Scores choices, perhaps several at a time, and gives (choice, accuracies) as they are done."""


def one_by_one(score: Score, choices: Sequence[Choice]) -> Iterable[tuple[Choice, Sequence[float]]]:
    """In this process."""
    return ((choice, score(choice)) for choice in choices)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A choice and what it was worth.

    Attributes
    ----------
    choice : Choice
    accuracies : tuple of float or None
        None where it misses the deadline, and nothing was trained.
    reward : float
    """

    choice: Choice
    accuracies: tuple[float, ...] | None
    reward: float


def search(
    space: Space,
    score: Score,
    reward: Reward,
    *,
    method: str = "controller",
    trials: int,
    batch: int = 8,
    seed: int = 0,
    store: Trials | None = None,
    run: Runner = one_by_one,
    progress: Callable[[int, int, float], None] | None = None,
) -> list[Trial]:
    """Search for the choice of largest reward.

    Parameters
    ----------
    space : Space
    score : callable
    reward : Reward
    method : {"controller", "random", "evolution", "tpe"}
    trials : int
        How many choices are tried, repeats counted.
    batch : int
        Trials between two updates of the method; part of what decides the result.
    seed : int
    store : Trials, optional
        What was scored before is found there, and what is scored kept.
    run : Runner
        How choices are scored; no influence on the result.
    progress : callable, optional
        Called with (trials done, trials in all, best reward).

    Returns
    -------
    list of Trial
        In order; `best` picks one.

    Raises
    ------
    ConfigError
    """
    if trials < 1 or batch < 1:
        raise ConfigError(f"trials and batch must be whole numbers >= 1, not {trials} and {batch}")
    asked = make(method, space, seed)
    found: list[Trial] = []
    with Trials(None, "") if store is None else _Borrowed(store) as known:
        while len(found) < trials:
            choices = asked.ask(min(batch, trials - len(found)))
            new = dict.fromkeys(c for c in choices if space.in_time(c) and known.find(c) is None)
            for choice, accuracies in run(score, list(new)):
                known.keep(choice, accuracies)
            done = [_trial(space, reward, known, choice) for choice in choices]
            asked.tell(choices, [trial.reward for trial in done])
            found += done
            if progress is not None:
                progress(len(found), trials, best(found).reward)
    return found


def best(trials: Sequence[Trial]) -> Trial:
    """The trial of largest reward, the first of equal ones."""
    return max(trials, key=lambda trial: trial.reward)


def make(method: str, space: Space, seed: int) -> Method:
    """A search method by its name.

    Raises
    ------
    ConfigError
        If the name is unknown.
    """
    if method == "controller":
        from retrim.levels.controller import Controller

        return Controller(space, seed)
    makers: dict[str, Callable[[Space, int], Method]] = {
        "random": RandomSearch,
        "evolution": Evolution,
        "tpe": TPE,
    }
    if method not in makers:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    return makers[method](space, seed)


def _trial(space: Space, reward: Reward, known: Trials, choice: Choice) -> Trial:
    if not space.in_time(choice):
        return Trial(choice=choice, accuracies=None, reward=reward.late(space, choice))
    accuracies = known.find(choice)
    if accuracies is None or len(accuracies) != len(choice):
        raise ConfigError(f"the score of {choice} must be {len(choice)} accuracies, not {accuracies}")
    return Trial(choice=choice, accuracies=accuracies, reward=reward(space, choice, accuracies))


class _Borrowed:
    """A store that its owner closes."""

    def __init__(self, store: Trials) -> None:
        self._store = store

    def __enter__(self) -> Trials:
        return self._store

    def __exit__(self, *_: object) -> None:
        pass
