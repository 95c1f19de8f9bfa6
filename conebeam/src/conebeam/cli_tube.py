"""The ``conebeam tube`` command: electrons on a target to photons in a field."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from conebeam.cli_scene import is_given, preparing, reported, run_shown
from conebeam.cli_tables import output, share
from conebeam.errors import ConfigError
from conebeam.histories import tube_scores as scores
from conebeam.result_file import check_picture, check_places, write_text
from conebeam.scene.source import Filter, parse_filter
from conebeam.tube.emission import Analog, Emission, Expected
from conebeam.tube.model import MAX_COLUMNS, View, XrayTube
from conebeam.tube.result import TubeResult
from conebeam.tube.run import tube_job

_ELECTRONS = 200_000
_DESCRIBING = (
    "kvp", "anode_angle", "target", "rhenium_share", "thickness_mm", "base", "base_thickness_mm", "filter_", "elastic",
    "cut_kev",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("tube")(tube)


def tube(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--tube", help="The tube as TOML, instead of the options.")
    ] = None,
    kvp: Annotated[float | None, typer.Option(help="Voltage, kV.")] = None,
    anode_angle: Annotated[float, typer.Option(help="Degrees.")] = 12.0,
    target: Annotated[str, typer.Option(help="W, W-Re, Mo, Rh or Cu.")] = "W",
    rhenium_share: Annotated[float | None, typer.Option(help="By mass, of W-Re; 0.1 if not given.")] = None,
    thickness_mm: Annotated[float, typer.Option(help="Of the target, or of its layer on a base.")] = 0.5,
    base: Annotated[str | None, typer.Option(help="What the layer lies on, e.g. Cu or Mo.")] = None,
    base_thickness_mm: Annotated[float | None, typer.Option(help="Of the base; 10 if not given.")] = None,
    filter_: Annotated[
        list[str] | None, typer.Option("--filter", help="Window or filter, e.g. Al:2.5mm; may be repeated.")
    ] = None,
    elastic: Annotated[str, typer.Option(help="pw: Dirac partial waves; sr: screened Rutherford.")] = "pw",
    analog: Annotated[bool, typer.Option("--analog", help="Photons at drawn events only.")] = False,
    split: Annotated[int | None, typer.Option(help="Photons at each drawn event; implies --analog.")] = None,
    cut_kev: Annotated[float, typer.Option(help="Nothing below is followed.")] = 5.0,
    field_cm: Annotated[float, typer.Option(help="Side of the field.")] = 20.0,
    distance_cm: Annotated[float, typer.Option(help="Focus to field.")] = 100.0,
    heel: Annotated[bool, typer.Option(help="Score the heel over 40 x 20 cm too.")] = True,
    columns: Annotated[int, typer.Option(help="Strips of the field along x, each with its spectrum.")] = 0,
    spot_pixels: Annotated[int, typer.Option(help="Of an image of the focal spot, along each side.")] = 0,
    spot_half_mm: Annotated[float, typer.Option(help="Half the image's side.")] = 1.0,
    angles: Annotated[int, typer.Option(help="Bins of angle for photons that leave the target.")] = 0,
    electrons: Annotated[
        int | None, typer.Option(help=f"How many; {_ELECTRONS:,} if nothing is said.")
    ] = None,
    uncertainty: Annotated[str | None, typer.Option(help="Of the fluence above 15 keV, e.g. 1%.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 1,
    threads: Annotated[int, typer.Option(help="0 for all cores.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write spectrum and heel as JSON.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep the result (HDF5); taken up if unfinished.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Spectrum and heel (.png, .pdf, .svg).")
    ] = None,
    spekpy: Annotated[Path | None, typer.Option(help="Spectrum of 1 mAs for SpekPy.")] = None,
) -> None:
    """Spectrum, heel and backscatter of an x-ray tube by Monte Carlo."""
    with reported():
        check_picture(picture)
        check_places(json_path, out, spekpy, picture)
        for name in _DESCRIBING if config is not None else ():
            if is_given(context, name):
                option = name.rstrip("_").replace("_", "-")
                raise ConfigError(f"--tube must stand alone, not beside --{option}; leave one out")
        if split is not None and split < 1:
            raise ConfigError(f"--split must be at least 1, not {split}")
        if config is None and kvp is None:
            raise ConfigError("a tube must have its voltage: give --kvp or --tube FILE")
        described = (
            XrayTube.load(config)
            if config is not None
            else XrayTube.of(
                kvp=kvp, anode_angle_deg=anode_angle, target=target, rhenium_share=rhenium_share,
                thickness_mm=thickness_mm, base=base, base_thickness_mm=base_thickness_mm,
                filters=_filters(filter_ or []), elastic=elastic, cut_kev=cut_kev,
            )
        )  # fmt: skip
        view = View(
            field_cm=field_cm, distance_cm=distance_cm, with_heel=heel, columns=columns,
            spot_pixels=spot_pixels, spot_half_mm=spot_half_mm, angles=angles,
        )  # fmt: skip
        wanted = None if uncertainty is None else _fraction(uncertainty)
        with preparing() as progress:
            job = tube_job(
                described, view, electrons=_ELECTRONS if electrons is None and wanted is None else electrons,
                uncertainty=wanted, emission=_emission(analog, split), seed=seed, threads=threads, path=out,
                progress=progress,
            )  # fmt: skip
        result = TubeResult(run_shown(job), described, view)
        if json_path is not None:
            write_text(json.dumps(result.as_json(), indent=1) + "\n", json_path)
        if spekpy is not None:
            from conebeam.tube.export import write_spekpy

            write_spekpy(result, spekpy)
        if picture is not None:
            from conebeam.plot import save_figure
            from conebeam.tube.plot import tube_figure

            save_figure(tube_figure(result), picture)
        output().print(_table(result))


def kept_tube(config: Path, *, field_cm: float, distance_cm: float, electrons: int, threads: int) -> Path:
    """Run a tube with columns, or find it run: the result is kept beside its file.

    The result's name ends in a hash of all that decides it; one that was interrupted goes on.

    Parameters
    ----------
    config : Path
        The tube as TOML.
    field_cm, distance_cm : float
        The field for which it is computed, in columns of about a centimetre at 100 cm.

    Returns
    -------
    Path
        Of the finished result.
    """
    described = XrayTube.load(config)
    columns = max(1, min(MAX_COLUMNS, round(100.0 * field_cm / distance_cm)))
    view = View(field_cm=field_cm, distance_cm=distance_cm, with_heel=False, columns=columns)
    with preparing() as progress:
        job = tube_job(described, view, electrons=electrons, threads=threads, progress=progress)
    origin = job.provenance
    decides = (origin.scene, origin.seed, sorted(origin.versions.items()), electrons)
    key = hashlib.sha256(repr(decides).encode()).hexdigest()[:8]
    path = config.with_name(f"{config.stem}-{key}.h5")
    run_shown(replace(job, path=path))
    return path


def _emission(analog: bool, split: int | None) -> Emission:
    return Analog(split=split or 1) if analog or split is not None else Expected()


def _filters(texts: list[str]) -> tuple[Filter, ...]:
    try:
        return tuple(parse_filter(text) for text in texts)
    except ValueError as error:
        raise ConfigError(f"--filter {error}") from None


def _fraction(text: str) -> float:
    stripped = text.strip()
    try:
        return float(stripped[:-1]) / 100.0 if stripped.endswith("%") else float(stripped)
    except ValueError:
        raise ConfigError(
            f"--uncertainty must be a number or a percentage such as '1%', not '{text}'"
        ) from None


def _table(result: TubeResult) -> Table:
    tube_, view = result.tube, result.view
    table = Table(
        title=f"{tube_.made_of}, {tube_.kvp:g} kV, {tube_.anode_angle_deg:g} degrees", title_justify="left"
    )
    for header in ("", "value", "sigma", "unit"):
        table.add_column(header, justify="left" if header in ("", "unit") else "right")
    where = f"{view.field_cm:g} cm at {view.distance_cm:g} cm"
    fluence, sigma = result.total(scores.FIELD)
    back, back_sigma = result.total(scores.BACK)
    mean = result.mean_energy_kev
    table.add_row(f"fluence above 15 keV, {where}", f"{fluence:.4e}", share(sigma), "per cm2 and electron")
    table.add_row("mean energy above 15 keV", "-" if math.isnan(mean) else f"{mean:.2f}", "", "keV")
    if result.k_alpha_fraction is not None:
        table.add_row("K-alpha fraction", f"{result.k_alpha_fraction:.4f}", "", "of photons above 15 keV")
    table.add_row(f"air kerma, {where}", f"{result.air_kerma_ugy_per_mas:.4g}", "", "uGy/mAs")
    table.add_row("electrons back from the target", f"{back:.4f}", share(back_sigma), "per electron")
    table.caption = (
        f"{result.electrons:,} electrons in {result.cpu_seconds:.2f} CPU s "
        f"({result.electrons / max(result.cpu_seconds, 1e-9):,.0f} per s)"
    )
    return table
