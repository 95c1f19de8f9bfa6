"""Cycles of a network on a device: dense, as a backbone, and with patterns at any density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

from torch import nn

from retrim.device import Cluster
from retrim.errors import ProfileError
from retrim.prune.plan import Target
from retrim.recipe.expectation import rivals
from retrim.recipe.levels import LevelsRecipe
from retrim.runtime import profile_file
from retrim.runtime.calibration import Progress, calibrate
from retrim.runtime.entry import Request
from retrim.runtime.latency_model import LatencyModel
from retrim.runtime.profile import Profile

Calibrated = Callable[[Sequence[Request], Progress], Profile]
"""Gives a profile that knows the layers, or as many of them as there was time for; says how far it is."""
_PRECISION = "fp32"
_BLOCK = 32  # from so many rows on they lie along a vector, and higher blocks are packed in these


class Cycles:
    """What one inference takes, by the recipe's `device.latency`.

    Parameters
    ----------
    backbone : torch.nn.Module
    targets : sequence of Target
        Its pruned weights.
    recipe : LevelsRecipe
    cluster : Cluster
        That runs it.
    calibrated : callable, optional
        Needed where latencies come from a profile.
    progress : callable
        Told how many layers are measured.
    """

    def __init__(
        self,
        backbone: nn.Module,
        targets: Sequence[Target],
        recipe: LevelsRecipe,
        cluster: Cluster,
        calibrated: Calibrated | None,
        progress: Progress = lambda done, steps: None,
    ) -> None:
        self._progress = progress
        self._targets, self._recipe, self._cluster = targets, recipe, cluster
        self._calibrated = calibrated
        pruned = {id(target.parameter) for target in targets}
        self._rest = sum(
            module.weight.numel()
            for module in backbone.modules()
            if isinstance(module, nn.Linear) and id(module.weight) not in pruned
        )

    @property
    def dense(self) -> float:
        """Of the dense network: all multiply-accumulates at the core's best."""
        return self._at_best(sum(target.parameter.numel() for target in self._targets) + self._rest)

    @property
    def backbone(self) -> float:
        """Of the backbone in blocks."""
        return self._sum(1.0, max(self._recipe.backbone.rows, _BLOCK))

    def patterns(self, density: float) -> float:
        """With so much of the backbone's weights, in row groups."""
        return self._sum(density, self._recipe.patterns.group)

    def requests(self, density: float, rows: int) -> list[Request]:
        """The pruned layers, one by one."""
        part = self._recipe.device
        found = []
        for target in self._targets:
            outputs, inputs = target.matrix().shape
            found.append(
                Request(
                    precision=_PRECISION,
                    activations=None,
                    outputs=int(outputs),
                    inputs=int(inputs),
                    density=target.reached * density,
                    rows=rows,
                    group=1,
                    tokens=part.tokens,
                    threads=1,
                )
            )
        return found

    def _sum(self, density: float, rows: int) -> float:
        if self._recipe.device.latency == "operations":
            kept = sum(target.reached * target.parameter.numel() for target in self._targets)
            return self._at_best(kept * density + self._rest)
        pruned = self._model.cycles(self.requests(density, rows), self._cluster)
        return pruned / self._recipe.device.cores + self._at_best(self._rest)

    def _at_best(self, weights: float) -> float:
        part = self._recipe.device
        return float(weights * part.tokens / (self._cluster.throughput(_PRECISION) * part.cores))

    @cached_property
    def _model(self) -> LatencyModel:
        if self._calibrated is None:
            raise ProfileError(
                "a recipe with device.latency = 'profile' must be run with a profile: name one"
            )
        patterns = self._recipe.patterns
        wanted = self.requests(1.0, max(self._recipe.backbone.rows, _BLOCK))
        for density in patterns.densities:
            wanted += self.requests(patterns.tiling.reached(density), patterns.group)
        return LatencyModel(self._calibrated(_different(wanted), self._progress))


def _different(requests: Sequence[Request]) -> list[Request]:
    found: list[Request] = []
    for request in requests:
        if not any(request.is_like(known) for known in found):
            found.append(request)
    return found


def calibrated_in(path: Path, seconds: float = 120.0) -> Calibrated:
    """Measure what a profile's file lacks, and keep it there.

    Raises
    ------
    ProfileError
        If the file is damaged, or of another machine or other kernels.
    """
    return partial(_calibrate, path, seconds)


def _calibrate(path: Path, seconds: float, requests: Sequence[Request], progress: Progress) -> Profile:
    profile = profile_file.begin(path)
    if not all(profile.has(request) for request in requests):
        profile = calibrate(profile, requests, seconds=seconds, rivals=rivals(), progress=progress)
        profile_file.write(path, profile)
    return profile
