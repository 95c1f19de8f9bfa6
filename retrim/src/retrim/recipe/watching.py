"""Logging of a branch's updates while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrim.errors import MissingExtraError
from retrim.prune import Pruner, csv_log, tensorboard_log
from retrim.prune.lagrangian import AugmentedLagrangian


@contextmanager
def watched(pruner: Pruner, table: Path, tensorboard: Path | None) -> Iterator[None]:
    """Write every update of the multipliers to a table, and to a folder for TensorBoard if one is given.

    Raises
    ------
    MissingExtraError
        If TensorBoard is asked for and not installed.
    """
    if not isinstance(pruner, AugmentedLagrangian):
        yield
        return
    table.parent.mkdir(parents=True, exist_ok=True)
    if tensorboard is None:
        pruner.watch(csv_log(table))
        yield
        return
    with _summary_writer(tensorboard) as writer:
        pruner.watch(csv_log(table), tensorboard_log(writer))
        yield


@contextmanager
def _summary_writer(folder: Path) -> Iterator[Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"--tensorboard needs {error.name}: pip install tensorboard") from None
    writer = SummaryWriter(str(folder))
    try:
        yield writer
    finally:
        writer.close()
