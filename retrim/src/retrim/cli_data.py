"""`retrim data`: data sets that can be made anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrim.cli_console import counting, say
from retrim.errors import MissingExtraError

data = typer.Typer(no_args_is_help=True, help="Make data to train and test on.")

OutOption = Annotated[Path, typer.Option(help="Folder to make; it must be empty or not there.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The same seed makes the same data.")]


@data.callback()
def _group() -> None:
    """So that the commands keep their names, however few they are."""


@data.command()
def synth_tusimple(
    out: OutOption,
    training: Annotated[int, typer.Option(min=1, help="Images to train on.")] = 600,
    validation: Annotated[int, typer.Option(min=1, help="Images held out.")] = 200,
    seed: SeedOption = 0,
) -> None:
    """Draw road scenes with labelled lanes, in the layout of TuSimple."""
    try:
        from retrim.zoo.synth.tusimple import synthesise
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"retrim data needs {error.name}: pip install 'retrim[zoo]'") from None
    with counting("drawing scenes") as report:
        synthesise(out, training=training, validation=validation, seed=seed, progress=report)
    say(f"{out}: {training} images to train on, {validation} held out, in the layout of TuSimple")
