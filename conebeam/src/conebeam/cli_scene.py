"""Commands on scenes and results: run, compare, plot, merge.

An error of ours becomes one line on stderr and exit status 2; an interrupted run
exits with 130 and says how to go on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from conebeam.batches import parse_range
from conebeam.cli_tables import as_json, differences, output, summary, verdict
from conebeam.compare import (
    Curve,
    compare_curves,
    curve_of,
    parse_base,
    parse_normalisation,
    read_curve,
)
from conebeam.errors import ConebeamError, ConfigError, ResultError
from conebeam.job import Job, Runner, Target, uncertainty
from conebeam.provenance import provenance
from conebeam.result import Quantity, Result, merge
from conebeam.result_file import check_picture, check_places, load, save, write_curve, write_text
from conebeam.scene import Scene
from conebeam.sources.tube_beam import is_tube

_SceneArgument = Annotated[Path, typer.Argument(help="Scene file, TOML.")]
_ResultArgument = Annotated[Path, typer.Argument(help="Result file, HDF5.")]
_SILENT_SECONDS = 5.0
_COMPILING = "conebeam: kernels are compiled and tables built, once on this machine: up to a few minutes"
_Json = Annotated[Path | None, typer.Option("--json", help="Also write the figures as JSON.")]


class SceneRunner(Runner, Protocol):
    """A runner that says which versions decide its numbers."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Names and versions of data tables and kernels."""
        ...


Prepare = Callable[[Scene, int], SceneRunner]


def register(app: typer.Typer, prepare: Prepare) -> None:
    """Add the commands to an application.

    Parameters
    ----------
    app : typer.Typer
    prepare : callable
        Makes a runner of a checked scene and a number of threads (0: all cores).
    """
    app.command("run")(_run_command(prepare))
    app.command("compare")(compare)
    app.command("plot")(plot)
    app.command("merge")(merge_files)


def _run_command(prepare: Prepare) -> Callable[..., None]:
    def run(
        scene: _SceneArgument,
        out: Annotated[Path | None, typer.Option(help="Result; SCENE.h5 if left out.")] = None,
        batches: Annotated[str | None, typer.Option(help="Only batches A:B, for a later merge.")] = None,
        histories: Annotated[int | None, typer.Option(help="Instead of the scene's.")] = None,
        uncertainty: Annotated[
            str | None, typer.Option(help="Stop at this relative sigma, e.g. 0.5%.")
        ] = None,
        region: Annotated[str | None, typer.Option(help="Where --uncertainty is asked for.")] = None,
        seed: Annotated[int | None, typer.Option(help="Instead of the scene's.")] = None,
        threads: Annotated[int, typer.Option(help="Threads; 0 for all cores.", min=0)] = 0,
        json_path: _Json = None,
    ) -> None:
        """Run a scene; an unfinished result file is taken up where it was left."""
        with reported():
            changes = _overridden(Scene.load(scene), histories, seed, uncertainty, region)
            span = None if batches is None else parse_range(batches)
            path = out or _default_path(scene, span)
            check_places(path, json_path)
            with preparing():
                runner = prepare(changes, threads)
            _run(_job(changes, runner, span, path), path, json_path)

    return run


def _job(scene: Scene, runner: SceneRunner, span: tuple[int, int] | None, path: Path) -> Job:
    target = scene.target
    if span is not None and target is not None:
        raise ConfigError("a target uncertainty must stand alone, not beside batches A:B; leave one out")
    return Job(
        runner=runner,
        provenance=provenance(
            scene=scene.to_toml(), seed=scene.seed, versions={**runner.versions, **scene.digests()}
        ),
        plan=scene.plan(),
        batches=span,
        target=None if target is None else Target(uncertainty=target.uncertainty, region=target.region),
        path=path,
    )


