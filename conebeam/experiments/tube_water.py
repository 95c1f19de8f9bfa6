"""A water box under the tube by Monte Carlo, beside the same box under SpekPy's.

100 kV, tungsten, 12 degrees, 2.5 mm Al, 20×20 cm at 100 cm.  Three sources through one engine: the
tube in columns (heel and off-axis spectra), SpekPy (casim) in the same columns, and SpekPy's
spectrum on the axis without heel.  Depth dose over the central 10×10 cm, relative to its value at 1 cm;
profiles at 1 cm depth along y and x, in bins of 1 cm by 6 cm to 9 cm from the axis, relative to their
mean over the central 4 cm.  σ is the dose's; the tube's own stands beside its columns.

    python experiments/tube_water.py --json experiments/results/tube-water.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import spekpy
from numpy.typing import NDArray

from conebeam.host import host
from conebeam.job import Job
from conebeam.provenance import provenance
from conebeam.result import Quantity, Result
from conebeam.run import Engine
from conebeam.scene import PointSource, Scene
from conebeam.sources.columns import Columns
from conebeam.sources.tube_beam import TubeBeam, read_tube
from conebeam.spectra import Emitted, with_columns
from conebeam.tube.model import View, XrayTube
from conebeam.tube.result import ELECTRONS_PER_MAS
from conebeam.tube.run import tube_job

KVP, ANGLE, FILTER = 100.0, 12.0, ("Al", 2.5)
FIELD_CM, DISTANCE_CM = 20.0, 100.0
INSIDE_CM, MIDDLE_CM, CENTRE_CM = 9.0, 5.0, 2.0
WITHIN = 0.02
LIMITS = {"depth": 0.01, "y": 0.95, "x": 0.95}
_ACROSS_Y = 3


def computed_tube(electrons: int, columns: int, folder: Path) -> Path:
    """The tube's result, run here."""
    path = folder / "tube.h5"
    tube = XrayTube.of(kvp=KVP, anode_angle_deg=ANGLE, filters=(f"{FILTER[0]}:{FILTER[1]}mm",))
    view = View(field_cm=FIELD_CM, distance_cm=DISTANCE_CM, with_heel=False, columns=columns)
    tube_job(tube, view, electrons=electrons, path=path).run()
    return path


def spekpy_columns(count: int) -> Columns:
    """SpekPy at the middles of the columns, mean over three points along y; photons per steradian and electron."""
    half = 0.5 * FIELD_CM
    rows, energies = [], np.zeros(0)
    points, weights = np.polynomial.legendre.leggauss(_ACROSS_Y)
    for x in (np.arange(count) + 0.5) * FIELD_CM / count - half:
        row: NDArray[np.float64] | float = 0.0
        for y, weight in zip(half * points, 0.5 * weights, strict=True):
            spek = spekpy.Spek(kvp=KVP, th=ANGLE, dk=0.5, x=float(x), y=float(y), z=DISTANCE_CM, mas=1.0)
            energies, values = spek.filter(*FILTER).get_spectrum(diff=False)
            row = row + weight * values * (x * x + y * y + DISTANCE_CM**2) / ELECTRONS_PER_MAS
        rows.append(row)
    reach = half / DISTANCE_CM
    return Columns(
        low=energies - 0.25, high=energies + 0.25, intensity=np.array(rows), reach=reach, height=reach
    )  # fmt: skip


def scene(histories: int, seed: int, spectrum: dict[str, Any]) -> Scene:
    """The box, 1 cm bins; depth bins about every full centimetre."""
    lateral = {"edges_cm": tuple(np.arange(-12.0, 12.5, 1.0).tolist())}
    central, strip, depth = (-5.0, 5.0), (-3.0, 3.0), (0.5, 1.5)
    curves = [
        {"name": "depth", "along": "z", "x_cm": central, "y_cm": central},
        {"name": "x", "along": "x", "y_cm": strip, "z_cm": depth},
        {"name": "y", "along": "y", "x_cm": strip, "z_cm": depth},
    ]
    return Scene(
        name="tube on water", seed=seed, histories=histories, phantom={"kind": "water_box", "size_cm": (30.0,) * 3},
        source={
            "kind": "point", "position_cm": (0.0, 0.0, -DISTANCE_CM), "spectrum": spectrum,
            "field": {"kind": "rectangle", "width_cm": FIELD_CM, "height_cm": FIELD_CM},
        },
        scorers=[{
            "kind": "dose", "per": "fluence", "curves": curves, "x_cm": lateral, "y_cm": lateral,
            "z_cm": {"edges_cm": (0.0, *(np.arange(11) + 0.5).tolist())},
        }],
    )  # fmt: skip


