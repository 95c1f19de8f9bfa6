"""How the multipliers of ADMM and SLR went, while they go: tables and TensorBoard.

pruner.watch(csv_log("updates.csv"), tensorboard_log(SummaryWriter("runs/slr")))
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Protocol

from retrim.errors import CheckpointError
from retrim.files import replacing
from retrim.prune.update import Update

Watcher = Callable[[Sequence[Update]], None]
"""Called after every update with all of them so far, those before an interruption included."""


class ScalarWriter(Protocol):
    """What is asked of `torch.utils.tensorboard.SummaryWriter`, and of others like it."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object: ...


def csv_log(path: Path | str) -> Watcher:
    """Keep a table of all updates in a file, a line for each.

    Columns are the fields of `Update`; 0 and 1 say whether a step was accepted.
    Written whole and renamed every time, so that it is never half a file, and
    holds every update once however often the run was interrupted.

    Raises
    ------
    CheckpointError
        At an update, if the file cannot be written.
    """
    path = Path(path)

    def watch(updates: Sequence[Update]) -> None:
        with (
            replacing(path, "table of updates", CheckpointError) as beside,
            beside.open("w", newline="") as to,
        ):
            table = csv.writer(to)
            table.writerow([field.name for field in fields(Update)])
            for update in updates:
                values = asdict(update).values()
                table.writerow([int(value) if isinstance(value, bool) else value for value in values])

    return watch


def tensorboard_log(writer: ScalarWriter, prefix: str = "pruner") -> Watcher:
    """Write the last update's numbers as scalars over the optimiser's steps."""

    def watch(updates: Sequence[Update]) -> None:
        last = asdict(updates[-1])
        step = last.pop("step")
        for name, value in last.items():
            if value is not None:
                writer.add_scalar(f"{prefix}/{name}", float(value), step)

    return watch
