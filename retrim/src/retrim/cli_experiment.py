"""`retrim experiment`: reproductions of papers, each from a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from retrim.cli_console import (
    JsonOption,
    PlotOption,
    bars,
    console,
    needs_torch,
    resumable,
    say,
    write_json,
)
from retrim.errors import ConfigError

experiments = typer.Typer(no_args_is_help=True, help="Reproduce a paper's experiment from a recipe.")


@experiments.callback()
def _group() -> None:
    """So that the commands keep their names, however few they are."""


@experiments.command()
def slr(
    recipe_path: Annotated[Path, typer.Argument(metavar="RECIPE", help="A comparison of pruners (TOML).")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that the recipe's data lie in.  \\[default: $RETRIM_DATA or data]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints and rows.  \\[default: runs/RECIPE]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of training.  \\[default: all cores]")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Run branches only whose name holds this (several: any of them), and report what there is."
        ),
    ] = None,
    report_only: Annotated[bool, typer.Option("--report", help="Run nothing: report what there is.")] = False,
    json_path: JsonOption = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Take branches that an earlier result file holds (several allowed)."),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Log updates of the multipliers for TensorBoard to this folder.")
    ] = None,
    plot: PlotOption = None,
) -> None:
    """Compare SLR, ADMM and magnitude pruning at equal budgets.  A second call goes on where the first stopped."""
    with needs_torch("retrim experiment"):
        import torch

        from retrim.recipe.comparing import ComparisonRun
        from retrim.recipe.comparison import read_comparison
        from retrim.recipe.run import use_all_cores
    from retrim.recipe.comparison_report import report, table

    recipe = read_comparison(recipe_path)
    if threads is None:
        use_all_cores()
    else:
        torch.set_num_threads(threads)
    folder = Path("runs") / recipe_path.stem if out is None else out
    root = Path(os.environ.get("RETRIM_DATA", "data")) if data is None else data
    with resumable(folder), bars() as progress:
        run = ComparisonRun(recipe, root, folder, progress, tensorboard=tensorboard)
        for path in earlier or []:
            run.take(path)
        if report_only and not run.is_begun:
            raise ConfigError(
                f"folder {str(folder)!r} must hold what was run, to be reported, but holds nothing of this recipe: leave "
                "--report out, or give results with --from"
            )
        baseline = run.baseline()
        rows: list[dict[str, Any]] = [
            run.row(branch) for branch in run.branches(() if report_only else only or None)
        ]
    result = report(run, baseline, rows)
    if json_path is not None:
        write_json(json_path, result)
    console.print(table(result))
    if plot is not None:
        from retrim.report.comparison import draw

        draw(result, plot)
        say(f"Picture: {plot}")
