"""Who scores trials of a search for levels: this process, several, or the workers of a Ray cluster.

Rewards are applied in the order of trials by whoever searches, so a result does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from retrim.errors import ConfigError, MissingExtraError
from retrim.levels import Choice, one_by_one
from retrim.levels.search import Runner, Score
from retrim.recipe.level_cycles import Calibrated
from retrim.recipe.leveling import LevelsRun
from retrim.recipe.levels import LevelsRecipe


@dataclass(frozen=True)
class Given:
    """What another process needs to score trials of a run."""

    recipe: str
    data: Path
    folder: Path
    seed: int
    calibrated: Calibrated | None

    @classmethod
    def of(cls, run: LevelsRun) -> Given:
        """Of a run whose networks and profile are on disk."""
        _ = (
            run.level_masks.families,
            run.level_masks.start,
            run.space,
        )  # trained and measured before others look for them
        return cls(
            run.recipe.model_dump_json(), run.data.absolute(), run.folder.absolute(), run.seed, run.calibrated
        )

    def run(self) -> LevelsRun:
        """The run, in the process that is to score."""
        return LevelsRun(
            LevelsRecipe.model_validate_json(self.recipe),
            self.data,
            self.folder,
            seed=self.seed,
            calibrated=self.calibrated,
        )


_HERE: dict[str, LevelsRun] = {}  # of a process that scores, the run that it was last asked for


def score(given: Given, choice: Choice) -> list[float]:
    """Accuracies of a choice's levels, in a process of its own, on one thread."""
    import torch

    torch.set_num_threads(1)
    key = repr(given)
    if key not in _HERE:
        _HERE.clear()
        _HERE[key] = given.run()
    return _HERE[key].score(choice)


def runner(run: LevelsRun, *, jobs: int = 1, ray: str | None = None) -> Runner:
    """Scores one by one here, in several processes, or on a Ray cluster.

    Parameters
    ----------
    jobs : int
        Processes.
    ray : str, optional
        Address of a cluster that sees the run's data and folder under the same paths, as `ray.init` takes it:
        ``local`` starts one here, ``auto`` finds a running one.

    Raises
    ------
    MissingExtraError
        Without Ray.
    ConfigError
        If there is no cluster at the address.
    """
    if ray is not None:
        return _over_ray(run, ray)
    if jobs == 1:
        return one_by_one
    given = Given.of(run)

    def scored(_: Score, choices: Sequence[Choice]) -> Iterable[tuple[Choice, Sequence[float]]]:
        if not choices:
            return
        with ProcessPoolExecutor(min(jobs, len(choices)), get_context("spawn")) as pool:
            waiting = {pool.submit(score, given, choice): choice for choice in choices}
            for done in as_completed(waiting):
                yield waiting[done], done.result()

    return scored


def _over_ray(run: LevelsRun, address: str) -> Runner:
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingExtraError("--ray needs Ray: pip install ray") from None
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--ray must be the address of a running Ray cluster, 'local' or 'auto', not {address!r}: {error}"
        ) from None
    remote: Any = ray.remote(num_cpus=1)(score)
    given = Given.of(run)

    def scored(_: Score, choices: Sequence[Choice]) -> Iterable[tuple[Choice, Sequence[float]]]:
        asked = {remote.remote(given, choice): choice for choice in choices}
        waiting = list(asked)
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            for found in done:
                yield asked[found], ray.get(found)

    return scored
