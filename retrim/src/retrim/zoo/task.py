"""What the zoo's networks have in common: a network, what it learns from, and how it is scored.

Experiments and the training loop (`retrim.zoo.fit`) know a network by this
alone, so that a pruner is compared in the same way on classifiers, detectors
and lanes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn

from retrim.errors import ConfigError

K = TypeVar("K")
V = TypeVar("V")


class Task(ABC):
    """A network and its data.

    A batch is whatever `batches` gives and `loss` takes.  Everything is a pure
    function of its arguments: the same seed and epoch give the same batches,
    augmented in the same way.
    """

    metric: ClassVar[str]
    """The entry of `score` that methods are compared by, in percent; more is better."""

    @abstractmethod
    def build(self, seed: int) -> nn.Module:
        """The dense network with the weights it starts from: those on file, or random ones of `seed`."""

    def taught(self, teacher: nn.Module) -> Task:
        """The same task, its loss mixed with what the dense network says; by default it is as it was."""
        return self

    @property
    @abstractmethod
    def steps(self) -> int:
        """Batches in an epoch."""

    @abstractmethod
    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[Any]:
        """Training batches `start`, `start` + 1, … of one epoch, shuffled and augmented."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Mean loss over a batch, a scalar; the caller chooses the model's mode."""

    @abstractmethod
    def probe(self) -> Sequence[Any]:
        """At most 512 training samples as batches, always the same, not augmented."""

    @abstractmethod
    def score(self, model: nn.Module) -> dict[str, float]:
        """Metrics of the network on the data held out; in evaluation mode, which is undone."""


PLACED = {"placed": True}
"""Metadata of a text field of a task that may be the path of a folder."""


def described(task: Task) -> str:
    """What decides a task's training, in words: its fields, of files and folders their names, wherever they lie."""
    if not hasattr(task, "__dataclass_fields__"):
        return repr(task)
    its: Any = task
    shown = [f"{one.name}={_said(one, getattr(task, one.name))}" for one in fields(its) if one.repr]
    return f"{type(task).__qualname__}({', '.join(shown)})"


def _said(one: Field[Any], value: Any) -> str:
    if isinstance(value, Task):
        return described(value)
    if isinstance(value, Path) or (value is not None and one.metadata == PLACED):
        return repr(Path(value).name)
    return repr(value)


class Last(Generic[K, V]):
    """The last value that was computed, for the object it was computed of."""

    def __init__(self) -> None:
        self._kept: tuple[K, V] | None = None

    def of(self, key: K, compute: Callable[[], V]) -> V:
        """`compute()`, or what it gave when it was last called for this same object."""
        if self._kept is None or self._kept[0] is not key:
            self._kept = (key, compute())
        return self._kept[1]


@dataclass(frozen=True)
class FewSteps(Task):
    """Another task with epochs of so many steps: the first batches of each.

    Parameters
    ----------
    task : Task
    most : int
        Steps of an epoch, at most those of the task.
    """

    task: Task
    most: int

    @property
    def metric(self) -> str:  # type: ignore[override]
        """The task's."""
        return self.task.metric

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ConfigError(f"an epoch must have at least one step, not {self.most}")

    def build(self, seed: int) -> nn.Module:
        return self.task.build(seed)

    def taught(self, teacher: nn.Module) -> Task:
        return FewSteps(self.task.taught(teacher), self.most)

    @property
    def steps(self) -> int:
        return min(self.most, self.task.steps)

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[Any]:
        return islice(self.task.batches(seed, epoch, start), max(0, self.steps - start))

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return self.task.loss(model, batch)

    def probe(self) -> Sequence[Any]:
        return self.task.probe()

    def score(self, model: nn.Module) -> dict[str, float]:
        return self.task.score(model)
