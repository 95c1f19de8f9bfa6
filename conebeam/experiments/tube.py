"""The x-ray tube against BEAMnrc, SpekPy, published half-value layers and backscatter, and against itself.

BEAMnrc: 100 keV, tungsten, 12 degrees, summary values (see ``BEAMNRC``).  SpekPy 2.5: its
``casim`` model.  Half-value layers: the standard qualities that SpekPy ships as states, with the
values their publications give.  Backscatter: H.-J. Hunger, L. Küchler, Phys. Stat. Sol. A 56
(1979) K45, doi:10.1002/pssa.2210560157, a fit to measurements from 5 to 60 keV.  Bremsstrahlung yield:
W. W. Nicholas, Bur. Stand. J. Res. 5 (1930) 843, doi:10.6028/jres.005.053, from measurements by Rump.  Itself: expected
against analog emission, and electrons through the opening by all treatments of the face.

    python experiments/tube.py --json experiments/results/tube.json --plot tube.png
    python experiments/tube.py --skip beamnrc spekpy backscatter start --json experiments/results/tube-checks.json
    python experiments/tube.py --only start --json experiments/results/tube-start.json
"""

from __future__ import annotations

import argparse
import json
import math
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import spekpy
from numpy.typing import NDArray

from conebeam.data.electrons import bremsstrahlung
from conebeam.data.electrons.stopping import stopping_power
from conebeam.data.electrons.targets import target
from conebeam.histories import tube_scores as scores
from conebeam.host import host
from conebeam.materials import material
from conebeam.plot import save_figure
from conebeam.transport.physics import TOTAL, build_physics, interpolated
from conebeam.tube.emission import Analog, Expected, Transport
from conebeam.tube.engine import TubeEngine
from conebeam.tube.model import ParallelRectangularBeam, View, XrayTube
from conebeam.tube.plot import tube_figure
from conebeam.tube.result import ELECTRONS_PER_MAS, TubeResult, half_value_layer_mm, k_alpha_fraction
from conebeam.tube.run import run_tube_job

# BEAMnrc, per electron: value, and its own relative σ where it is stated.
BEAMNRC = {
    "fluence_above_15kev_per_cm2": 7.52e-8,
    "mean_energy_above_15kev": 41.2,
    "photons_above_5kev_through_opening": 5.08e-3,
    "photons_above_10kev_through_opening": 2.95e-3,
    "electrons_through_opening": 0.2315,
}
LIMITS = {
    "fluence_above_15kev_per_cm2": 0.03,
    "mean_energy_above_15kev": 0.01,
    "photons_above_5kev_through_opening": None,
    "photons_above_10kev_through_opening": 0.03,
    "electrons_through_opening": 0.04,
}
OPENING = View(field_cm=10.0, distance_cm=1.1, with_heel=False)
SPEKPY_CASES = ((60.0, 12.0), (100.0, 8.0), (100.0, 12.0), (100.0, 20.0), (140.0, 12.0))
# XTUBE lets a particle out of the target 1e-5 cm, along x, in front of the face that its electrons start on.
XTUBE_DEPTH_UM = 0.1 * math.cos(math.radians(12.0))
STATES = (
    *(f"PTB_IEC_RQR{n}" for n in range(2, 11)),
    *(f"PTB_IEC_RQA{n}" for n in range(2, 11)),
    *(f"PTB_ISO_N{kv}" for kv in (30, 40, 60, 80, 100, 120, 150)),
)
BANDS_KEV = ((5, 10), (10, 15), (15, 25), (25, 40), (40, 57), (57, 61), (61, 80), (80, 100))
_NAMES = {"Air Dry (Near Sea Level)": "air"}


def against_beamnrc(
    tube: XrayTube, steps: Transport, electrons: int, **options: Any
) -> tuple[dict[str, float], float]:
    """The figures that BEAMnrc's are known of, and the relative σ of the fluence."""
    field = run_tube_job(tube, View(), electrons=electrons, transport=steps, **options)
    opening = run_tube_job(tube, OPENING, electrons=electrons, transport=steps, **options)
    # Counts per electron, not per area.
    through = opening.fluence * OPENING.field_cm**2
    return {
        "fluence_above_15kev_per_cm2": field.total(scores.FIELD)[0],
        "mean_energy_above_15kev": field.mean_energy_kev,
        "photons_above_5kev_through_opening": float(through.sum()),
        "photons_above_10kev_through_opening": float(through[opening.energies > 10.0].sum()),
        "electrons_through_opening": opening.total(scores.FIELD_ELECTRONS)[0],
    }, field.total(scores.FIELD)[1]