def dose(made: Scene, emitted: Emitted | None = None) -> Result:
    """Run a scene."""
    engine = Engine(made, 0, emitted=emitted)
    origin = provenance(scene=made.to_toml(), seed=made.seed, versions=engine.versions)
    return Job(runner=engine, provenance=origin, plan=made.plan()).run()


Curve = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def normalised(quantity: Quantity, low: float, high: float) -> Curve:
    """Positions, values over the mean of those from low to high, and each one's relative σ without the mean's."""
    at = quantity.axes[0].centres()
    base = (at > low) & (at < high)
    return at, quantity.values / quantity.values[base].mean(), quantity.sigma


def base_sigma(quantity: Quantity, low: float, high: float) -> float:
    """Relative σ of the mean that normalises, as if its points shared no photons."""
    at = quantity.axes[0].centres()
    base = (at > low) & (at < high)
    return float(np.sqrt(np.sum((quantity.values * quantity.sigma)[base] ** 2)) / quantity.values[base].sum())


def depth_rows(tube: Result, columns: Result, axis: Result) -> list[dict[str, float]]:
    """Depth dose relative to 1 cm; differences of the tube from both of SpekPy's."""
    curves = [normalised(r["depth"], 0.9, 1.1) for r in (tube, columns, axis)]
    base = [base_sigma(r["depth"], 0.9, 1.1) for r in (tube, columns, axis)]
    rows = []
    for i, depth in enumerate(curves[0][0].tolist()):
        if depth >= 1.0:
            row = {"depth_cm": depth, "tube": float(curves[0][1][i])}
            for name, k in (("spekpy", 1), ("spekpy axis spectrum", 2)):
                row[f"{name} difference"] = float(curves[0][1][i] / curves[k][1][i] - 1.0)
                parts = [s[2][i] for s in (curves[0], curves[k])] + [base[0], base[k]] * (depth > 1.1)
                row[f"{name} sigma"] = float(np.sqrt(np.sum(np.square(parts)))) if depth > 1.1 else 0.0
            rows.append(row)
    return rows


def profile_rows(name: str, tube: Result, spekpy_: Result) -> list[dict[str, float]]:
    """A profile relative to the middle, of the tube and of SpekPy's columns."""
    ours, theirs = (normalised(r[name], -CENTRE_CM, CENTRE_CM) for r in (tube, spekpy_))
    base = [base_sigma(r[name], -CENTRE_CM, CENTRE_CM) for r in (tube, spekpy_)]
    return [
        {
            "cm": float(at), "tube": float(a), "sigma": float(np.hypot(sa, base[0])), "spekpy": float(b),
            "difference": float(a / b - 1.0), "difference sigma": float(np.sqrt(sa**2 + sb**2 + base[0] ** 2 + base[1] ** 2)),
        }
        for at, a, b, sa, sb in zip(ours[0], ours[1], theirs[1], ours[2], theirs[2], strict=True)
        if abs(at) < INSIDE_CM
    ]  # fmt: skip


