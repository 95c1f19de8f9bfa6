"""AAPM Task Group 195, cases 1 (half-value layers) and 2 (radiography, tomosynthesis).

I. Sechopoulos et al., "Monte Carlo reference data sets for imaging research", AAPM
Report 195, Med. Phys. 42 (2015) 5679, doi:10.1118/1.4928676.  Four codes' results are
compared with: their mean, and the spread of single codes around it.

    python experiments/tg195.py --json experiments/results/tg195.json
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from reference_folder import require

from conebeam.host import host
from conebeam.job import Job
from conebeam.provenance import provenance
from conebeam.result import Result
from conebeam.run import Engine
from conebeam.scene import Scene

CODES = ("EGSnrc", "Geant4", "MCNP", "Penelope")
AIR = {
    "density_g_cm3": 1.205e-3,
    "fractions": {"C": 0.000124, "N": 0.755268, "O": 0.231781, "Ar": 0.012827},
}
SOFT_TISSUE = {
    "density_g_cm3": 1.03,
    "fractions": {
        "H": 0.105, "C": 0.256, "N": 0.027, "O": 0.602, "Na": 0.001, "P": 0.002, "S": 0.003, "Cl": 0.002,
        "K": 0.002,
    },
}  # fmt: skip
# Thickness of aluminium, cm: half- and quarter-value layer of each beam.
FILTERS = {
    "30 keV": (0.2273, 0.4546), "100 keV": (1.511, 3.022),
    "30 kVp": (0.03431, 0.07663), "100 kVp": (0.3950, 0.9840),
}  # fmt: skip
CUBES = {
    "VOI 1": (0, -15, 0), "VOI 2": (-15, 0, 0), "VOI 3": (0, 0, 0), "VOI 4": (15, 0, 0), "VOI 5": (0, 15, 0),
    "VOI 6": (0, 0, -6), "VOI 7": (0, 0, -3), "VOI 8": (0, 0, 3), "VOI 9": (0, 0, 6),
}  # fmt: skip
TOTAL = "Total body"
BODY_CENTRE_CM = 165.0
HVL_LIMIT, TOTAL_LIMIT, CUBE_LIMIT = 0.005, 0.005, 0.02


def spectrum(beam: str, folder: Path) -> dict[str, Any]:
    """A beam such as ``30 keV`` or ``120 kVp`` as a scene has it."""
    number, unit = beam.split()
    if unit == "keV":
        return {"kind": "mono", "energy_kev": float(number)}
    return {"kind": "csv", "file": str(folder / f"TG195_{number}KV_spectrum.csv"), "bins": "centres"}


def run(scene: Scene, threads: int) -> Result:
    """All batches of a scene."""
    engine = Engine(scene, threads)
    versions = {**engine.versions, **scene.digests()}
    origin = provenance(scene=scene.to_toml(), seed=scene.seed, versions=versions)
    return Job(runner=engine, plan=scene.plan(), provenance=origin).run()


def beam_in_air(beam: str, filter_cm: float, folder: Path, histories: int) -> Scene:
    """Case 1: a disc of 1 cm at 100 cm behind a disc of aluminium, all in air."""
    room = {"kind": "box", "name": "room", "material": "TG-195 air", "size_cm": (40, 40, 220)}
    sheet = {
        "kind": "cylinder", "name": "filter", "material": "Al", "radius_cm": 1.0, "height_cm": filter_cm,
        "centre_cm": (0.0, 0.0, 10.0 + 0.5 * filter_cm), "priority": 1,
    }  # fmt: skip
    disc = {"kind": "circle", "centre_cm": (0.0, 0.0, 100.0), "diameter_cm": 1.0}
    return Scene(
        histories=histories,
        materials={"TG-195 air": AIR},
        source={
            "kind": "point", "position_cm": (0.0, 0.0, 0.0), "field": disc, "spectrum": spectrum(beam, folder),
        },
        cells=[room, sheet] if filter_cm > 0.0 else [room],
        scorers=[{"kind": "air_kerma", "plane": disc, "muen_csv": str(folder / "TG195_muen_air.csv")}],
    )  # fmt: skip


def body_in_air(beam: str, mode: str, folder: Path, histories: int) -> Scene:
    """Case 2: a soft-tissue box in air, nine cubes in it."""
    back = 180.0 * math.tan(math.radians(15.0)) if mode == "tomosynthesis" else 0.0
    regions = [region(TOTAL, (0, 0, 0), (39.0, 39.0, 20.0))]
    regions += [region(name, centre, (3.0, 3.0, 3.0)) for name, centre in CUBES.items()]
    return Scene(
        histories=histories,
        materials={"TG-195 air": AIR, "TG-195 soft tissue": SOFT_TISSUE},
        source={
            "kind": "point", "position_cm": (0.0, -back, 0.0), "spectrum": spectrum(beam, folder),
            "field": {
                "kind": "rectangle", "centre_cm": (0.0, 0.0, 180.0), "width_cm": 39.0, "height_cm": 39.0,
            },
        },
        cells=[
            {
                "kind": "box", "name": "room", "material": "TG-195 air", "size_cm": (240, 240, 240),
                "centre_cm": (0.0, 0.0, 100.0),
            },
            {
                "kind": "box", "name": "body", "material": "TG-195 soft tissue", "size_cm": (39, 39, 20),
                "centre_cm": (0.0, 0.0, BODY_CENTRE_CM), "priority": 1,
            },
        ],
        scorers=[{"kind": "energy", "name": "body", "regions": regions}],
    )  # fmt: skip


def region(name: str, centre: tuple[float, float, float], size: tuple[float, float, float]) -> dict[str, Any]:
    """A box about a centre that is relative to the body's."""
    middle = (centre[0], centre[1], centre[2] + BODY_CENTRE_CM)
    return {
        "name": name,
        **{f"{a}_cm": (c - 0.5 * s, c + 0.5 * s) for a, c, s in zip("xyz", middle, size, strict=True)},
    }


