"""`retrim report`: results of several commands as one HTML page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from retrim.cli_console import placed, say
from retrim.errors import ConfigError


def report(
    results: Annotated[
        list[Path],
        typer.Argument(help="JSON files of `retrim experiment`, `retrim glue`, benchmarks/checkpoint.py."),
    ],
    html: Annotated[
        Path, typer.Option(help="The page: one file, without script or network access.", callback=placed)
    ],
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "retrim: comparison",
) -> None:
    """Write results as one HTML page: score against density with intervals, latency, sizes, densities of layers."""
    from retrim.report import write
    from retrim.report.gathered import gather

    write(html, gather([_read(path) for path in results]), title=title)
    say(f"Report: {html}")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{str(path)!r} must be a result that can be read: {error.strerror}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{str(path)!r} must be a JSON file that a command of retrim wrote, but is none")
    return found
