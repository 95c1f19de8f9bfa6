"""`retrim glue`: a Hugging Face checkpoint in, a smaller and faster one out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from retrim.cli_console import JsonOption, bars, needs_torch, resumable, say, write_json


def glue(
    task: Annotated[str, typer.Option(help="cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte or wnli.")],
    recipe_path: Annotated[Path, typer.Option("--recipe", help="How to prune it (TOML).")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder of a checkpoint, or its name on the Hugging Face Hub.  \\[default: the recipe's]"
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Weights over kept weights.  \\[default: the recipe's, one after another]"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="GLUE's folder.  \\[default: $RETRIM_DATA/glue if there, else the Hub]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints and results.  \\[default: runs/glue-TASK]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of training.  \\[default: all cores]")
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Fine-tune a checkpoint on a task of GLUE, prune it, retrain, save and pack it.  A second call goes on."""
    with needs_torch("retrim glue"):
        import torch

        from retrim.recipe.glue import read_glue_recipe, run_glue
        from retrim.recipe.run import use_all_cores
        from retrim.zoo.glue.tasks import find_task
    recipe = read_glue_recipe(recipe_path)
    find_task(task)  # before a folder is named after it
    _silence()
    if threads is None:
        use_all_cores()
    else:
        torch.set_num_threads(threads)
    folder = Path("runs") / f"glue-{task}" if out is None else out
    local = Path(os.environ.get("RETRIM_DATA", "data")) / "glue"
    if data is None and local.is_dir():
        data = local
    if data is not None and not (data / find_task(task).folder).exists() and (data / "glue").is_dir():
        data = data / "glue"  # as the folder of a comparison's data has it
    chosen = recipe.rates if rate is None and len(recipe.rates) > 1 else (rate,)
    results = []
    for one in chosen:
        with resumable(folder), bars() as progress:
            results.append(
                run_glue(recipe, task, model, data, folder, rate=one, seed=seed, progress=progress)
            )
        _tell(results[-1], folder if one is None else folder / f"{one:g}x")
    if json_path is not None:
        several = {"kind": "glue rates", "results": results}
        write_json(json_path, results[0] if len(results) == 1 else several)


def _tell(result: dict[str, Any], folder: Path) -> None:
    """Scores, times and sizes of one rate."""
    scores, latency, sizes = result["row"]["score"], result["latency"], result["bytes"]
    last = scores[max(scores, key=int)]["score"]
    say(
        f"{result['task']} at {result['rate']:g}x: {last:.2f} % (dense {result['baseline']['score']:.2f} %, hard "
        f"{scores['0']['score']:.2f} %, packed {result['packed_score']['score']:.2f} %)"
    )
    say(
        f"{latency['ms_dense']:.2f} ms dense in torch, {latency['ms_packed']:.2f} ms packed on one thread; "
        f"{sizes['pruned']:,} bytes pruned, {sizes['packed']:,} packed"
    )
    say(f"{folder / 'pruned'} loads anywhere; {folder / 'packed'} after `import retrim.torch`")


def _silence() -> None:
    """No bars of transformers between ours."""
    try:
        from transformers.utils.logging import disable_progress_bar
    except ModuleNotFoundError:
        return  # said in one sentence later
    disable_progress_bar()  # type: ignore[no-untyped-call]
