"""The command line.  Works without torch wherever a command does not train or run a torch model.

An error that retrim raises on purpose becomes one line on stderr and exit status 2,
an interruption one line and 130; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from retrim import __version__
from retrim.cli_console import (
    HtmlOption,
    JsonOption,
    bars,
    console,
    counting,
    needs_torch,
    resumable,
    say,
    write_json,
)
from retrim.cli_data import data
from retrim.cli_device import devices
from retrim.cli_experiment import experiments
from retrim.cli_glue import glue
from retrim.cli_levels import levels
from retrim.cli_report import report
from retrim.cli_simulate import govern, simulate
from retrim.cli_tables import expectations, layers, results, weights
from retrim.errors import Interrupted, MissingExtraError, RetrimError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compress neural networks into forms that hardware exploits, and run them faster.",
)
CALIBRATION_SECONDS = 20.0

ThreadsOption = Annotated[int, typer.Option(help="Threads of the timed runs.")]
CorpusOption = Annotated[
    Path | None,
    typer.Option(help="A text file, or a folder of them.  \\[default: Python's standard library]"),
]
ProfileOption = Annotated[
    Path | None, typer.Option("--profile", help="The profile's file.  \\[default: that of this machine]")
]
ArtifactArgument = Annotated[Path, typer.Argument(metavar="ARTIFACT", help="A packed model (.safetensors).")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        say(f"retrim {__version__}")
        raise typer.Exit


app.add_typer(experiments, name="experiment")
app.add_typer(data, name="data")
app.command()(glue)
app.add_typer(devices, name="device")
app.command()(simulate)
app.command()(govern)
app.command()(report)
app.command()(levels)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, artifacts and the report.")] = Path(
        "retrim-demo"
    ),
    corpus: CorpusOption = None,
    threads: ThreadsOption = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    json_path: JsonOption = None,
) -> None:
    """Train a Transformer, prune it four ways, pack it, and compare accuracy and speed with dense."""
    with needs_torch("retrim demo"):
        from retrim import demo as job
    from retrim.report import write

    json_path = out / "demo.json" if json_path is None else json_path
    with resumable(out), bars() as progress:
        result = job.run(out, corpus=corpus, seed=seed, threads=threads, progress=progress, say=say)
    write_json(json_path, result)
    write(out / "report.html", result)
    _show_results(result, threads)
    _show_levels(result["levels"], out / "battery.png")
    say(f"Report: {out / 'report.html'}.  Numbers: {json_path}.")


@app.command()
def prune(
    recipe_path: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (TOML).")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run.  \\[default: runs/RECIPE]")] = None,
    json_path: JsonOption = None,
) -> None:
    """Train the dense model of a recipe, prune it, retrain it.  A second call goes on where the first stopped."""
    with needs_torch("retrim prune"):
        from retrim.recipe import job
        from retrim.recipe.schema import read
    recipe = read(recipe_path)
    folder = Path("runs") / recipe_path.stem if out is None else out
    with resumable(folder), bars() as progress:
        result = job.prune(recipe, folder, progress)
    if json_path is not None:
        write_json(json_path, result)
    console.print(weights(result["weights"]))
    say(
        f"Next-token accuracy {result['accuracy']:.2%} (dense {result['dense_accuracy']:.2%}), perplexity "
        f"{result['perplexity']:.2f}.  Pack it: retrim pack {folder}"
    )


@app.command()
def pack(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder of a finished `retrim prune`, or a pruned checkpoint."),
    ],
    artifact: Annotated[
        Path | None,
        typer.Argument(
            metavar="ARTIFACT",
            help="File, or for a checkpoint folder.  \\[default: RUN/model.safetensors, or RUN-packed]",
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="fp32, bf16, int8, or several: each weight is packed in all, the first runs.  auto: for each "
            "weight the fastest here.  \\[default: fp32]"
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens that the model will be run with.")] = 128,
    threads: Annotated[int, typer.Option(help="Threads that it will be run on.")] = 1,
    profile: ProfileOption = None,
    calibrate: Annotated[
        bool, typer.Option(help="Measure, for 20 s at most, what the profile does not have.")
    ] = True,
    json_path: JsonOption = None,
) -> None:
    """Rewrite a pruned model into the layout that the kernels read: one .safetensors file.

    Says which kernels will run each layer and what speed-up to expect, and where a structure does not pay.
    """
    with needs_torch("retrim pack"):
        from retrim.recipe import job
    from retrim.recipe.wishes import Wishes

    checkpoint = (run / "retrim.json").is_file()
    default = run.with_name(f"{run.name}-packed") if checkpoint else run / "model.safetensors"
    target = default if artifact is None else artifact
    wishes = Wishes(
        precisions=tuple(name for names in precision or ["fp32"] for name in names.split(",")),
        tokens=tokens,
        threads=threads,
        profile=profile,
        seconds=CALIBRATION_SECONDS if calibrate else 0.0,
    )
    with counting("measuring kernels") as report:
        result = (job.pack_checkpoint if checkpoint else job.pack)(run, target, wishes, report)
    if json_path is not None:
        write_json(json_path, result)
    _show_expectations(result["layers"], result["advice"], result["speedup"], tokens, threads)
    say(
        f"{target}: {result['bytes']:,} bytes, {result['parameters']:,} parameters, density {result['density']:.3f}"
    )
    if checkpoint:
        say(f"AutoModel….from_pretrained({str(target)!r}) after `import retrim.torch` loads it")


@app.command("profile")
def profile_(
    artifact: Annotated[
        Path | None, typer.Argument(metavar="[ARTIFACT]", help="A packed model whose layers are asked for.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure first: the artifact's layers, or common ones.")
    ] = False,
    tokens: Annotated[
        list[int] | None, typer.Option(min=1, help="May be given several times.  \\[default: 128 1 8]")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads that layers run on.")] = 1,
    seconds: Annotated[float, typer.Option(min=0, help="About how long to measure at most.")] = 60.0,
    profile: ProfileOption = None,
    json_path: JsonOption = None,
) -> None:
    """Show what was measured on this machine, or measure it: how fast kernels are, and which run where."""
    from retrim.recipe import profiles

    counts = tuple(tokens or profiles.TOKENS)
    if calibrate:
        with counting("measuring kernels") as report:
            profiles.calibrate(artifact, counts, threads, seconds=seconds, path=profile, measuring=report)
    result = profiles.show(artifact, counts, threads, path=profile)
    if json_path is not None:
        write_json(json_path, result)
    if artifact is None:
        console.print(expectations(result["layers"]))
    else:
        _show_expectations(result["layers"], result["advice"], result["speedup"], counts[0], threads)
    machine = result["machine"]
    say(
        f"{result['path']}: {len(result['entries'])} times on {machine['processor']}, kernels {machine['kernels']}"
    )


@app.command()
def inspect(
    artifact: ArtifactArgument,
    json_path: JsonOption = None,
) -> None:
    """Show what an artifact holds, after checking all of it."""
    from retrim.artifact import load

    artifact = artifact / "model.safetensors" if artifact.is_dir() else artifact
    found = load(artifact)
    entries = found.layers()
    if json_path is not None:
        write_json(
            json_path,
            {
                "architecture": found.architecture,
                "config": dict(found.config),
                "parameters": found.parameters,
                "density": found.density,
                "bytes": artifact.stat().st_size,
                "layers": entries,
                "levels": {name: dict(level.facts) for name, level in found.levels.items()},
                "metrics": dict(found.metrics),
                "provenance": dict(found.provenance),
            },
        )
    say(
        f"{found.architecture}: {found.parameters:,} parameters, {artifact.stat().st_size:,} bytes, "
        f"{len(found.weights)} packed and {len(found.tensors)} dense tensors"
    )
    if entries:
        console.print(layers(entries))
    for name, level in found.levels.items():
        say(f"level {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in level.facts.items()))
    for key, value in found.metrics.items():
        say(f"{key}: {value}")


@app.command("eval")
def eval_(
    artifact: ArtifactArgument,
    corpus: CorpusOption = None,
    level: Annotated[str | None, typer.Option(help="Of a model with levels.  \\[default: its first]")] = None,
    json_path: JsonOption = None,
) -> None:
    """Score a packed language model on held-out text: perplexity and next-token accuracy."""
    with needs_torch("retrim eval"):
        from retrim.recipe import job
    result = job.evaluate(artifact, corpus, level)
    if json_path is not None:
        write_json(json_path, result)
    say(
        f"perplexity {result['perplexity']:.3f}, next-token accuracy {result['accuracy']:.2%} on "
        f"{result['tokens']:,} held-out tokens of {result['corpus']}"
    )
    if result["same_corpus"] is False:
        say(
            f"The model was trained on other text, {result['trained_on']}: name it by --corpus to score on that."
        )


@app.command()
def bench(
    artifact: ArtifactArgument,
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of the timed input.  \\[default: 128, or the model's context]"),
    ] = None,
    threads: ThreadsOption = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="About how long to measure.")] = 10.0,
    precision: Annotated[
        str | None, typer.Option(help="Of the packs that run.  \\[default: the first of each weight]")
    ] = None,
    profile: ProfileOption = None,
    json_path: JsonOption = None,
    html: HtmlOption = None,
) -> None:
    """Time a packed model against its dense twin in PyTorch, interleaved."""
    with needs_torch("retrim bench"):
        from retrim.recipe import job
    from retrim.report import write
    from retrim.runtime import profile_file, tuning

    if profile is not None:
        tuning.use(profile_file.read_here(profile))
    result = job.bench(artifact, tokens=tokens, threads=threads, seconds=seconds, precision=precision)
    if json_path is not None:
        write_json(json_path, result)
    if html is not None:
        write(html, result)
    _show_results(result, threads)
    _show_expectations(result["kernels"], [], result["expected"], result["settings"]["tokens"], threads)
    for mode, times in result.get("switches", {}).items():
        say(
            f"A switch of levels, {mode}: {times['median_ms']:.3f} ms (median; {times['largest_ms']:.3f} at most)"
        )


def main() -> None:
    """Entry point: errors of ours in one line, exit status 2."""
    try:
        app(standalone_mode=True)
    except Interrupted as error:
        _fail(str(error), 130)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except RetrimError as error:
        _fail(str(error), 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(sentence: str, status: int) -> None:
    print("retrim: " + " ".join(sentence.split()), file=sys.stderr)  # noqa: T201 - the command line speaks
    sys.exit(status)


def _show_results(result: Mapping[str, Any], threads: int) -> None:
    host = result["host"]
    console.print()
    console.print(results(result["rows"]))
    console.print()
    say(f"{host['cpu']}, {host['isa_selected']} kernels, {result['seconds']:.0f} s in all.")
    say(_speed_words(result["rows"], threads))


def _show_levels(result: Mapping[str, Any], picture: Path) -> None:
    """The table of levels, what they are worth on a battery, and the picture where matplotlib is there."""
    from retrim.demo_levels import tell
    from retrim.recipe.level_results import shown
    from retrim.report.discharge import draw

    console.print(shown(result))
    tell(result, say)
    try:
        draw(result["battery"], picture)
    except MissingExtraError:
        return
    say(f"Battery and level against time: {picture}")


def _show_expectations(
    rows: list[dict[str, Any]], advice: list[str], speedup: float | None, tokens: int, threads: int
) -> None:
    """Which kernels run, what to expect of them, and what would be better."""
    if not rows:
        return
    console.print(expectations(rows))
    if speedup is not None:
        say(
            f"Expected of the packed layers together: {speedup:.2f}× over the best dense layers, {tokens} tokens, "
            f"{_threads(threads)}."
        )
    elif any(row["choice"] is None for row in rows):
        say(
            "The profile of this machine does not know all of these layers: `retrim profile --calibrate ARTIFACT` "
            "measures them."
        )
    for words in advice:
        say(f"note: {words}")


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _speed_words(rows: list[dict[str, Any]], threads: int) -> str:
    """What the speeds in the table are, and what they could be at most."""
    timed = [row for row in rows if row.get("amdahl") is not None]
    bounds = ", ".join(f"{row['amdahl']:.0%} at density {row['density']:.2f}" for row in timed)
    plain = all(row.get("precision", "fp32") == "fp32" for row in timed)
    what = "packed over PyTorch dense, fp32" if plain else "packed over PyTorch dense in fp32"
    return (
        f"Speed-ups (whole model, pruned layers): {what}, {_threads(threads)}, interleaved, medians.  Of what "
        f"Amdahl's law allows, the whole model reaches {bounds}."
    )


if __name__ == "__main__":
    main()
