"""Masks of a recipe's candidates on its backbone, and the weights that joint training starts from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from retrim.errors import CheckpointError, ConfigError
from retrim.files import replacing
from retrim.levels import (
    Candidate,
    Families,
    draw_families,
    free_masks,
    list_masks,
    nested_masks,
    surgeon_ladder,
)
from retrim.prune import Pruner
from retrim.prune.moments import InputMoments, damped
from retrim.prune.plan import Target
from retrim.recipe.levels import PatternsPart
from retrim.structures import BlockColumns, Mask
from retrim.zoo.task import Task

_DAMPING = 0.01  # as the pruner's


@dataclass(frozen=True)
class _Weight:
    """A weight of the backbone without what was pruned."""

    target: Target
    structure: BlockColumns
    small: np.ndarray
    keep: np.ndarray

    def full(self, small: np.ndarray) -> torch.Tensor:
        """What was given for the kept columns, as the weight lies in the model."""
        shape = self.structure.view_shape(tuple(self.target.parameter.shape), self.target.kind)
        spread = torch.from_numpy(self.structure.scatter(small, self.keep, shape))
        return self.target.restore(spread).contiguous()


class LevelMasks:
    """Candidates' masks.

    Parameters
    ----------
    backbone : torch.nn.Module
    pruner : Pruner
        That hardened it.
    part : PatternsPart
    task : Task
        Whose probe inputs are measured on.
    seed : int
    folder : Path
        For what takes long; of this backbone and this part of the recipe.
    progress : callable
        Told how many weights are in order.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pruner: Pruner,
        part: PatternsPart,
        task: Task,
        *,
        seed: int,
        folder: Path,
        progress: Callable[[int, int], None] = lambda done, steps: None,
    ) -> None:
        self._backbone, self._pruner, self._part, self._task = backbone, pruner, part, task
        self._seed, self._folder, self._progress = seed, folder, progress

    @property
    def densities(self) -> list[float]:
        """Those that patterns reach, the densest first; lists alone take them as they are."""
        part = self._part
        if not part.sets:
            return sorted(set(part.densities), reverse=True)
        return sorted({part.tiling.reached(density) for density in part.densities}, reverse=True)

    @cached_property
    def families(self) -> list[Families]:
        """The pattern sets: each from its own samples of the backbone's tiles."""
        part = self._part
        matrices = [self._sized(weight) for weight in self._weights]
        middle = sorted(part.densities)[len(part.densities) // 2]
        return [
            draw_families(
                matrices,
                part.tiling,
                part.patterns,
                density=middle,
                seed=1000 * self._seed + number,
                sample=part.sample,
                refinements=part.refinements,
            )
            for number in range(part.sets)
        ]

    @cached_property
    def start(self) -> nn.Module:
        """The backbone; with the surgeon's lists, its weights as these share them."""
        if self._part.importance != "surgeon":
            return self._backbone
        model = copy.deepcopy(self._backbone)
        parameters = dict(model.named_parameters())
        for weight, (_, values) in zip(self._weights, self._ladders, strict=True):
            with torch.no_grad():
                parameters[weight.target.name].copy_(weight.full(values))
        return model

    def of(self, chosen: Sequence[Candidate]) -> list[dict[str, torch.Tensor]]:
        """Masks by parameter name, one set for each candidate."""
        found: list[dict[str, torch.Tensor]] = [{} for _ in chosen]
        for place, weight in enumerate(self._weights):
            for level, mask in zip(found, self._inner(place, weight, chosen), strict=True):
                level[weight.target.name] = weight.full(mask)
        return found

    def _inner(self, place: int, weight: _Weight, chosen: Sequence[Candidate]) -> list[np.ndarray]:
        part = self._part
        small = self._sized(weight)
        if part.nested and part.sets:
            masks = dict(
                zip(self.densities, nested_masks(self.families[0], small, self.densities), strict=True)
            )
            return [masks[candidate.density] for candidate in chosen]
        return [
            self._list(place, small, candidate.density)
            if candidate.patterns == part.sets
            else free_masks(self.families[candidate.patterns], small, [candidate.density])[0]
            for candidate in chosen
        ]

    def _list(self, place: int, small: np.ndarray, density: float) -> np.ndarray:
        if self._part.importance != "surgeon":
            return list_masks(small, self._part.group, [density])[0]
        lists, _ = self._ladders[place]
        return lists > self.densities.index(density)

    def _sized(self, weight: _Weight) -> np.ndarray:
        """Kept columns as their energies count: times the root mean square of their inputs where these do."""
        if self._part.importance != "inputs":
            return weight.small
        squares = torch.diagonal(self._moment(weight.target))
        sizes = (squares / squares.mean()).sqrt().numpy()
        structure, keep = weight.structure, weight.keep
        sized: np.ndarray = structure.compact(weight.target.matrix().numpy() * sizes, keep)
        return sized

    @cached_property
    def _weights(self) -> list[_Weight]:
        found = []
        for target in self._pruner.targets:
            support, structure = self._pruner.supports[target.name], target.structure
            if not isinstance(support, Mask) or not isinstance(structure, BlockColumns):
                raise ConfigError(f"{target.name}: a backbone must be in block columns, not {structure!r}")
            matrix = target.matrix().numpy()
            blocks, groups = structure.grid((matrix.shape[0], matrix.shape[1]))
            keep = support.mask.numpy().reshape(blocks, -1, groups).any(axis=1)
            found.append(_Weight(target, structure, structure.compact(matrix, keep), keep))
        return found

    # --- inputs -------------------------------------------------------------------

    def _moment(self, target: Target) -> torch.Tensor:
        found = self._moments.get(target.name)
        if found is None:
            raise ConfigError(
                f"patterns.importance = {self._part.importance!r} needs layers whose inputs can be measured, but "
                f"{target.name} is none: take 'magnitude'"
            )
        return found

    @cached_property
    def _moments(self) -> dict[str, torch.Tensor]:
        """Second moments of the backbone's inputs over the task's probe."""
        model = self._backbone
        training = model.training
        inputs = InputMoments(model.eval(), self._pruner.targets, training=False)
        try:
            with torch.no_grad():
                for batch in self._task.probe():
                    self._task.loss(model, batch)
        finally:
            model.train(training)
            inputs.stop()
        return inputs.sums

    # --- the surgeon's lists ------------------------------------------------------

    @cached_property
    def _ladders(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each weight how many lists keep an entry, and shared values; kept columns alone."""
        found = []
        for done, weight in enumerate(self._weights):
            path = self._folder / f"{weight.target.name}.safetensors"
            if not path.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                lists, values = self._ladder(weight)
                with replacing(path, "lists", ConfigError) as beside:
                    save_file({"lists": lists, "values": values}, beside)
            try:
                held = load_file(path)
                found.append((held["lists"].numpy(), held["values"].numpy()))
            except (SafetensorError, KeyError) as error:
                raise CheckpointError(
                    f"{path} is damaged ({error}): remove it to order the weight's columns anew"
                ) from None
            self._progress(done + 1, len(self._weights))
        return found

    def _ladder(self, weight: _Weight) -> tuple[torch.Tensor, torch.Tensor]:
        part, target = self._part, weight.target
        moment = damped(target.name, self._moment(target), _DAMPING)
        if moment is None:
            raise ConfigError(f"{target.name} has no input but zeros: take patterns.importance = 'magnitude'")
        lists, values = [], []
        for rows, columns in self._groups(weight):
            there = moment[columns][:, columns]
            counts = [max(1, int(density * len(columns) + 0.5)) for density in self.densities]
            order, shared = surgeon_ladder(rows, there, counts)
            lists.append(order.to(torch.uint8).expand(part.group, -1))
            values.append(shared)
        return torch.cat(lists), torch.cat(values)

    def _groups(self, weight: _Weight) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each group of rows: its values in the kept columns, and which columns these are."""
        group, height = self._part.group, weight.structure.rows
        for block, keep in enumerate(weight.keep):
            wide = weight.structure.group
            first = np.flatnonzero(keep)[:, None] * wide
            columns = torch.from_numpy((first + np.arange(wide)).ravel())
            for start in range(block * height, (block + 1) * height, group):
                yield torch.from_numpy(weight.small[start : start + group]), columns
