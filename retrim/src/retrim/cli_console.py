"""What the commands share: the console, progress bars, files, and errors in words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from retrim.errors import ConfigError, Interrupted, MissingExtraError
from retrim.files import replacing

console = Console()


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write beside, then rename.

    Raises
    ------
    ConfigError
        If the file cannot be written.
    """
    with replacing(path, "result", ConfigError) as beside:
        beside.write_text(json.dumps(result, indent=1, default=str) + "\n", "utf-8")


def make_folder(path: Path) -> None:
    """Make a folder, and see that it can be written to before hours of work go into it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"folder {str(path)!r} must be one that can be written to: {error.strerror or error}; choose another "
            "with --out"
        ) from error


@contextmanager
def needs_torch(command: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError(f"{command} needs torch: pip install 'retrim[torch]'") from None


@contextmanager
def resumable() -> Iterator[None]:
    """Say how to resume, however training was interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command goes on from the last checkpoint") from None


@contextmanager
def counting(what: str) -> Iterator[Any]:
    """A bar for work that is counted, which goes when it is done."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        tasks: list[Any] = []

        def report(done: int, steps: int) -> None:
            if not steps:
                return
            if not tasks:
                tasks.append(shown.add_task("", total=steps))
            shown.update(tasks[0], completed=done, total=steps)

        yield report


@contextmanager
def bars() -> Iterator[Any]:
    """A bar for each stage of training; the stages come as they begin."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as shown:
        tasks: dict[str, Any] = {}

        def report(name: str, step: int, steps: int, loss: float) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(name, total=steps, loss=loss)
            shown.update(tasks[name], completed=step, loss=loss)

        yield report


def say(text: str) -> None:
    """Print a sentence; the terminal, not we, breaks its lines."""
    console.print(text, soft_wrap=True, highlight=False)