def share(values: list[float]) -> float:
    """How many lie within 2 % of nought."""
    return float(np.mean(np.abs(values) <= WITHIN))


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """What is compared with a limit."""
    depth, x, y = report["depth"], report["x"], report["y"]
    return {
        "depth, worst to 10 cm against SpekPy": max(abs(r["spekpy difference"]) for r in depth),
        "depth, worst to 10 cm against SpekPy's axis spectrum": max(
            abs(r["spekpy axis spectrum difference"]) for r in depth
        ),
        "depth, largest sigma": max(r["spekpy sigma"] for r in depth),
        "y: SpekPy's within 2 % of the axis value": share([r["tube"] - r["spekpy"] for r in y]),
        "x: SpekPy's within 2 % of the axis value": share([r["tube"] - r["spekpy"] for r in x]),
        "y: SpekPy's within 2 %": share([r["difference"] for r in y]),
        "x: SpekPy's within 2 %": share([r["difference"] for r in x]),
        "y: flat within 2 %": share([r["tube"] - 1.0 for r in y]),
        "y: flat within 2 %, 10 cm in the middle": share([r["tube"] - 1.0 for r in y if abs(r["cm"]) < MIDDLE_CM]),
        "y: flat within 2 %, SpekPy": share([r["spekpy"] - 1.0 for r in y]),
        "x: flat within 2 %": share([r["tube"] - 1.0 for r in x]),
        "worst of y against SpekPy": max(abs(r["difference"]) for r in y),
        "worst of x against SpekPy": max(abs(r["difference"]) for r in x),
        "profiles, largest sigma of a value": max(r["sigma"] for r in (*x, *y)),
        "profiles, largest sigma of a difference": max(r["difference sigma"] for r in (*x, *y)),
        "limits": LIMITS,
    }  # fmt: skip


def column_rows(beam: TubeBeam, theirs: Columns) -> list[dict[str, float]]:
    """Intensity relative to the middle two columns and mean energy, of the tube and of SpekPy."""
    both, count = (beam.columns, theirs), len(theirs.intensity)
    middle = [c.intensity[(count - 1) // 2 : count // 2 + 1].sum(axis=1).mean() for c in both]
    share = [c.intensity.sum(axis=1) / m for c, m in zip(both, middle, strict=True)]
    means = [c.intensity @ (0.5 * (c.low + c.high)) / c.intensity.sum(axis=1) for c in both]
    return [
        {
            "x_cm": (i + 0.5) * FIELD_CM / count - 0.5 * FIELD_CM, "sigma": float(beam.sigma[i]),
            "tube": float(share[0][i]), "spekpy": float(share[1][i]), "tube_mean_kev": float(means[0][i]),
            "spekpy_mean_kev": float(means[1][i]),
        }
        for i in range(count)
    ]  # fmt: skip


def run(electrons: int, histories: int, columns: int) -> dict[str, Any]:
    """All of it."""
    theirs = spekpy_columns(columns)
    analytic = {
        "kind": "tube", "kvp": KVP, "anode_angle_deg": ANGLE,
        "filters": [{"material": FILTER[0], "thickness_mm": FILTER[1]}],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = computed_tube(electrons, columns, Path(folder))
        beam = read_tube(path, with_columns=True)
        tube = dose(scene(histories, 1, {"kind": "tube_result", "file": str(path)}))
    made = scene(histories, 2, analytic)
    assert isinstance(made.source, PointSource)
    analytic_columns = with_columns(made.source, theirs)
    photons = (with_columns(made.source, beam.columns).per_electron or 0.0) / (
        analytic_columns.per_electron or 1.0
    )
    heel = dose(made, analytic_columns)
    flat = dose(scene(histories, 3, analytic))
    report: dict[str, Any] = {
        "host": host(), "source": beam.statement, "electrons": electrons, "columns": columns, "histories": histories,
        "fluence per electron over SpekPy's": photons,
        "columns table": column_rows(beam, theirs), "depth": depth_rows(tube, heel, flat),
        "x": profile_rows("x", tube, heel), "y": profile_rows("y", tube, heel),
    }  # fmt: skip
    report["summary"] = summary(report)
    return report


def shown(report: dict[str, Any]) -> None:
    """Print the tables."""
    print(report["source"])
    for key in ("columns table", "depth", "y", "x"):
        print(f"\n{key}")
        print("  ".join(f"{name:>12.12s}" for name in report[key][0]))
        for row in report[key]:
            print("  ".join(f"{value:12.4f}" for value in row.values()))
    print()
    for name, value in report["summary"].items():
        print(f"{name:55s} {value if isinstance(value, dict) else format(value, '.4f')}")


def main() -> None:
    """Run, print, keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--electrons", type=float, default=400_000)
    parser.add_argument("--histories", type=float, default=20_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a few seconds, no statistics")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    electrons, histories = int(options.electrons), int(options.histories)
    if options.quick:
        electrons, histories = 1_000, 20_000
    report = run(electrons, histories, options.columns)
    shown(report)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