def row(
    case: str, item: str, beam: str, ours: float, sigma: float, codes: list[float], limit: float
) -> dict[str, Any]:
    """One comparison; ``sigma`` is relative."""
    mean = float(np.mean(codes))
    difference = ours / mean - 1.0
    return {
        "case": case, "item": item, "beam": beam, "ours": ours, "sigma": sigma, "codes": codes, "mean": mean,
        "spread": max(abs(c / mean - 1.0) for c in codes), "difference": difference, "limit": limit,
        "passes": abs(difference) <= limit,
    }  # fmt: skip


def case_1(
    folder: Path, published: list[dict[str, str]], histories: int, threads: int
) -> list[dict[str, Any]]:
    """Kerma behind half- and quarter-value layers, relative to none."""
    rows = []
    for beam, (half, quarter) in FILTERS.items():
        kermas = [
            run(beam_in_air(beam, cm, folder, histories), threads)["air kerma"] for cm in (0.0, half, quarter)
        ]
        for item, kerma in zip(("HVL", "QVL"), kermas[1:], strict=True):
            ratio = float(kerma.values[0] / kermas[0].values[0])
            sigma = float(np.hypot(kerma.sigma[0], kermas[0].sigma[0]))
            codes = values(published, "Case 1 HVL", item, beam)
            rows.append(row("1", item, beam, ratio, sigma, codes, HVL_LIMIT))
            show(rows[-1])
    return rows


def case_2(
    folder: Path, published: list[dict[str, str]], histories: int, threads: int
) -> list[dict[str, Any]]:
    """Energy in the body and nine cubes, eV per photon."""
    rows = []
    for beam in ("56.4 keV", "120 kVp"):
        for mode in ("radiography", "tomosynthesis"):
            energy = run(body_in_air(beam, mode, folder, histories), threads)["body"]
            for item, kev, sigma in zip((TOTAL, *CUBES), energy.values, energy.sigma, strict=True):
                codes = values(published, "Case 2", item, beam, mode)
                limit = TOTAL_LIMIT if item == TOTAL else CUBE_LIMIT
                rows.append(row(f"2 {mode}", item, beam, 1e3 * float(kev), float(sigma), codes, limit))
                show(rows[-1])
    return rows


def values(published: list[dict[str, str]], case: str, item: str, beam: str, mode: str = "") -> list[float]:
    """The four codes' values."""
    (found,) = [
        r for r in published
        if (r["Case"], r["Volume"], r["Specter"]) == (case, item, beam) and mode in r["Mode"]
    ]  # fmt: skip
    return [float(found[f"{code}_Result"]) for code in CODES]


def show(r: dict[str, Any]) -> None:
    """One line."""
    print(
        f"case {r['case']:15s} {r['beam']:9s} {r['item']:10s} ours {r['ours']:11.5g} ±{r['sigma']:.2%}  "
        f"mean of four {r['mean']:11.5g} (spread {r['spread']:.2%})  {r['difference']:+.2%}"
        f"{'' if r['passes'] else '  MISSED'}",
        flush=True,
    )


def main() -> None:
    """Run both cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case-1-histories", type=float, default=6e6)
    parser.add_argument("--case-2-histories", type=float, default=4e7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    made_by = host()
    folder = require("tg195")
    with (folder / "results_case1_case2.csv").open(encoding="utf-8-sig", newline="") as file:
        published = list(csv.DictReader(file))
    rows = case_1(folder, published, int(options.case_1_histories), options.threads)
    rows += case_2(folder, published, int(options.case_2_histories), options.threads)
    print(f"{sum(r['passes'] for r in rows)} of {len(rows)} within their limits")
    if options.json is not None:
        report = {
            "host": made_by, "case_1_histories": int(options.case_1_histories),
            "case_2_histories": int(options.case_2_histories), "rows": rows,
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