def beamnrc(electrons: int) -> list[dict[str, Any]]:
    """Both elastic models, and screened Rutherford with steps that ignore the surface."""
    rows = []
    for name, elastic, surface in (("sr", "sr", 0.5), ("pw", "pw", 0.5), ("sr, surface ignored", "sr", 1e9)):
        tube = XrayTube.of(kvp=100.0, elastic=elastic)
        found, sigma = against_beamnrc(tube, Transport(surface=surface), electrons)
        for key, value in found.items():
            rows.append({
                "model": name, "item": key, "ours": value, "beamnrc": BEAMNRC[key],
                "difference": value / BEAMNRC[key] - 1.0, "limit": LIMITS[key],
            })  # fmt: skip
        rows[-5]["sigma"] = sigma
    return rows


def emissions(electrons: int) -> list[dict[str, Any]]:
    """Expected over analog emission through the opening, in bands of energy; σ from the scatter of batches."""
    tube = XrayTube.of(kvp=100.0, elastic="sr")
    batches, found = 64, []
    for emission, seed, n in ((Expected(), 11, 100 * electrons), (Analog(split=30), 12, 1000 * electrons)):
        engine = TubeEngine(tube, OPENING, emission=emission, seed=seed)
        each = n // batches
        spectra = [engine.one(i, i * each, (i + 1) * each).sums["spectrum"] for i in range(batches)]
        found.append(np.array(spectra) / each)
    centres = (np.arange(found[0].shape[1]) + 0.5) / scores.BINS_PER_KEV
    rows = []
    for low, high in (*BANDS_KEV, (15, 100)):
        band = (centres > low) & (centres < high)
        sums = [spectra[:, band].sum(axis=1) for spectra in found]
        (value, theirs), errors = (s.mean() for s in sums), [s.std(ddof=1) / s.mean() for s in sums]
        ratio = float(value / theirs)
        sigma = ratio * math.hypot(*errors) / math.sqrt(batches)
        rows.append({
            "kev": [low, high], "ratio": ratio, "sigma": sigma, "expected_electrons": 100 * electrons,
            "analog_electrons": 1000 * electrons,
        })  # fmt: skip
        print(f"{low:3d} to {high:3d} keV  expected / analog {ratio:.4f} +- {sigma:.4f}", flush=True)
    return rows


def face(electrons: int) -> list[dict[str, Any]]:
    """Electrons through the opening and back from the target, by how steps next to the face are taken."""
    ways: tuple[tuple[str, str, Transport, int], ...] = (
        ("single scattering", "sr", Transport(single=True), 20),
        ("steps up to a quarter of the depth", "sr", Transport(surface=0.25), 20),
        ("steps up to half the depth", "sr", Transport(), 20),
        ("steps up to the depth", "sr", Transport(surface=1.0), 20),
        ("steps ignore the face", "sr", Transport(surface=1e9), 20),
        ("steps up to half the depth", "pw", Transport(), 20),
    )
    rows = []
    for name, elastic, steps, many in ways:
        n = many * electrons
        tube = XrayTube.of(kvp=100.0, elastic=elastic)
        result = run_tube_job(tube, OPENING, electrons=n, emission=Analog(), transport=steps, seed=21)
        through, sigma = result.total(scores.FIELD_ELECTRONS)
        back, back_sigma = result.total(scores.BACK)
        rows.append({
            "steps": name, "elastic": elastic, "through": through, "sigma": sigma, "back": back,
            "back_sigma": back_sigma, "electrons": n,
            "difference": through / BEAMNRC["electrons_through_opening"] - 1.0,
        })  # fmt: skip
        print({k: v if isinstance(v, str) else round(v, 5) for k, v in rows[-1].items()}, flush=True)
    return rows


