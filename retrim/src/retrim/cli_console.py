"""What the commands share: the console, progress bars, files, and errors in words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from retrim.errors import ConfigError, Interrupted, MissingExtraError, RetrimError
from retrim.files import replacing


def _console() -> Console:
    """As wide as the terminal; wide in files and pipes, where tables would be cut to 80 columns.

    Names and paths come from users: brackets and colons in them are printed as they are.
    """
    found = Console(markup=False, emoji=False)
    if found.is_terminal or "COLUMNS" in os.environ:
        return found
    return Console(width=160, markup=False, emoji=False)


console = _console()

_PICTURES = (".png", ".svg", ".pdf")


def placed(path: Path | None) -> Path | None:
    """A file that can be written, told before hours of work end in it."""
    if path is None:
        return None
    if path.is_dir():
        raise ConfigError(f"{str(path)!r} must be a file to write to, but is a folder: name a file in it")
    if not path.parent.is_dir():
        raise ConfigError(
            f"file {str(path)!r} must lie in a folder that is there, but {str(path.parent)!r} is none: make it first"
        )
    return path


def _drawn(path: Path | None) -> Path | None:
    """A picture that can be drawn."""
    if path is not None and path.suffix.lower() not in _PICTURES:
        raise ConfigError(
            f"a picture must end in {', '.join(_PICTURES[:-1])} or {_PICTURES[-1]}, not {path.suffix or 'nothing'}"
        )
    return placed(path)


JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Also write the numbers to this file.", callback=placed)
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Also write a page with pictures.", callback=placed)
]
PlotOption = Annotated[Path | None, typer.Option(help="Also draw them (PNG, SVG or PDF).", callback=_drawn)]


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
def resumable(folder: Path) -> Iterator[None]:
    """Work that leaves checkpoints in a folder: made first, gone again if nothing came of it; an interruption says how to resume."""
    was_there = folder.exists()
    make_folder(folder)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command goes on from the last checkpoint") from None
    except RetrimError:
        if not was_there:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


@contextmanager
def counting(what: str) -> Iterator[Any]:
    """A bar for work that is counted, which goes when it is done."""
    columns = (TextColumn(what, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
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
        TextColumn("{task.description}", markup=False),
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
