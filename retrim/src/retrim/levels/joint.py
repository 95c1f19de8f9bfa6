"""Joint training: shared weights, one set of masks for each level, L = sum of alpha_i L_i (arXiv 2102.06336)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from retrim.errors import ConfigError, ShapeError

Masks = Mapping[str, torch.Tensor]
"""For each masked parameter, by name, a bool tensor of its shape."""


class JointTraining:
    """Puts each level's masks on shared weights in turn.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters stay; while a level is on, masked ones are read through its masks.
    levels : sequence of Masks
        All of the same parameters.
    weights : sequence of float, optional
        alpha_i, above zero; equal by default.  They are scaled to add up to 1.

    Raises
    ------
    ConfigError
        If there is no level, levels differ in parameters, or a weight is not above zero.
    ShapeError
        If a mask does not fit.
    """

    def __init__(
        self, model: nn.Module, levels: Sequence[Masks], weights: Sequence[float] | None = None
    ) -> None:
        if not levels:
            raise ConfigError("joint training must have a level at least")
        given = [1.0] * len(levels) if weights is None else list(weights)
        if len(given) != len(levels) or not all(0 < value < float("inf") for value in given):
            raise ConfigError(f"weights must be {len(levels)} numbers > 0, not {given}")
        self.model, self.levels = model, [dict(masks) for masks in levels]
        self.weights = [value / sum(given) for value in given]
        parameters = dict(model.named_parameters())
        for number, masks in enumerate(self.levels):
            if masks.keys() != self.levels[0].keys():
                raise ConfigError(
                    f"all levels must mask the same parameters, but level {number} differs from level 0"
                )
            for name, mask in masks.items():
                if name not in parameters:
                    raise ConfigError(f"a mask must be of a parameter, but the model has no {name!r}")
                if mask.shape != parameters[name].shape or mask.dtype != torch.bool:
                    raise ShapeError(
                        f"{name}: the mask of level {number} must be bool of shape {tuple(parameters[name].shape)}, "
                        f"not {mask.dtype} of {tuple(mask.shape)}"
                    )

    @contextmanager
    def at(self, level: int) -> Iterator[nn.Module]:
        """The model as this level sees it; gradients reach the shared weights through the masks."""
        taken: list[tuple[nn.Module, str, nn.Parameter]] = []
        try:
            for name, mask in self.levels[level].items():
                path, _, leaf = name.rpartition(".")
                module = self.model.get_submodule(path)
                parameter = module._parameters[leaf]
                assert parameter is not None  # noqa: S101 - checked when built
                taken.append((module, leaf, parameter))
                module._parameters[leaf] = None  # its place is kept
                module.__dict__[leaf] = parameter * mask
            yield self.model
        finally:
            for module, leaf, parameter in reversed(taken):
                module.__dict__.pop(leaf, None)
                module._parameters[leaf] = parameter

    def backward(self, loss: Callable[[nn.Module], torch.Tensor]) -> list[float]:
        """Add the gradient of the weighted sum of all levels' losses; the losses.

        Parameters
        ----------
        loss : callable
            Of the model, on one batch; called once for each level, one level's graph in memory at a time.
        """
        found = []
        for number, weight in enumerate(self.weights):
            with self.at(number) as model:
                value = loss(model)
                (weight * value).backward()  # type: ignore[no-untyped-call]
                found.append(float(value.detach()))
        return found

    @torch.no_grad()
    def hold_(self) -> None:
        """Zero what no level keeps."""
        parameters = dict(self.model.named_parameters())
        for name in self.levels[0]:
            kept = torch.stack([masks[name] for masks in self.levels]).any(dim=0)
            parameters[name].mul_(kept)
