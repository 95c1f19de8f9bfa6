"""`retrim data`: data sets that can be made anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from retrim.cli_console import counting, say
from retrim.errors import MissingExtraError

data = typer.Typer(no_args_is_help=True, help="Make data to train and test on.")

OutOption = Annotated[Path, typer.Option(help="Folder to make; it must be empty or not there.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The same seed makes the same data.")]


@contextmanager
def needs_zoo() -> Iterator[None]:
    """Say what to install where a module is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"retrim data needs {error.name}: pip install 'retrim[zoo]'") from None


@data.command()
def synth_tusimple(
    out: OutOption,
    training: Annotated[int, typer.Option(min=1, help="Images to train on.")] = 600,
    validation: Annotated[int, typer.Option(min=1, help="Images held out.")] = 200,
    seed: SeedOption = 0,
) -> None:
    """Draw road scenes with labelled lanes, in the layout of TuSimple."""
    with needs_zoo():
        from retrim.zoo.synth.tusimple import synthesise
    with counting("drawing scenes") as report:
        synthesise(out, training=training, validation=validation, seed=seed, progress=report)
    say(f"{out}: {training} images to train on, {validation} held out, in the layout of TuSimple")


@data.command()
def synth_kitti(
    out: OutOption,
    training: Annotated[int, typer.Option(min=1, help="Scans to train on.")] = 300,
    validation: Annotated[int, typer.Option(min=1, help="Scans held out.")] = 100,
    seed: SeedOption = 0,
) -> None:
    """Cast the rays of a 64-beam scanner through made streets, in the layout of KITTI."""
    with needs_zoo():
        from retrim.zoo.synth.kitti import synthesise
    with counting("scanning streets") as report:
        synthesise(out, training=training, validation=validation, seed=seed, progress=report)
    say(f"{out}: {training} scans to train on, {validation} held out, in the layout of KITTI")
