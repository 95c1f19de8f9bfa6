"""Training of language models: seeded batches, checkpoints, pruning, distillation.

A run of S steps is a pure function of its inputs: batch s depends on the seed
and s alone, so a run that was interrupted goes on as if nothing had happened.
Under ``torchrun`` every rank takes its part of each batch, and gradients are
averaged before the pruner sees them.
"""

from __future__ import annotations

import hashlib
import io
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional

from retrim.errors import CheckpointError, ConfigError, Interrupted
from retrim.files import replacing
from retrim.prune import Pruner
from retrim.torch.distil import Distillation
from retrim.zoo.batches import Batches
from retrim.zoo.lm import TransformerLM


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Parameters
    ----------
    steps : int
    batch : int
        Sequences in a step, over all ranks.
    context : int
        Tokens in a sequence.
    rate : float
        Peak learning rate of AdamW.
    warmup : int
        Steps of linear warm-up.
    floor : float
        Last learning rate of the cosine decay, over the peak.
    decay : float
        Weight decay.
    clip : float
        Largest gradient norm.
    precision : {"fp32", "bf16"}
        Arithmetic of forward and backward passes.  "bf16" is mixed precision
        (weights, gradients and optimiser stay float32): two to four times
        faster on processors that multiply bfloat16, slower on others.
    """

    steps: int
    batch: int = 8
    context: int = 128
    rate: float = 1e-3
    warmup: int = 20
    floor: float = 0.05
    decay: float = 0.01
    clip: float = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"precision must be 'fp32' or 'bf16', not {self.precision!r}")
        for name in ("steps", "batch", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be a whole number >= 1, not {getattr(self, name)}")
        for name in ("rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a number > 0, not {getattr(self, name)}")
        for name in ("warmup", "decay", "floor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a number >= 0, not {getattr(self, name)}")

    def rate_at(self, step: int) -> float:
        """Learning rate of step 0, 1, …"""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """A prepared pruner and when it hardens.

    Parameters
    ----------
    pruner : Pruner
    harden_at : int
        Steps before the hard projection (0: before the first); masked retraining follows.
    """

    pruner: Pruner
    harden_at: int


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A dense model to learn from, and how."""

    model: TransformerLM
    distillation: Distillation


