"""How much the loss grows when one weight at a time is pruned, measured without training.

The measurements, and the densities under a global budget that follow from them
(`Sensitivities.plan`).  That pruned weights act on each other is not modelled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from retrim.errors import ConfigError, DensityError, ShapeError
from retrim.prune.digest import model_digest
from retrim.prune.lending import lent
from retrim.prune.plan import Plan, Rule, Target
from retrim.prune.pruner import Probe, check_finite
from retrim.prune.sensitivities import Measured, Point, Sensitivities
from retrim.structures.densities import check_density

Progress = Callable[[str, int, int], None]
"""Called with a weight's name, measurements done and measurements in all."""


def sensitivity(
    model: nn.Module,
    rules: Sequence[Rule],
    probe: Probe,
    densities: Sequence[float],
    *,
    data: str = "",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Sensitivities:
    """Measure what pruning one weight at a time costs, the others as they are.

    Parameters
    ----------
    model : torch.nn.Module
        Trained.  Its weights are the same bits afterwards, also after an interruption.
    rules : sequence of Rule
        Weights and structures; the rules' densities are not looked at.
    probe : callable
        Mean loss over fixed batches, in evaluation mode.
    densities : sequence of float
        Grid, each 0 < density <= 1.  Those that a structure does not reach on a weight are passed over there.
    data : str
        Words or a digest that tell the probe's batches from others, for the key of the cache.
    cache : Path, optional
        Folder of measurements; those that are there are not made again.
    progress : callable, optional

    Returns
    -------
    Sensitivities

    Raises
    ------
    ConfigError
        If the grid is empty or holds a density twice, or a loss is not finite; as `Plan.resolve`.
    ShapeError, DensityError, WeightError
        As `Plan.resolve`; if a weight reaches no density of the grid.
    CheckpointError
        If a file of the cache is damaged, newer, or cannot be written.
    """
    grid = _grid(densities)
    targets = _densest(rules, model)
    for target in targets:
        check_finite(target)
    asked = {target.name: _points(target, grid) for target in targets}
    found = Sensitivities(
        model=model_digest(model),
        data=data,
        grid=grid,
        structures={target.name: target.structure.to_dict() for target in targets},
    )
    if cache is not None:
        found = found.found_in(cache)
    dense = _loss(probe, "the model as it is") if found.loss is None else found.loss
    found = found.model_copy(update={"loss": dense})
    done, steps = 0, sum(len(points) for points in asked.values())
    for target in targets:
        points = asked[target.name]
        if target.name not in found.weights:
            measured = _measured(target, points, probe, dense, _told(progress, done, steps))
            found = found.adding(target.name, measured)
            if cache is not None:
                found.keep(cache)
        done += len(points)
        if progress is not None:
            progress(target.name, done, steps)
    return found


def _grid(densities: Sequence[float]) -> tuple[float, ...]:
    grid = tuple(sorted(check_density(density) for density in densities))
    if not grid or len(set(grid)) < len(grid):
        raise ConfigError(
            f"densities to measure at must be one or more, each once, not {list(densities) or 'none'}"
        )
    return grid


def _densest(rules: Sequence[Rule], model: nn.Module) -> list[Target]:
    """Targets of the rules, each at the largest density that its structure reaches."""
    return Plan([replace(rule, density=None) for rule in rules]).resolve(model)


def _points(target: Target, grid: Sequence[float]) -> list[tuple[float, float]]:
    """Densities to measure at, asked for and reached, ascending; the largest that there is comes last."""
    rows, columns = target.matrix().shape
    points: dict[float, float] = {}
    for density in (*grid, target.structure.densest((rows, columns))):
        try:
            reached = target.structure.reached((rows, columns), density)
        except (DensityError, ShapeError):
            continue
        points.setdefault(reached, density)
    if not any(reached < target.reached for reached in points):
        raise DensityError(
            f"{target.name}: a weight must reach a density of the grid, but {target.structure} reaches none of "
            f"{', '.join(f'{density:g}' for density in grid)} below {target.reached:g}: measure at larger ones"
        )
    return [(density, reached) for reached, density in sorted(points.items())]


def _told(progress: Progress | None, done: int, steps: int) -> Callable[[str, int], None]:
    return lambda name, more: None if progress is None else progress(name, done + more, steps)


@torch.no_grad()
def _measured(
    target: Target,
    points: Sequence[tuple[float, float]],
    probe: Probe,
    dense: float,
    told: Callable[[str, int], None],
) -> Measured:
    """The loss increase of one weight at all its densities."""
    found = []
    with lent(target.parameter) as kept:
        matrix = target.matrix(kept)
        for number, (density, reached) in enumerate(points):
            projected, _ = target.structure.project(matrix, density)
            increase = 0.0
            if not torch.equal(projected, matrix):
                target.parameter.copy_(target.restore(projected))
                increase = _loss(probe, f"{target.name} at density {reached:g}") - dense
            found.append(Point(density, reached, increase))
            told(target.name, number + 1)
        rows, columns = matrix.shape
    return Measured(structure=target.structure.to_dict(), shape=(rows, columns), points=tuple(found))


def _loss(probe: Probe, what: str) -> float:
    loss = probe()
    if not math.isfinite(loss):
        raise ConfigError(
            f"the probe's loss must be finite, but is {loss} for {what}: check the model and its batches, or leave "
            "the smallest densities out"
        )
    return float(loss)
