"""The command line: dose, tube, run, compare, plot, merge, demo."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from conebeam import __version__
from conebeam.cli_scene import is_given, preparing, register, reported, run_shown
from conebeam.cli_tables import depth_table, output
from conebeam.cli_tube import kept_tube
from conebeam.cli_tube import register as register_tube
from conebeam.dose import Beam, as_json, build_scene
from conebeam.errors import ConfigError
from conebeam.job import Job
from conebeam.provenance import provenance
from conebeam.result_file import check_places, write_text
from conebeam.run import Engine

_DEMO_HISTORIES = 12_000_000

app = typer.Typer(
    help="Monte Carlo model of a kilovoltage cone-beam CT system.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
register(app, Engine)
register_tube(app)


def main() -> None:
    """Entry point of the ``conebeam`` command."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"conebeam {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Monte Carlo model of a kilovoltage cone-beam CT system."""


@app.command("dose")
def dose(
    context: typer.Context,
    energy_kev: Annotated[float | None, typer.Option(help="One photon energy.")] = None,
    spectrum: Annotated[Path | None, typer.Option(help="CSV: bin centres (keV), weights.")] = None,
    kvp: Annotated[float | None, typer.Option(help="Tungsten tube by SpekPy.")] = None,
    anode_angle: Annotated[float, typer.Option(help="Of the tube, degrees.")] = 12.0,
    filter_: Annotated[
        list[str] | None, typer.Option("--filter", help="Of the tube, e.g. Al:2.5mm; may be repeated.")
    ] = None,
    field_cm: Annotated[float, typer.Option(help="Side of the square field.")] = 10.0,
    field_at_cm: Annotated[
        float | None, typer.Option(help="Distance from the source at which the field is stated; the SSD.")
    ] = None,
    ssd_cm: Annotated[float, typer.Option(help="Source to surface.")] = 100.0,
    phantom_cm: Annotated[float, typer.Option(help="Side of the water cube.")] = 30.0,
    tube: Annotated[
        Path | None,
        typer.Option(
            help="Result of 'conebeam tube --out' (.h5), or a tube (.toml), which is then run first."
        ),
    ] = None,
    heel: Annotated[bool, typer.Option(help="Of the tube; +x is the cathode's side.")] = True,
    tube_electrons: Annotated[
        int | None, typer.Option(help="For a tube in TOML.  \\[default: 200000]")
    ] = None,
    histories: Annotated[int, typer.Option(help="Photons.")] = 2_000_000,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 1,
    threads: Annotated[int, typer.Option(help="0 for all cores.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all curves as JSON.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also keep the result (HDF5).")] = None,
) -> None:
    """Depth dose and profiles of a beam in water."""
    with reported():
        check_places(json_path, out)
        if kvp is None and is_given(context, "anode_angle"):
            raise ConfigError("--anode-angle must come with --kvp; no other source has an angle to choose")
        beam = Beam(
            energy_kev=energy_kev, spectrum=spectrum, kvp=kvp, anode_angle_deg=anode_angle,
            filters=tuple(filter_ or ()), tube=tube, heel=heel, field_cm=field_cm, field_at_cm=field_at_cm, ssd_cm=ssd_cm,
            phantom_cm=phantom_cm,
        )  # fmt: skip
        runs_tube = tube is not None and tube.suffix == ".toml"
        if tube_electrons is not None and not runs_tube:
            raise ConfigError("--tube-electrons must come with --tube FILE.toml; a result has its electrons")
        if tube is not None and runs_tube:
            kept = kept_tube(
                tube, field_cm=beam.field_at_surface_cm, distance_cm=ssd_cm, electrons=200_000 if tube_electrons is None else tube_electrons,
                threads=threads,
            )  # fmt: skip
            beam = replace(beam, tube=kept)
        scene = build_scene(beam, histories=histories, seed=seed)
        with preparing():
            engine = Engine(scene, threads)
        job = Job(
            runner=engine,
            provenance=provenance(
                scene=scene.to_toml(), seed=seed, versions={**engine.versions, **scene.digests()}
            ),
            plan=scene.plan(),
            path=out,
        )
        started = time.perf_counter()
        result = run_shown(job)
        seconds = time.perf_counter() - started
        content = as_json(
            beam, result, engine.spectrum, seconds=seconds, threads=engine.threads,
            per_electron=engine.emitted.per_electron,
        )  # fmt: skip
        if json_path is not None:
            write_text(json.dumps(content, indent=1) + "\n", json_path)
        console = output()
        console.print(depth_table(content, scene.name))
        console.print(
            f"{result.histories:,} histories, {seconds:.1f} s on {engine.threads} threads "
            f"({result.histories / result.cpu_seconds:,.0f} per CPU second); "
            f"checks, tables and compilation before that {engine.setup_seconds:.1f} s",
            soft_wrap=True,
        )
        for source, statement in engine.emitted.versions.items():
            console.print(f"{source}: {statement}", soft_wrap=True)


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("conebeam-demo"),
    histories: Annotated[int, typer.Option(help="Photons for each beam.", min=64)] = _DEMO_HISTORIES,
    threads: Annotated[int, typer.Option(help="0 for all cores.")] = 0,
) -> None:
    """60 keV and 100 kVp in water beside published DOSXYZnrc results."""
    # Pictures take half a second to import, which no other command should pay for.
    from conebeam.demo import run_demo

    with reported():
        run_demo(out, histories=histories, threads=threads, console=output())


if __name__ == "__main__":
    main()
