"""`retrim levels`: a pattern set for each operating point of a device."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from retrim.artifact import save
from retrim.cli_console import (
    JsonOption,
    bars,
    console,
    needs_torch,
    placed,
    resumable,
    say,
    write_json,
)
from retrim.errors import ConfigError
from retrim.files import replacing


def levels(
    recipe_path: Annotated[Path, typer.Argument(metavar="RECIPE", help="How levels are made (TOML).")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that the recipe's data lie in.  \\[default: $RETRIM_DATA or data]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints and trials.  \\[default: runs/RECIPE]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Trials at once, one thread each.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Score trials on a Ray cluster: its address, auto, or local.  It must see data and folder under the "
            "same paths."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of training.  \\[default: all cores]")
    ] = None,
    compare: Annotated[
        int, typer.Option(min=0, help="Also run every search method with so many seeds, at equal trials.")
    ] = 0,
    table: Annotated[
        Path | None,
        typer.Option(help="Also write the table of levels, for `retrim simulate`.", callback=placed),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="For recipes that take latencies from a profile; what it lacks is measured into it.  "
            "\\[default: that of this machine]"
        ),
    ] = None,
    artifact: Annotated[
        Path | None,
        typer.Option(help="Also pack the network with its levels into this file.", callback=placed),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32 or bf16, of that file's packs; several times for several.  \\[default: fp32]"
        ),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Search one pattern set for each operating point, and train them jointly.  A second call goes on."""
    with needs_torch("retrim levels"):
        import torch

        from retrim.levels import METHODS
        from retrim.levels.method import check_installed
        from retrim.recipe.level_cycles import calibrated_in
        from retrim.recipe.level_results import compare_methods, packed_levels, run_levels, shown
        from retrim.recipe.level_runners import runner
        from retrim.recipe.leveling import LevelsRun
        from retrim.recipe.levels import read_levels_recipe
        from retrim.recipe.profiles import place_of
        from retrim.recipe.run import use_all_cores
        from retrim.torch.levels import check_precisions
    precisions = tuple(precision or ("fp32",))
    check_precisions(precisions)
    recipe = read_levels_recipe(recipe_path)
    check_installed(METHODS if compare else (recipe.search.method,))
    if threads is None:
        use_all_cores()
    else:
        torch.set_num_threads(threads)
    folder = Path("runs") / recipe_path.stem if out is None else out
    root = Path(os.environ.get("RETRIM_DATA", "data")) if data is None else data
    with resumable(folder), bars() as progress:
        calibrated = calibrated_in(place_of(profile)) if recipe.device.latency == "profile" else None
        run = LevelsRun(recipe, root, folder, seed=seed, progress=progress, calibrated=calibrated)
        run_trials = runner(run, jobs=jobs, ray=ray)
        result = run_levels(run, run_trials=run_trials)
        if json_path is not None:
            write_json(json_path, result)
        if table is not None:
            with replacing(table, "table of levels", ConfigError) as beside:
                beside.write_text(json.dumps(result["levels"], indent=1) + "\n", "utf-8")
        if artifact is not None:
            packed = packed_levels(run, tuple(result["choice"]), result["levels"], precisions)
            size = save(artifact, packed)
        if compare:
            result["methods"] = compare_methods(run, range(compare), run_trials=run_trials)
            if json_path is not None:
                write_json(json_path, result)
    console.print(shown(result))
    space = result["space"]
    say(
        f"{len(result['trials'])} trials of {space['size']:,} choices by {recipe.search.method}; deadline "
        f"{space['deadline_ms']:.2f} ms, modelled on {recipe.device.name}"
    )
    for row in result.get("methods", {}).get("rows", []):
        within = "" if row["low"] is None else f" ({row['low']:+.4f} … {row['high']:+.4f})"
        say(
            f"{row['method']}: best reward {row['mean']:.4f}, minus random {row['minus_random']:+.4f}{within}"
        )
    if table is not None:
        say(
            f"Levels: {table}; `retrim simulate {table} --device {recipe.device.name}` empties a battery with them"
        )
    if artifact is not None:
        say(
            f"{artifact}: {size:,} bytes, levels {', '.join(packed.levels)}; `retrim bench {artifact}` times them"
        )
