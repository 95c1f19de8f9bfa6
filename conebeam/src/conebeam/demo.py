"""A minute of conebeam: two beams in water beside published DOSXYZnrc results, and an x-ray tube beside SpekPy.

Writes pictures, the differences as JSON, and both results (HDF5) into a folder.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from conebeam.cli_scene import preparing, run_shown
from conebeam.compare import Comparison
from conebeam.compare.water import CASES, WaterReference, WaterVerdict, judge, published
from conebeam.demo_tube import run_tube_demo
from conebeam.dose import as_json, build_scene
from conebeam.errors import ResultError
from conebeam.job import Job
from conebeam.plot import COLOURS, draw_differences, draw_plane, new_figure, save_figure, tidy
from conebeam.provenance import provenance
from conebeam.result import Result
from conebeam.result_file import save, write_text
from conebeam.run import Engine
from conebeam.water_beams import water_beam

NAMES = {"60keV": "60 keV", "100kVp": "100 kVp, 2.5 mm Al"}
_DEEPEST_CM = 20.25
_SHOWN_CM = (0.125, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One beam: what was computed and how it compares."""

    case: str
    result: Result
    content: dict[str, Any]
    reference: WaterReference
    verdict: WaterVerdict


def run_demo(folder: Path, *, histories: int, threads: int = 0, console: Console) -> list[Outcome]:
    """Run both beams, print tables, write everything into a folder.

    Raises
    ------
    ResultError
        If the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(
            f"folder '{folder}' must be one to write into, and is not: {error.strerror}"
        ) from error
    started = time.perf_counter()
    outcomes = [_outcome(case, histories, threads) for case in CASES]
    for outcome in outcomes:
        save(outcome.result, folder / f"water_{outcome.case}.h5")
        console.print(_table(outcome))
        console.print(_sentence(outcome), soft_wrap=True)
    save_figure(demo_figure(outcomes), folder / "water.png")
    tube = run_tube_demo(folder, threads=threads, console=console)
    report: dict[str, Any] = {
        o.case: {"comparison": o.verdict.as_dict(), "dose": o.content} for o in outcomes
    }
    report["tube"] = tube
    write_text(json.dumps(report, indent=1) + "\n", folder / "water.json")
    console.print(
        f"{time.perf_counter() - started:.0f} s in all; pictures, figures and results: {folder}/water.png, tube.png, "
        "water.json, water_60keV.h5, water_100kVp.h5",
        soft_wrap=True,
    )
    return outcomes


def _outcome(case: str, histories: int, threads: int) -> Outcome:
    with water_beam(case) as beam:
        scene = build_scene(beam, histories=histories)
        with preparing():
            engine = Engine(scene, threads)
        job = Job(
            runner=engine,
            plan=scene.plan(),
            provenance=provenance(
                scene=scene.to_toml(), seed=scene.seed, versions={**engine.versions, **scene.digests()}
            ),
        )
        started = time.perf_counter()
        result = run_shown(job)
        content = as_json(
            beam, result, engine.spectrum, seconds=time.perf_counter() - started, threads=engine.threads
        )
    reference = published(case)
    return Outcome(
        case=case, result=result, content=content, reference=reference, verdict=judge(content, reference)
    )


def _table(outcome: Outcome) -> Table:
    title = f"{NAMES[outcome.case]} in water, 10x10 cm at 100 cm: 1e-13 Gy cm2 per mean surface fluence"
    table = Table(title=title)
    for header in ("depth cm", "2x2 cm", "ref.", "diff.", "sigma", "s. ref.", "6x6 diff."):
        table.add_column(header, justify="right", no_wrap=True)
    narrow, wide = outcome.verdict.depth["2x2"], outcome.verdict.depth["6x6"]
    for at in _SHOWN_CM:
        i = int(np.argmin(np.abs(narrow.position - at)))
        table.add_row(
            f"{at:g}", f"{1e13 * narrow.ours[i]:.4f}", f"{1e13 * narrow.reference[i]:.4f}", f"{narrow.difference[i]:+.2%}",
            f"{narrow.sigma_ours[i]:.2%}", f"{narrow.sigma_reference[i]:.2%}", f"{wide.difference[i]:+.2%}",
        )  # fmt: skip
    return table


def _sentence(outcome: Outcome) -> str:
    v, content = outcome.verdict, outcome.content
    missed = [name for name, passed in v.passes.items() if not passed]
    return (
        f"{NAMES[outcome.case]}: mean difference to 10 cm {v.mean_difference:+.2%}, "
        f"{v.profile_share:.1%} of profile points within 1 % of the axis value beyond statistics; "
        f"{'all accuracy items met' if not missed else 'missed: ' + '; '.join(missed)}. "
        f"{content['histories']:,} histories in {content['seconds']:.1f} s "
        f"({content['histories'] / content['cpu_seconds']:,.0f} per CPU second).\n"
    )


def demo_figure(outcomes: list[Outcome]) -> Figure:
    """Depth dose, profiles and dose in a plane of each beam."""
    figure = new_figure((15.5, 5.2 * len(outcomes)), "Dose in water: conebeam (lines) and DOSXYZnrc (points)")
    rows = figure.subfigures(len(outcomes), 1, squeeze=False)[:, 0]
    for row, outcome in zip(rows, outcomes, strict=True):
        left, middle, right = row.subfigures(1, 3, width_ratios=(1.0, 1.0, 0.92))
        upper, lower = left.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1.3)})
        _draw_depth(upper, lower, outcome)
        upper, lower = middle.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1.3)})
        _draw_profiles(upper, lower, outcome)
        plane = right.subplots()
        draw_plane(plane, outcome.result["dose"], normal="y", at_cm=0.0)
        # Below lies one bin of ten centimetres.
        plane.set_ylim(_DEEPEST_CM, 0.0)
    return figure


def _draw_depth(upper: Axes, lower: Axes, outcome: Outcome) -> None:
    for colour, name in zip(COLOURS, ("2x2", "6x6"), strict=False):
        _draw_pair(upper, outcome.verdict.depth[name], colour, f"{name.replace('x', '×')} cm")
    upper.set_title(f"{NAMES[outcome.case]}: depth dose on the axis", fontsize=10)
    upper.set_ylabel("dose (10⁻¹³ Gy cm² per fluence)", fontsize=9)
    upper.set_xlim(0.0, 20.5)
    draw_differences(lower, outcome.verdict.depth["6x6"], colour=COLOURS[1])
    lower.set_ylim(-0.025, 0.025)
    lower.set_xlabel("depth (cm)", fontsize=9)
    lower.set_ylabel("ours / ref − 1, 6×6", fontsize=9)


def _draw_profiles(upper: Axes, lower: Axes, outcome: Outcome) -> None:
    for colour, (at, comparison) in zip(COLOURS, outcome.verdict.profiles.items(), strict=False):
        _draw_pair(upper, comparison, colour, f"at {at} cm")
        both = 2.0 * np.hypot(comparison.sigma_ours, comparison.sigma_reference)
        lower.errorbar(
            comparison.position, 100.0 * comparison.difference, yerr=100.0 * both, fmt="o", markersize=2.4,
            color=colour, elinewidth=0.7,
        )  # fmt: skip
    upper.set_title(f"{NAMES[outcome.case]}: profiles", fontsize=10)
    upper.set_ylabel("dose (10⁻¹³ Gy cm² per fluence)", fontsize=9)
    upper.set_xlim(0.0, 15.0)
    lower.axhspan(-1.0, 1.0, color="#2e7d32", alpha=0.10, linewidth=0)
    lower.axhline(0.0, color="black", linewidth=0.7)
    lower.set_ylim(-2.5, 2.5)
    lower.set_xlabel("x (cm)", fontsize=9)
    lower.set_ylabel("difference\n(% of axis value)", fontsize=9)
    tidy(lower)


def _draw_pair(ax: Axes, comparison: Comparison, colour: str, name: str) -> None:
    ax.plot(comparison.position, 1e13 * comparison.ours, color=colour, linewidth=1.4, label=name)
    ax.plot(
        comparison.position, 1e13 * comparison.reference, "o", markersize=3.2, markerfacecolor="none",
        markeredgecolor=colour, markeredgewidth=0.8,
    )  # fmt: skip
    ax.set_ylim(bottom=0.0)
    ax.legend(fontsize=8, frameon=False)
    tidy(ax)
