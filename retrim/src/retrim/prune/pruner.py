"""What every pruner is: the optimisation that brings weights into their structures.

A pruner knows optimisation only; the geometry is the structures'.  In a
training loop it takes three calls a step::

    pruner.prepare(model, plan)
    for batch in batches:
        loss(model, batch).backward()      # then all-reduce, accumulation, clipping
        pruner.add_gradient_()
        optimizer.step()
        pruner.step(probe)
    pruner.harden()                        # then go on training, masked
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from retrim.errors import CheckpointError, ConfigError, WeightError
from retrim.prune.plan import Plan, Target
from retrim.structures import Mask, Support

Probe = Callable[[], float]
"""Mean loss over a fixed set of batches, in evaluation mode."""


@dataclass(frozen=True)
class Hardened:
    """What the final projection did to one weight."""

    name: str
    density: float
    lost: float
    """Norm of what was pruned over the norm of the weight."""
    norm: float
    """Of the weight as it was."""


class Pruner(ABC):
    """Base of all pruners: life cycle, hard projection, masked retraining, state.

    The life of a pruner is `prepare`, training, `harden`, masked retraining.
    From `harden` on, gradients and weights are held to the supports, so that
    what was pruned stays exactly zero.
    """

    def __init__(self) -> None:
        self._targets: list[Target] | None = None
        self._model: nn.Module | None = None
        self._supports: dict[str, Support] = {}
        self._hardened = False
        self._steps = 0
        self._added = False

    # --- the interface ---------------------------------------------------------

    def prepare(self, model: nn.Module, plan: Plan) -> None:
        """Take hold of the weights that `plan` names in `model`.

        Raises
        ------
        ConfigError, ShapeError, DensityError, WeightError
            As `Plan.resolve` does, or if a weight is not finite.
        """
        self._targets, self._model = plan.resolve(model), model
        self._supports = {}
        self._hardened = False
        self._steps = 0
        self._added = False
        for target in self.targets:
            check_finite(target)
        with torch.no_grad():
            self._begin()

    @torch.no_grad()
    def add_gradient_(self) -> None:
        """Add the penalty's gradient to ``.grad``, and hold gradients to the supports.

        Once per optimiser step, after backward, all-reduce, accumulation and clipping.

        Raises
        ------
        ConfigError
            If it is called a second time before `step`: the penalty would count twice.
        """
        if self._added:
            raise ConfigError(
                f"{type(self).__name__}.add_gradient_() must be called once per step(), not twice: "
                "call it after the last backward pass of a step"
            )
        self._added = True
        if not self._hardened:
            self._add_gradient()
        for target, support in self._supported():
            if target.parameter.grad is not None:
                held = support.apply(target.matrix(target.parameter.grad))
                target.parameter.grad.copy_(target.restore(held))
            if target.bias is not None and target.bias.grad is not None:
                target.silence_(target.bias.grad)

    @torch.no_grad()
    def step(self, probe: Probe | None = None) -> None:
        """Once per optimiser step, after it: hold weights to the supports, go on with the schedule."""
        self._steps += 1
        self._added = False
        self._hold()  # momentum moves what was pruned: the schedule must not see that
        if not self._hardened:
            self._advance(probe)
            self._hold()

    @torch.no_grad()
    def penalty(self) -> float:
        """Value of the penalty at the present weights, for logs."""
        return 0.0 if self._hardened else self._penalty()

    @torch.no_grad()
    def harden(self) -> list[Hardened]:
        """Project every weight onto its structure: what is pruned is exactly zero from here on.

        A weight that a schedule has brought there already keeps its support.

        Raises
        ------
        WeightError
            If a weight is not finite; none is changed then.
        """
        for target in self.targets:
            check_finite(target)
        report = []
        for target in self.targets:
            matrix = target.matrix()
            projected, support = self._final(target, matrix)
            norm = float(torch.linalg.vector_norm(matrix))
            lost = float(torch.linalg.vector_norm(matrix - support.apply(matrix)))
            report.append(Hardened(target.name, support.density, lost / norm if norm else 0.0, norm))
            target.parameter.copy_(target.restore(projected))
            if target.bias is not None:
                target.silence_(target.bias)
            self._supports[target.name] = support
        self._hardened = True
        return report

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs, as tensors, numbers and strings."""
        return {
            "pruner": type(self).__name__,
            "steps": self._steps,
            "hardened": self._hardened,
            "plan": self._plan(),
            "masks": {
                name: support.mask for name, support in self._supports.items() if isinstance(support, Mask)
            },
            **self._state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`, after `prepare` with the same plan.

        Raises
        ------
        CheckpointError
            If the state is another pruner's or another plan's.
        """
        if state.get("pruner") != type(self).__name__:
            raise CheckpointError(
                f"the checkpoint must be of {type(self).__name__}, not of {state.get('pruner')}"
            )
        here, there = self._plan(), state["plan"]
        for name in here | there:
            if here.get(name) != there.get(name):
                raise CheckpointError(
                    f"the checkpoint must belong to this plan, but holds {name!r} to "
                    f"{there.get(name, 'nothing')}, not to {here.get(name, 'nothing')}: start again without it"
                )
        self._load(state)
        self._steps = state["steps"]
        self._hardened = state["hardened"]
        self._added = False
        device = {target.name: target.parameter.device for target in self.targets}
        self._supports = {name: Mask(mask.to(device[name])) for name, mask in state["masks"].items()}

    # --- what callers may look at ----------------------------------------------

    @property
    def targets(self) -> list[Target]:
        """The weights in hand.

        Raises
        ------
        ConfigError
            Before `prepare`.
        """
        if self._targets is None:
            raise self._unprepared()
        return self._targets

    @property
    def model(self) -> nn.Module:
        """The model whose weights they are.

        Raises
        ------
        ConfigError
            Before `prepare`.
        """
        if self._model is None:
            raise self._unprepared()
        return self._model

    @property
    def supports(self) -> dict[str, Support]:
        """Support of every weight that has one by now, by name."""
        return dict(self._supports)

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Names of weights that were pruned by their norms, since what the method goes by could not be measured."""
        return ()

    @property
    def hardened(self) -> bool:
        """Whether `harden` was called."""
        return self._hardened

    # --- what each method fills in ---------------------------------------------

    def _begin(self) -> None:  # noqa: B027 - most have nothing to set up
        """Set up from the trained weights."""

    @abstractmethod
    def _add_gradient(self) -> None:
        """Add the penalty's gradient in closed form."""

    @abstractmethod
    def _advance(self, probe: Probe | None) -> None:
        """Go on with the schedule, after an optimiser step."""

    def _penalty(self) -> float:
        return 0.0

    def _state(self) -> dict[str, Any]:
        return {}

    def _load(self, state: dict[str, Any]) -> None:  # noqa: B027 - undoes an empty `_state`
        """Undo `_state`."""

    # --- shared machinery --------------------------------------------------------

    def _final(self, target: Target, matrix: torch.Tensor) -> tuple[torch.Tensor, Support]:
        """The projection of a weight, or the weight itself where it lies in a support of the final density."""
        held = self._supports.get(target.name)
        arrived = held is not None and math.isclose(held.density, target.reached)
        if held is not None and arrived and torch.equal(held.apply(matrix), matrix):
            return matrix, held
        return self._projected(target, matrix)

    def _projected(self, target: Target, matrix: torch.Tensor) -> tuple[torch.Tensor, Support]:
        """What a weight becomes in its structure."""
        return target.structure.project(matrix, target.density)

    def _unprepared(self) -> ConfigError:
        return ConfigError(f"{type(self).__name__}.prepare(model, plan) must be called first")

    def _plan(self) -> dict[str, str]:
        """What each weight is held to, in words."""
        return {
            t.name: f"{t.structure} of shape {tuple(t.parameter.shape)} at density {t.density}"
            for t in self.targets
        }

    def _hold(self) -> None:
        for target, support in self._supported():
            target.parameter.copy_(target.restore(support.apply(target.matrix())))
            if target.bias is not None:
                target.silence_(target.bias)

    def _supported(self) -> list[tuple[Target, Support]]:
        return [(t, self._supports[t.name]) for t in self.targets if t.name in self._supports]


def check_finite(target: Target) -> None:
    """Refuse a weight that holds NaN or infinity, by name."""
    if not bool(torch.isfinite(target.parameter.detach()).all()):
        raise WeightError(
            f"{target.name}: a weight must be finite to be pruned, but holds NaN or infinity: "
            "go back to a checkpoint from before training diverged"
        )