@dataclass
class History:
    """Curves of a run: one point every few steps."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    penalty: list[float] = field(default_factory=list)
    seconds: float = 0.0
    hardened: list[dict[str, Any]] = field(default_factory=list)


OnStep = Callable[[int, float], None]
POINT_EVERY = 10
SAVE_EVERY_SECONDS = 20.0
PROBE_BATCHES = 8


def train(
    model: TransformerLM,
    ids: np.ndarray,
    schedule: Schedule,
    *,
    seed: int,
    pruning: Pruning | None = None,
    teacher: Teacher | None = None,
    checkpoint: Path | None = None,
    on_step: OnStep | None = None,
    stop_at: int | None = None,
) -> History:
    """Train `model` in place; go on from `checkpoint` where it exists.

    Parameters
    ----------
    ids : ndarray of int, shape (n,)
        Training tokens.
    checkpoint : Path, optional
        Written every 20 s, on interruption and at the end.
    on_step : callable, optional
        Called with (steps done, loss).
    stop_at : int, optional
        Stop early after this many steps, with the schedule of the whole run.

    Raises
    ------
    Interrupted
        After Ctrl-C or SIGTERM, once the checkpoint is written.
    ConfigError
        If the loss is no longer finite; the last checkpoint is kept.
    CheckpointError
        If the checkpoint is damaged, or another run's, or cannot be written.

    Notes
    -----
    Resumed or not, a run gives the same bits on the same machine with the same
    number of torch threads.  Another number sums in another order, and the runs
    drift apart as rounding errors grow; so do one process and several.
    """
    run = _Run(model, ids, schedule, seed, pruning, teacher)
    step = run.restore(checkpoint) if checkpoint is not None and checkpoint.exists() else 0
    run.start_together(step)
    if step == 0:
        run.harden_if_due(0)
    last = schedule.steps if stop_at is None else min(stop_at, schedule.steps)
    saved = began = time.monotonic()
    before = run.history.seconds
    with stop_signals() as stopped:
        while step < last:
            loss = run.step(step)
            step += 1
            if step % POINT_EVERY == 0 or step == last:
                run.note(step, loss)
            run.history.seconds = before + time.monotonic() - began
            if on_step is not None:
                on_step(step, loss)
            stop = run.agree(stopped.is_set())
            if checkpoint is not None and (
                stop or step == last or time.monotonic() - saved > SAVE_EVERY_SECONDS
            ):
                run.save(checkpoint, step)
                saved = time.monotonic()
            if stop:
                where = "" if checkpoint is None else "; the same command goes on from there"
                raise Interrupted(f"training was interrupted after step {step} of {schedule.steps}{where}")
    return run.history


class _Run:
    """State of one training run."""

    def __init__(
        self,
        model: TransformerLM,
        ids: np.ndarray,
        schedule: Schedule,
        seed: int,
        pruning: Pruning | None,
        teacher: Teacher | None,
    ) -> None:
        self.model, self.schedule, self.pruning, self.teacher = model, schedule, pruning, teacher
        self.batches = Batches(ids, schedule.batch, schedule.context, seed)
        self.probed = Batches(ids, min(schedule.batch, 64), schedule.context, seed + 2**32)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=schedule.rate, betas=(0.9, 0.95), weight_decay=schedule.decay, fused=True
        )
        self.history = History()
        data = hashlib.sha256(np.ascontiguousarray(ids).data).hexdigest()
        lesson = teacher and teacher.distillation
        self.identity = (
            f"{asdict(schedule)} {seed} {data} {model.config} {pruning and _describe(pruning)} {lesson}"
        )
        self.rank, self.ranks = 0, 1
        if distributed.is_available() and distributed.is_initialized():
            self.rank, self.ranks = distributed.get_rank(), distributed.get_world_size()
        if schedule.batch % self.ranks:
            raise ConfigError(f"batch must be a multiple of the {self.ranks} ranks, not {schedule.batch}")
        if teacher is not None:
            teacher.model.eval()
        model.train()

    def start_together(self, step: int) -> None:
        """Give every rank the first one's weights and pruner, and make sure that all begin at one step."""
        if self.ranks == 1:
            return
        steps: list[int] = [0] * self.ranks
        distributed.all_gather_object(steps, step)
        if len(set(steps)) > 1:
            raise CheckpointError(
                f"every rank must find the same checkpoint, but they would go on from steps {steps}: put it in a "
                "folder that all machines see"
            )
        for tensor in self.model.state_dict().values():
            distributed.broadcast(tensor, src=0)
        if self.pruning is not None:
            state = [self.pruning.pruner.state_dict()]
            distributed.broadcast_object_list(state, src=0)
            self.pruning.pruner.load_state_dict(state[0])

    def agree(self, stop: bool) -> bool:
        """Whether any rank was asked to stop: all stop at one step, or the others would wait forever."""
        if self.ranks == 1:
            return stop
        asked = torch.tensor(int(stop))
        distributed.all_reduce(asked)
        return bool(asked)

    def step(self, step: int) -> float:
        """Train one step; its loss, over all ranks."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate_at(step)
        inputs, targets = (part[self.rank :: self.ranks] for part in self.batches(step))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.schedule.precision == "bf16"):
            loss = self._loss(inputs, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = self._average(float(loss.detach()))
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.schedule.clip))
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise ConfigError(
                f"the training loss and its gradient must stay finite, but are {value:g} and {norm:g} at step "
                f"{step + 1}: lower the learning rate; the last checkpoint is kept"
            )
        if self.pruning is not None:
            self.pruning.pruner.add_gradient_()
        self.optimizer.step()
        if self.pruning is not None:
            self.pruning.pruner.step(self.probe)
        self.harden_if_due(step + 1)
        return value

    @torch.no_grad()
    def probe(self) -> float:
        """Mean loss over the same few training batches, whatever the step; for pruners that ask."""
        self.model.eval()
        losses = [float(self._loss(*self.probed(step))) for step in range(PROBE_BATCHES)]
        self.model.train()
        return sum(losses) / len(losses)

    def harden_if_due(self, done: int) -> None:
        if self.pruning is not None and done == self.pruning.harden_at:
            self.history.hardened = [asdict(h) for h in self.pruning.pruner.harden()]

    def note(self, step: int, loss: float) -> None:
        self.history.step.append(step)
        self.history.loss.append(loss)
        self.history.penalty.append(0.0 if self.pruning is None else self.pruning.pruner.penalty())

    def save(self, path: Path, step: int) -> None:
        if self.rank:
            return
        state = {
            "format": 1,
            "identity": self.identity,
            "step": step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pruner": None if self.pruning is None else self.pruning.pruner.state_dict(),
            "history": asdict(self.history),
        }
        save_state(path, state)

    def restore(self, path: Path) -> int:
        state = load_state(path)
        if state.get("identity") != self.identity:
            raise CheckpointError(
                f"checkpoint {str(path)!r} must belong to this very run, but was written by one with other "
                "settings: remove it to start again"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.pruning is not None:
            self.pruning.pruner.load_state_dict(state["pruner"])
        self.history = History(**state["history"])
        return int(state["step"])

    def _loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        states: list[torch.Tensor] = []
        logits = self.model(inputs, states)  # by its call: pruners that measure inputs hang on it
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        if self.teacher is None:
            return loss
        with torch.no_grad():
            goal_states: list[torch.Tensor] = []
            goal = self.teacher.model(inputs, goal_states)
        return self.teacher.distillation(loss, logits.float(), goal.float(), states, goal_states)

    def _average(self, loss: float) -> float:
        """Mean over the ranks, of gradients in place and of the loss."""
        if self.ranks == 1:
            return loss
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.ranks
        total = torch.tensor(loss, dtype=torch.float64)
        distributed.all_reduce(total)
        return float(total) / self.ranks


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint beside `path` and rename it.

    Raises
    ------
    CheckpointError
    """
    content = io.BytesIO()  # torch.save hides what the system says about a file that it cannot write
    torch.save(state, content)
    with replacing(path, "checkpoint", CheckpointError) as beside:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} is damaged or no checkpoint: remove it to start again"
        ) from error
    if not isinstance(state, dict) or state.get("format") != 1:
        raise CheckpointError(f"checkpoint {str(path)!r} is of another format: remove it to start again")
    return state


def _describe(pruning: Pruning) -> str:
    pruner = pruning.pruner
    settings = {k: v for k, v in vars(pruner).items() if not k.startswith("_")}
    weights = [(t.name, t.structure.to_dict(), t.density) for t in pruner.targets]
    return f"{type(pruner).__name__} {settings} {pruning.harden_at} {weights}"


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event that the loop looks at between steps."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(signum: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    kept = {sig: signal.signal(sig, handle) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for sig, handler in kept.items():
            signal.signal(sig, handler)
