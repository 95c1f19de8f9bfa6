"""Training of a task's network by epochs: SGD or Adam, a pruner, checkpoints.

A run is a pure function of its inputs: batch b of epoch e, and what dropout drops in
it, depend on the seed, e and b alone, so that a run that was interrupted goes on as if
nothing had happened.  Language models have a loop of their own (`retrim.zoo.training`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from retrim.errors import CheckpointError, ConfigError, Interrupted
from retrim.prune import Pruner
from retrim.zoo.task import Task, described
from retrim.zoo.training import load_state, save_state, stop_signals


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How long and how fast to train.

    Parameters
    ----------
    epochs : int
    rate : float
        Peak learning rate.
    optimizer : {"sgd", "adam"}
        SGD with Nesterov's momentum, or AdamW.
    momentum : float
        Of SGD.
    decay : float
        Weight decay; not on biases and normalisation.
    floor : float
        Last learning rate of the cosine decay, over the peak.
    restarts : int
        Epochs between restarts of the learning rate; 0: none.
    warmup : int
        Steps of linear warm-up at the start.
    clip : float or None
        Largest gradient norm.
    precision : {"fp32", "bf16"}
        Arithmetic of forward and backward passes; weights stay float32.
    """

    epochs: int
    rate: float
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    decay: float = 5e-4
    floor: float = 0.01
    restarts: int = 0
    warmup: int = 0
    clip: float | None = None
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        for name, allowed in (("precision", ("fp32", "bf16")), ("optimizer", ("sgd", "adam"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"{name} must be {' or '.join(map(repr, allowed))}, not {getattr(self, name)!r}"
                )
        if self.epochs < 1:
            raise ConfigError(f"epochs must be a whole number >= 1, not {self.epochs}")
        for name in ("rate", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be a number > 0, not {value}")
        for name in ("momentum", "decay", "floor", "restarts", "warmup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a number >= 0, not {getattr(self, name)}")

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of step 0, 1, … with `steps` of them in an epoch."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        period = (self.restarts or self.epochs) * steps
        progress = (step % period) / period
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass
class Curve:
    """Mean loss and seconds of every epoch."""

    loss: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


OnStep = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, loss)."""

Backward = Callable[[Callable[[nn.Module], torch.Tensor]], Sequence[float]]
"""Given the loss of one batch as a function of the model, adds gradients, and gives the losses that it met."""

SAVE_EVERY_SECONDS = 60.0


def fit(
    task: Task,
    model: nn.Module,
    stage: Stage,
    *,
    seed: int,
    pruner: Pruner | None = None,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    stop_after: int | None = None,
    backward: Backward | None = None,
    identity: str = "",
) -> Curve:
    """Train `model` in place; go on from `checkpoint` where it exists.

    Parameters
    ----------
    pruner : Pruner, optional
        Prepared, or hardened for masked retraining.  `harden` is the caller's.
    checkpoint : Path, optional
        Written every minute, on interruption and after the last epoch.
    stop_after : int, optional
        Stop after this many epochs, with the schedule of the whole stage.
    backward : callable, optional
        What is done with the loss of a batch: `retrim.levels.JointTraining.backward` for instance.
        By default its gradient is added.
    identity : str
        What else decides the run: a checkpoint of another one is refused.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM, once the checkpoint is written.
    ConfigError
        If the loss is no longer finite; the last checkpoint is kept.
    CheckpointError
        If the checkpoint is damaged, or another run's, or cannot be written.
    """
    run = _Run(task, model, stage, seed, pruner, backward, identity)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    last = stage.epochs if stop_after is None else min(stop_after, stage.epochs)
    with stop_signals() as stopped, torch.random.fork_rng():
        saved = time.monotonic()
        while run.step < last * task.steps:
            for batch in task.batches(seed, run.epoch, run.step % task.steps):
                loss = run.train(batch)
                if on_step is not None:
                    on_step(run.step, stage.epochs * task.steps, loss)
                if checkpoint is not None and time.monotonic() - saved > SAVE_EVERY_SECONDS:
                    run.save(checkpoint)
                    saved = time.monotonic()
                if stopped.is_set():
                    break
            if stopped.is_set():
                if checkpoint is not None:
                    run.save(checkpoint)
                where = "" if checkpoint is None else "; the same command goes on from there"
                epoch = (run.step - 1) // task.steps + 1
                raise Interrupted(
                    f"training was interrupted in epoch {epoch} of {stage.epochs}, after step {run.step}{where}"
                )
        if checkpoint is not None:
            run.save(checkpoint)
    return run.curve


class _Run:
    """State of one training run."""

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        stage: Stage,
        seed: int,
        pruner: Pruner | None,
        backward: Backward | None = None,
        identity: str = "",
    ) -> None:
        self.task, self.stage, self.seed, self.pruner = task, stage, seed, pruner
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = _optimizer(model, stage)
        self.step = 0
        self.curve = Curve()
        self._losses = 0.0
        self._seconds = 0.0
        self._probe = [] if pruner is None else list(task.probe())
        plan = [] if pruner is None else [(t.name, t.structure.to_dict(), t.density) for t in pruner.targets]
        options = {} if pruner is None else {k: v for k, v in vars(pruner).items() if not k.startswith("_")}
        more = f" {identity}" if identity else ""
        self.identity = (
            f"{described(task)} {asdict(stage)} {seed} {type(pruner).__name__} {options} {plan}{more}"
        )
        self._backward = self._plain if backward is None else backward
        model.train()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.task.steps

    def train(self, batch: Any) -> float:
        """One step; its loss."""
        began = time.monotonic()
        drawn = np.random.SeedSequence([self.seed, self.step]).generate_state(1, np.uint32)
        torch.manual_seed(int(drawn[0]))
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.rate_at(self.step, self.task.steps)
        self.optimizer.zero_grad(set_to_none=True)
        met = self._backward(lambda model: self._loss(batch, model))
        value = sum(met) / len(met)
        clip = self.stage.clip
        size = 0.0 if clip is None else float(nn.utils.clip_grad_norm_(self.model.parameters(), clip))
        if not (math.isfinite(value) and math.isfinite(size)):
            raise ConfigError(
                f"the training loss must stay finite, but is {value:g} (gradient {size:g}) at step {self.step + 1}, "
                f"in epoch {self.epoch + 1}: lower the learning rate or rho; the last checkpoint is kept"
            )
        if self.pruner is not None:
            self.pruner.add_gradient_()
        self.optimizer.step()
        if self.pruner is not None:
            self.pruner.step(self.probe)
        self.step += 1
        self._count(value, time.monotonic() - began)
        return value

    @torch.no_grad()
    def probe(self) -> float:
        """Mean loss over the task's probe, in evaluation mode."""
        self.model.eval()
        losses = [float(self._loss(batch, self.model)) for batch in self._probe]
        self.model.train()
        return sum(losses) / len(losses)

    def save(self, path: Path) -> None:
        """Write everything that `restore` needs."""
        state = {
            "format": 1,
            "identity": self.identity,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pruner": None if self.pruner is None else self.pruner.state_dict(),
            "curve": asdict(self.curve),
            "sums": [self._losses, self._seconds],
        }
        save_state(path, state)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        CheckpointError
            If it is another run's.
        """
        state = load_state(path)
        if state.get("identity") != self.identity:
            raise CheckpointError(
                f"checkpoint {str(path)!r} must belong to this very run, but was written by one with other "
                "settings: remove it to start again"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.pruner is not None:
            self.pruner.load_state_dict(state["pruner"])
        self.step = int(state["step"])
        self.curve = Curve(**state["curve"])
        self._losses, self._seconds = state["sums"]

    def _loss(self, batch: Any, model: nn.Module) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.stage.precision == "bf16"):
            return self.task.loss(model, batch)

    def _plain(self, loss: Callable[[nn.Module], torch.Tensor]) -> list[float]:
        found = loss(self.model)
        found.backward()  # type: ignore[no-untyped-call]
        return [float(found.detach())]

    def _count(self, loss: float, seconds: float) -> None:
        self._losses += loss
        self._seconds += seconds
        if self.step % self.task.steps == 0:
            self.curve.loss.append(self._losses / self.task.steps)
            self.curve.seconds.append(self._seconds)
            self._losses = self._seconds = 0.0


def _optimizer(model: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """The stage's optimiser; weights decay, vectors (biases, normalisation) do not."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": kind, "weight_decay": decay}
        for kind, decay in ((weights, stage.decay), (vectors, 0.0))
        if kind
    ]
    if stage.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=stage.rate, fused=True)  # several times faster
    nesterov = stage.momentum > 0
    return torch.optim.SGD(groups, lr=stage.rate, momentum=stage.momentum, nesterov=nesterov)
