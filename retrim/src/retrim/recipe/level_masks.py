"""Masks of a recipe's candidates on its backbone, and the weights that joint training starts from."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from retrim.errors import CheckpointError, ConfigError
from retrim.files import replacing
from retrim.levels import (
    Candidate,
    Families,
    count_kept,
    draw_families,
    free_masks,
    list_masks,
    nested_masks,
    surgeon_ladder,
)
from retrim.prune import OptimalBrainSurgeon, Pruner
from retrim.prune.moments import InputMoments, damped
from retrim.prune.plan import Target
from retrim.prune.surgeon import inverted
from retrim.recipe.levels import PatternsPart
from retrim.structures import BlockColumns, Mask
from retrim.zoo.task import Task

_VERSION = 2  # of the ladder: its files are named by it
_ENTRIES = 1 << 23  # of the moments that are worked on at a time


@dataclass(frozen=True)
class _Weight:
    """A weight of the backbone without what was pruned: kept columns side by side, and which groups of columns they are."""

    target: Target
    structure: BlockColumns
    small: np.ndarray
    keep: np.ndarray

    def scattered(self, small: np.ndarray) -> torch.Tensor:
        """What was given for the kept columns, as the weight lies in the model."""
        shape = self.structure.view_shape(tuple(self.target.parameter.shape), self.target.kind)
        spread = torch.from_numpy(self.structure.scatter(small, self.keep, shape))
        return self.target.restore(spread).contiguous()


class LevelMasks:
    """Candidates' masks, and the weights that joint training starts from.

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
        For the surgeon's lists, in files that are named by all that decides them.
    progress : callable
        Told how many weights' lists are done.
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
        self._damping = pruner.damping if isinstance(pruner, OptimalBrainSurgeon) else 0.01

    @property
    def densities(self) -> list[float]:
        """Those that patterns reach, the densest first; lists alone take them as they are."""
        part = self._part
        if not part.sets:
            return sorted(set(part.densities), reverse=True)
        return sorted({part.tiling.reached(density) for density in part.densities}, reverse=True)

    @cached_property
    def families(self) -> list[Families]:
        """The pattern sets: each from its own samples of the tiles."""
        part = self._part
        matrices = [self._energetic(place) for place in range(len(self._weights))] if part.sets else []
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
        """The backbone, with the weights that the surgeon's lists share where they are asked for."""
        if self._part.importance != "surgeon":
            return self._backbone
        model = copy.deepcopy(self._backbone)
        parameters = dict(model.named_parameters())
        for weight, (_, values) in zip(self._weights, self._ladders, strict=True):
            with torch.no_grad():
                parameters[weight.target.name].copy_(weight.scattered(values))
        return model

    def masks(self, candidates: Sequence[Candidate]) -> list[dict[str, torch.Tensor]]:
        """By parameter name, one set for each candidate."""
        found: list[dict[str, torch.Tensor]] = [{} for _ in candidates]
        for place, weight in enumerate(self._weights):
            for level, mask in zip(found, self._inner(place, candidates), strict=True):
                level[weight.target.name] = weight.scattered(mask)
        return found

    def _inner(self, place: int, candidates: Sequence[Candidate]) -> list[np.ndarray]:
        part = self._part
        small = self._energetic(place)
        if part.nested and part.sets:
            masks = dict(
                zip(self.densities, nested_masks(self.families[0], small, self.densities), strict=True)
            )
            return [masks[candidate.density] for candidate in candidates]
        return [
            self._list(place, small, candidate.density)
            if candidate.patterns == part.sets
            else free_masks(self.families[candidate.patterns], small, [candidate.density])[0]
            for candidate in candidates
        ]

    def _list(self, place: int, small: np.ndarray, density: float) -> np.ndarray:
        if self._part.importance != "surgeon":
            return list_masks(small, self._part.group, [density])[0]
        depth, _ = self._ladders[place]
        return depth > self.densities.index(density)

    def _energetic(self, place: int) -> np.ndarray:
        """Kept columns of the weights to start from, times the root mean square of their inputs where these count."""
        weight = self._weights[place]
        if self._part.importance == "surgeon":
            return self._ladders[place][1]
        if self._part.importance == "magnitude":
            return weight.small
        squares = _measured(self._squares, weight.target, "inputs")
        sizes = (squares / squares.mean()).sqrt().numpy()
        scaled: np.ndarray = weight.structure.compact(weight.target.matrix().numpy() * sizes, weight.keep)
        return scaled

    @cached_property
    def _weights(self) -> list[_Weight]:
        found = []
        for target in self._pruner.targets:
            support, structure = self._pruner.supports[target.name], target.structure
            if not isinstance(structure, BlockColumns) or not isinstance(support, Mask):
                raise ConfigError(
                    f"{target.name}: a backbone must be block columns with a mask, not {structure!r} with "
                    f"{type(support).__name__}"
                )
            matrix = target.matrix().numpy()
            blocks, groups = structure.grid((matrix.shape[0], matrix.shape[1]))
            keep = support.mask.numpy().reshape(blocks, -1, groups).any(axis=1)
            found.append(_Weight(target, structure, structure.compact(matrix, keep), keep))
        return found

    # --- inputs -------------------------------------------------------------------

    @cached_property
    def _squares(self) -> dict[str, torch.Tensor]:
        """Sums of squares of every input, by weight."""
        return {name: torch.diagonal(moment).clone() for name, moment in self._moments().items()}

    def _moments(self) -> dict[str, torch.Tensor]:
        """Second moments of the backbone's inputs over the task's probe."""
        model = self._backbone
        training = model.training
        inputs = InputMoments(model, self._pruner.targets, training=False)
        try:
            model.eval()
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
        paths = [self._path(weight) for weight in self._weights]
        if not all(path.exists() for path in paths):
            moments = self._moments()
            for done, (weight, path) in enumerate(zip(self._weights, paths, strict=True)):
                if not path.exists():
                    depth, values = self._ladder(weight, _measured(moments, weight.target, "surgeon"))
                    with replacing(path, "lists", ConfigError) as beside:
                        beside.parent.mkdir(exist_ok=True)
                        beside.write_bytes(save({"depth": depth, "values": values}))
                self._progress(done + 1, len(paths))
        return [_read(path, weight.small.shape) for weight, path in zip(self._weights, paths, strict=True)]

    def _path(self, weight: _Weight) -> Path:
        decides = [_VERSION, self._damping, self._part.group, weight.structure.rows, self.densities]
        digest = hashlib.sha256(json.dumps(decides).encode())
        digest.update(weight.small.tobytes())
        digest.update(np.packbits(weight.keep).tobytes())
        return self._folder / f"{weight.target.name}-{digest.hexdigest()[:12]}.safetensors"

    def _ladder(self, weight: _Weight, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        group, target = self._part.group, weight.target
        moment = damped(target.name, total, self._damping)
        if moment is None:
            raise ConfigError(f"{target.name} has no input but zeros: take patterns.importance = 'magnitude'")
        depths, values = [], []
        for rows, there in self._blocks(weight, moment):
            counts = [count_kept(density, there.shape[1]) for density in self.densities]
            inverse = inverted(there)
            share = rows.shape[1] // group  # groups of rows in a block, which have one moment
            depth, shared = surgeon_ladder(
                rows.reshape(-1, group, rows.shape[2]),
                there.repeat_interleave(share, dim=0),
                counts,
                inverse=inverse.repeat_interleave(share, dim=0),
            )
            depths.append(depth.to(torch.int16).repeat_interleave(group, dim=0))
            values.append(shared.flatten(0, 1))
        return torch.cat(depths), torch.cat(values)

    def _blocks(self, weight: _Weight, moment: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As many blocks as fit, at least one: values in the kept columns, and the moments of these columns' inputs."""
        height, wide = weight.structure.rows, weight.structure.group
        kept = weight.small.shape[1]
        together = max(1, _ENTRIES * self._part.group // (height * kept**2))
        for block in range(0, len(weight.keep), together):
            groups = weight.keep[block : block + together].nonzero()[1].reshape(-1, kept // wide)
            columns = torch.from_numpy((groups[:, :, None] * wide + np.arange(wide)).reshape(-1, kept))
            rows = torch.from_numpy(weight.small[block * height : (block + together) * height])
            there = moment[columns[:, :, None], columns[:, None, :]]
            yield rows.reshape(-1, height, kept), there


def _measured(found: dict[str, torch.Tensor], target: Target, importance: str) -> torch.Tensor:
    if target.name not in found:
        raise ConfigError(
            f"patterns.importance = {importance!r} needs layers whose inputs can be measured, but {target.name} is "
            "none: take 'magnitude'"
        )
    return found[target.name]


def _read(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    try:
        held = load(path.read_bytes())
        depth, values = held["depth"].numpy(), held["values"].numpy()
        if depth.shape != shape or values.shape != shape:
            raise ValueError(f"{depth.shape} and {values.shape} for {shape}")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): remove it to find the weight's lists anew"
        ) from None
    return depth, values