def _run(job: Job, path: Path, json_path: Path | None) -> None:
    started = time.perf_counter()
    result = run_shown(job)
    seconds = time.perf_counter() - started
    console = output()
    console.print(summary(result))
    console.print(
        f"{result.histories:,} histories in {len(result.done)} of {result.plan.batches} "
        f"batches, {result.cpu_seconds:.1f} CPU s in all, {seconds:.1f} s now: {path}",
        soft_wrap=True,
    )
    if json_path is not None:
        write_text(json.dumps(as_json(result, seconds), indent=1) + "\n", json_path)


def compare(
    result: _ResultArgument,
    reference: Annotated[Path, typer.Argument(help="Curve as CSV, or another result (.h5).")],
    curve: Annotated[str | None, typer.Option(help="Which of the result's curves.")] = None,
    position: Annotated[str | None, typer.Option(help="Column of positions.")] = None,
    value: Annotated[str | None, typer.Option(help="Column of values.")] = None,
    sigma: Annotated[str | None, typer.Option(help="Column of uncertainties.")] = None,
    where: Annotated[str | None, typer.Option(help="Only rows with COLUMN=NUMBER.")] = None,
    normalise: Annotated[str, typer.Option(help="absolute, max or at:CM.")] = "absolute",
    relative_to: Annotated[str, typer.Option(help="local, max or at:CM.")] = "local",
    tolerance: Annotated[str, typer.Option(help="What counts as small.")] = "2%",
    picture: Annotated[Path | None, typer.Option(help="Also draw both (.png, .pdf, .svg).")] = None,
    json_path: _Json = None,
) -> None:
    """Percent differences with both uncertainties, and the share within tolerance."""
    with reported():
        check_picture(picture)
        check_places(picture, json_path)
        found = load(result)
        quantity = _chosen(found, curve)
        theirs = _reference(
            reference, quantity, curve, position, value, sigma, where, normalise == "absolute"
        )
        comparison = compare_curves(
            curve_of(quantity),
            theirs,
            tolerance=_fraction(tolerance, "the tolerance"),
            normalisation=parse_normalisation(normalise),
            base=parse_base(relative_to),
        )
        console = output()
        console.print(differences(quantity, comparison))
        console.print(verdict(comparison), soft_wrap=True)
        if picture is not None:
            from conebeam.plot import curve_figure, save_figure

            title = f"{quantity.name} against {reference.name}"
            figure = curve_figure([quantity], reference=theirs, comparison=comparison, title=title)
            save_figure(figure, picture)
        if json_path is not None:
            content = {
                "result": str(result),
                "reference": str(reference),
                "curve": quantity.name,
                "unit": quantity.unit,
                "per": quantity.per,
                **comparison.as_dict(),
            }
            write_text(json.dumps(content, indent=1) + "\n", json_path)


def plot(
    result: _ResultArgument,
    out: Annotated[Path | None, typer.Option(help="Picture; RESULT.png if left out.")] = None,
    curve: Annotated[list[str] | None, typer.Option(help="Only these curves.")] = None,
    plane: Annotated[str | None, typer.Option(help="A plane of the grid, e.g. y=0.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Folder for all curves as CSV.")] = None,
) -> None:
    """Depth dose, profiles and dose in a plane with isodose lines."""
    with reported():
        from conebeam.plot import curve_figure, overview_figure, plane_figure, save_figure

        found = load(result)
        title = _title(found)
        if curve and plane:
            raise ConfigError("a picture must show curves or a plane, not both; leave one out")
        whole = is_tube(found) and not curve and not plane
        if curve:
            figure = curve_figure([_chosen(found, name) for name in curve], title=title)
        elif plane:
            normal, at = _plane(plane)
            grids = [q for q in found.quantities() if len(q.axes) == 3]
            if not grids:
                raise ConfigError(f"'{result}' must hold a grid to show a plane, and holds none")
            figure = plane_figure(grids[0], normal=normal, at_cm=at, title=title)
        elif whole:
            from conebeam.tube.plot import tube_figure
            from conebeam.tube.result import TubeResult

            figure = tube_figure(TubeResult.of(found))
        else:
            figure = overview_figure(found, title=title)
        path = out or result.with_suffix(".png")
        save_figure(figure, path)
        typer.echo(str(path))
        if csv is not None:
            csv.mkdir(parents=True, exist_ok=True)
            taken: set[str] = set()
            for quantity in found.quantities():
                if len(quantity.axes) == 1:
                    name = _free(quantity.name.replace(" ", "_"), taken)
                    write_curve(quantity, csv / f"{name}.csv")
                    typer.echo(str(csv / f"{name}.csv"))