def start(electrons: int) -> list[dict[str, Any]]:
    """What is compared with BEAMnrc, by how far below the face electrons start."""
    rows = []
    for name, steps in (("condensed history", Transport()), ("single scattering", Transport(single=True))):
        for depth in (0.0, 0.0049, 0.02, 0.05, XTUBE_DEPTH_UM, 0.2):
            beam = ParallelRectangularBeam(depth_um=depth)
            tube = XrayTube.of(kvp=100.0, elastic="sr", beam=beam)
            counted, _ = against_beamnrc(tube, steps, electrons, emission=Analog(), seed=21)
            field, sigma = against_beamnrc(tube, steps, electrons // 10, seed=22)
            key = "electrons_through_opening"
            found = field | {key: counted[key]}
            rows.append({
                "steps": name, "depth_um": depth, "electrons": electrons, "sigma": sigma,
                **{k: {"ours": v, "difference": v / BEAMNRC[k] - 1.0} for k, v in found.items()},
            })  # fmt: skip
            print(name, depth, {k: f"{v / BEAMNRC[k] - 1.0:+.2%}" for k, v in found.items()}, flush=True)
    return rows


def attenuated(
    energies: NDArray[np.float64], fluence: NDArray[np.float64], name: str, mm: float
) -> NDArray[np.float64]:
    """A narrow beam behind a sheet."""
    sheet = material(name)
    section = (
        interpolated(build_physics([sheet]), 0, TOTAL, np.clip(energies, 1.0, 150.0)) * sheet.density_g_cm3
    )
    found: NDArray[np.float64] = fluence * np.exp(-0.1 * mm * section)
    return found


def spekpy_spectrum(kvp: float, angle: float, x_cm: float = 0.0, model: str = "casim") -> tuple[Any, Any]:
    """Bin centres (keV) and photons per cm² and electron in 0.5 keV bins at 1 m."""
    spek = spekpy.Spek(kvp=kvp, th=angle, dk=0.5, x=x_cm, z=100.0, physics=model, mas=1.0)
    energies, values = spek.get_spectrum(diff=False)
    return energies, values / ELECTRONS_PER_MAS


def above_15_kev(energies: NDArray[np.float64], fluence: NDArray[np.float64]) -> float:
    """Photons above 15 keV."""
    return float(fluence[energies > 15.0].sum())


def against_spekpy(electrons: int) -> tuple[list[dict[str, Any]], TubeResult]:
    """Fluence, mean energy, K-alpha, first half-value layer, heel."""
    rows, kept = [], None
    for kvp, angle in SPEKPY_CASES:
        ours = run_tube_job(XrayTube.of(kvp=kvp, anode_angle_deg=angle), View(), electrons=electrons)
        kept = ours if (kvp, angle) == (100.0, 12.0) else kept
        # The mean over the same 20x20 cm: SpekPy at 9 points along x; y hardly matters.
        at = np.linspace(-10.0, 10.0, 9)
        weights = np.full(9, 1.0)
        weights[[0, -1]] = 0.5
        each = [spekpy_spectrum(kvp, angle, float(x)) for x in at]
        energies = each[0][0]
        theirs = np.average([v for _, v in each], axis=0, weights=weights)
        hard_ours, hard = ours.energies > 15.0, energies > 15.0
        heel = np.array([v[hard].sum() for _, v in each])
        x = 0.5 * (ours.heel_edges[1:] + ours.heel_edges[:-1])
        middle = np.abs(x) < 10.0
        relative = (
            ours.heel[middle]
            / ours.heel[middle].mean()
            / np.interp(x[middle], at, heel / np.interp(x[middle], at, heel).mean())
        )
        alpha, alpha_theirs = ours.k_alpha_fraction, k_alpha_fraction(energies, theirs)
        row = {
            "kvp": kvp, "angle": angle, "sigma": ours.total(scores.FIELD)[1],
            "fluence": ours.fluence[hard_ours].sum() / theirs[hard].sum() - 1.0,
            "mean_energy": ours.mean_energy_kev / float(energies[hard] @ theirs[hard] / theirs[hard].sum()) - 1.0,
            "k_alpha": alpha / alpha_theirs - 1.0 if kvp > 70.0 and alpha and alpha_theirs else None,
            "hvl": half_value_layer_mm(ours.energies, attenuated(ours.energies, ours.fluence, "Al", 2.5))
            / half_value_layer_mm(energies, attenuated(energies, theirs, "Al", 2.5)) - 1.0,
            "heel_worst": float(np.abs(relative - 1.0).max()),
            "heel_sigma": float(ours.heel_sigma[middle].max()),
        }  # fmt: skip
        rows.append(row)
        print({k: v if v is None else round(float(v), 4) for k, v in row.items()}, flush=True)
    assert kept is not None
    return rows, kept


@cache
def unfiltered(kvp: float, angle: float, electrons: int) -> TubeResult:
    """The tube's spectrum near the axis."""
    return run_tube_job(
        XrayTube.of(kvp=kvp, anode_angle_deg=angle), View(field_cm=4.0, with_heel=False), electrons=electrons
    )


def qualities(electrons: int) -> list[dict[str, Any]]:
    """First half-value layers in aluminium, by the analytic spectrum and by this tube."""
    rows = []
    folder = resources.files("spekpy") / "data" / "state_def"
    for name in STATES:
        state = json.loads((folder / f"{name}.state").read_text())
        model, published = state["model_parameters"], float(state["reference_values"]["hvl_1_al"])
        ours = unfiltered(model["kvp"], model["th"], electrons)
        spectra = {
            "tube": (ours.energies, ours.fluence),
            "spekpy": spekpy_spectrum(model["kvp"], model["th"]),
        }
        row: dict[str, Any] = {"quality": name, "published_mm_al": published}
        for key, (energies, fluence) in spectra.items():
            for sheet, mm in state["filters"]:
                fluence = attenuated(energies, fluence, _NAMES.get(sheet, sheet), mm)
            row[f"{key}_mm_al"] = half_value_layer_mm(energies, fluence)
            row[f"{key}_difference"] = row[f"{key}_mm_al"] / published - 1.0
        rows.append(row)
        print(
            f"{name:14s} {published:7.3f}  tube {row['tube_difference']:+.2%}  spekpy {row['spekpy_difference']:+.2%}",
            flush=True,
        )
    return rows


def backscatter(electrons: int) -> list[dict[str, Any]]:
    """Electrons back from tungsten at (nearly) normal incidence."""
    rows = []
    for kev in (20.0, 40.0, 60.0, 100.0):
        for elastic in ("pw", "sr"):
            tube = XrayTube.of(kvp=kev, anode_angle_deg=0.5, elastic=elastic, cut_kev=2.0)
            job = run_tube_job(tube, OPENING, electrons=10 * electrons, emission=Analog(), seed=31)
            value, sigma = job.total(scores.BACK)
            log = math.log(74.0)
            fit = kev ** (0.1382 - 0.9211 / math.sqrt(74.0)) * (
                0.1904 - 0.2235 * log + 0.1292 * log**2 - 0.01491 * log**3
            )
            rows.append({"kev": kev, "elastic": elastic, "electrons": 10 * electrons, "ours": value, "sigma": sigma, "published": fit,
                         "difference": value / fit - 1.0})  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def yields() -> list[dict[str, Any]]:
    """Energy that electrons radiate until they stop in tungsten, over theirs; published for the continuous spectrum."""
    tungsten, rows = target("W"), []
    scaled = bremsstrahlung.build(74)["chi"]
    for kev, published in ((40.0, 0.0039), (60.0, None), (100.0, None), (140.0, None)):
        energies = np.geomspace(1.0, kev, 4000)
        radiative = bremsstrahlung.rates(tungsten, scaled, energies, math.inf)[1]
        total = radiative + stopping_power(tungsten, energies, math.inf)
        ours = float(np.trapezoid(radiative / total, energies)) / kev
        rows.append({"kev": kev, "ours": ours, "published": published,
                     "difference": None if published is None else ours / published - 1.0})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """All comparisons; the result file grows part by part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--electrons", type=float, default=40_000)
    parts = ("beamnrc", "spekpy", "qualities", "backscatter", "yields", "emissions", "face", "start")
    parser.add_argument("--skip", nargs="*", default=[], choices=parts)
    parser.add_argument("--only", nargs="*", default=parts, choices=parts)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    n = int(options.electrons)
    chosen = set(options.only) - set(options.skip)
    report: dict[str, Any] = {"host": host(), "electrons": n}

    def keep() -> None:
        if options.json is not None:
            options.json.write_text(json.dumps(report, indent=1) + "\n")

    if "beamnrc" in chosen:
        report["beamnrc"] = beamnrc(n)
        for r in report["beamnrc"]:
            print(
                f"{r['model']:22s} {r['item']:38s} {r['ours']:.4g} {r['beamnrc']:.4g} {r['difference']:+.2%}"
            )
        keep()
    if "spekpy" in chosen:
        report["spekpy"], result = against_spekpy(n)
        keep()
        if options.plot is not None:
            energies, theirs = spekpy_spectrum(100.0, 12.0)
            at = np.linspace(-20.0, 20.0, 21)
            heel = np.array([above_15_kev(*spekpy_spectrum(100.0, 12.0, float(x))) for x in at])
            figure = tube_figure(
                result, spectrum=(energies, theirs / 0.5), heel=(at, heel / heel[10]), name="SpekPy (casim)"
            )
            save_figure(figure, options.plot)
    if "qualities" in chosen:
        report["qualities"] = qualities(n)
        keep()
    if "backscatter" in chosen:
        report["backscatter"] = backscatter(n)
        keep()
    if "yields" in chosen:
        report["yields"] = yields()
        keep()
    for name, part in (("emissions", emissions), ("face", face), ("start", start)):
        if name in chosen:
            report[name] = part(n)
            keep()


if __name__ == "__main__":
    main()