def merge_files(
    parts: Annotated[list[Path], typer.Argument(help="Result files of one run.")],
    out: Annotated[Path, typer.Option(help="Merged result file.")],
) -> None:
    """Put parts with disjoint batches together: the bits of one run."""
    with reported():
        merged = merge([load(part) for part in parts])
        _check_replaceable(out, merged)
        save(merged, out)
        typer.echo(
            f"{len(merged.done)} of {merged.plan.batches} batches ({merged.done}), "
            f"{merged.histories:,} histories: {out}"
        )


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option of the command was given, be it with its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors of ours into one line on stderr and exit status 2."""
    try:
        yield
    except ConebeamError as error:
        typer.echo(f"conebeam: {error}", err=True)
        raise typer.Exit(2) from None


def _overridden(
    scene: Scene,
    histories: int | None,
    seed: int | None,
    uncertainty: str | None,
    region: str | None,
) -> Scene:
    if (uncertainty is None) != (region is None):
        raise ConfigError("--uncertainty and --region must be given together, not one alone")
    changes: dict[str, Any] = {}
    if histories is not None:
        changes["histories"] = histories
    if seed is not None:
        changes["seed"] = seed
    if uncertainty is not None:
        changes["target"] = {"uncertainty": uncertainty, "region": region}
    return scene.changed(**changes) if changes else scene


def _default_path(scene: Path, span: tuple[int, int] | None) -> Path:
    if span is None:
        return Path(scene.stem + ".h5")
    return Path(f"{scene.stem}.{span[0]}-{span[1]}.h5")


@contextmanager
def preparing() -> Iterator[Callable[[float], None]]:
    """A bar on stderr while kernels are compiled and tables built, which may tell their share; without a terminal a
    line, where that takes long.
    """
    note = Timer(_SILENT_SECONDS, typer.echo, [_COMPILING], {"err": True})
    note.daemon = True
    if not sys.stderr.isatty():
        note.start()
    try:
        with _bar(TextColumn("kernels and tables"), BarColumn(), TimeElapsedColumn()) as bar:
            task = bar.add_task("", total=None)
            yield lambda share: bar.update(task, total=1.0, completed=share)
    finally:
        note.cancel()


def _bar(*columns: ProgressColumn) -> Progress:
    """On stderr, gone when it is done; nothing where that is no terminal."""
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def run_shown(job: Job) -> Result:
    """Run a job with a progress bar on stderr; Ctrl-C exits with 130 and says how to go on."""
    first, stop = job.batches or (0, job.plan.batches)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} batches {task.fields[note]}"),
        TimeElapsedColumn(),
    )
    try:
        with _bar(*columns) as bar:
            task = bar.add_task("histories", total=stop - first, note="")

            def show(result: Result) -> None:
                done = sum(1 for b in result.done if first <= b < stop)
                bar.update(task, completed=done, note=_note(job, result))

            result = job.run(show)
    except KeyboardInterrupt:
        if job.path is None:
            note = "nothing is kept; --out FILE keeps what is done"
        else:
            kept = len(load(job.path).done) if job.path.exists() else 0
            note = (
                f"{kept} of {job.plan.batches} batches are kept in {job.path}, "
                "the same command goes on from there"
            )
        typer.echo(f"conebeam: interrupted; {note}", err=True)
        raise typer.Exit(130) from None
    if job.target is not None and not job.target.reached(result):
        typer.echo(f"conebeam: {_missed(job.target, result)}", err=True)
    return result


def _missed(target: Target, result: Result) -> str:
    sigma = uncertainty(result, target.region)
    reached = "is not known" if sigma is None else f"is {sigma:.2%}"
    return (
        f"sigma of '{target.region}' {reached} after all {result.histories:,} histories, not {target.uncertainty:.2%} as "
        "asked; give more histories"
    )


def _check_replaceable(path: Path, merged: Result) -> None:
    """Refuse to write over a result that would be lost: of another run, or of batches that are not in this one."""
    if not path.exists():
        return
    there = load(path)
    try:
        merge((Result(provenance=merged.provenance, plan=merged.plan, scored=merged.scored), there))
        lost = any(batch not in merged.done for batch in there.done)
    except ResultError:
        lost = True
    if lost:
        raise ResultError(f"'{path}' must not be overwritten: it holds another result; choose another --out")


def _note(job: Job, result: Result) -> str:
    if job.target is None:
        return ""
    reached = uncertainty(result, job.target.region)
    return "" if reached is None else f"sigma {reached:.2%} of {job.target.uncertainty:.2%}"


def _chosen(result: Result, name: str | None) -> Quantity:
    if name is not None:
        return result[name]
    curves = [q for q in result.quantities() if len(q.axes) == 1 and q.axes[0].edges is not None]
    if len(curves) != 1:
        names = ", ".join(f"'{q.name}'" for q in curves) or "none"
        raise ConfigError(f"--curve must name one of the result's curves: {names}")
    return curves[0]


def _reference(
    path: Path,
    ours: Quantity,
    curve: str | None,
    position: str | None,
    value: str | None,
    sigma: str | None,
    where: str | None,
    absolute: bool,
) -> Curve:
    if path.suffix.lower() in (".h5", ".hdf5"):
        theirs = _chosen(load(path), curve)
        found = curve_of(theirs)
        _check_alike(ours, theirs, absolute)
        return found
    selection = None
    if where is not None:
        column, equals, number = where.partition("=")
        if not equals:
            raise ConfigError(f"--where must read COLUMN=NUMBER, not '{where}'")
        selection = (column.strip(), _number(number, "--where COLUMN="))
    return read_curve(path, position=position, value=value, sigma=sigma, where=selection)


def _check_alike(ours: Quantity, theirs: Quantity, absolute: bool) -> None:
    """Refuse to compare along different axes or, without a normalisation, in different units."""
    pairs = [(f"{ours.axes[0].name} ({ours.axes[0].unit})", f"{theirs.axes[0].name} ({theirs.axes[0].unit})")]
    if absolute:
        pairs += [
            (ours.quantity, theirs.quantity),
            (f"{ours.unit} per {ours.per}", f"{theirs.unit} per {theirs.per}"),
        ]
    for mine, other in pairs:
        if mine != other:
            raise ConfigError(f"curves must be alike to be compared, not {mine} and {other}")


def _free(name: str, taken: set[str]) -> str:
    """A name that no other curve has: 'a b' and 'a_b' are two files."""
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    taken.add(free)
    return free


def _title(result: Result) -> str:
    if is_tube(result) or not result.provenance.scene:
        return ""
    return Scene.loads(result.provenance.scene).name


def _plane(text: str) -> tuple[str, float]:
    normal, equals, at = text.partition("=")
    if not equals or normal.strip() not in ("x", "y", "z"):
        raise ConfigError(f"--plane must read x=CM, y=CM or z=CM, not '{text}'")
    return normal.strip(), _number(at, "--plane")


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{what} must be followed by a number, not '{text}'") from None


def _fraction(text: str, what: str) -> float:
    stripped = text.strip()
    if stripped.endswith("%"):
        return _number(stripped[:-1], what) / 100.0
    return _number(stripped, what)
