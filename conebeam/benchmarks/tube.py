"""The x-ray tube: electrons per CPU second, and CPU seconds to 1 % of the fluence above 15 keV.

Times are the thread's own clock, tables and compilation left out.  BEAMnrc on another machine:
40 k electrons/s analog, 498 CPU s to 1 % with directional splitting.

    python benchmarks/tube.py --json benchmarks/results/tube.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from conebeam.histories import tube_scores as scores
from conebeam.host import host
from conebeam.tube.emission import Analog, Emission, Expected
from conebeam.tube.model import View, XrayTube
from conebeam.tube.run import run_tube_job

CENTRE = View(field_cm=2.0, with_heel=False)
WIDE = View(field_cm=50.0, with_heel=False)
CASES: tuple[tuple[str, float, Emission, View, int, int], ...] = (
    ("analog, 5 keV cuts", 5.0, Analog(), View(field_cm=10.0, distance_cm=1.1, with_heel=False), 200_000, -1),
    ("expected, aimed at 2x2 cm", 15.0, Expected(), CENTRE, 20_000, scores.FIELD),
    ("expected, aimed at 2x2 cm, 5 keV cuts", 5.0, Expected(), CENTRE, 20_000, scores.FIELD),
    ("expected, spread over 50x50 cm, 64 points", 15.0, Expected(points=64.0), WIDE, 60_000, scores.CENTRE),
)


def measure(
    name: str, cut: float, emission: Emission, view: View, electrons: int, region: int, repeats: int
) -> dict[str, Any]:
    """Best rate of several runs; variance averaged over them."""
    tube = XrayTube.of(kvp=100.0, elastic="sr", cut_kev=cut)
    runs = [
        run_tube_job(tube, view, electrons=electrons, emission=emission, seed=seed)
        for seed in range(1, repeats + 1)
    ]
    rate = max(r.electrons / r.cpu_seconds for r in runs)
    row: dict[str, Any] = {"case": name, "electrons_per_cpu_second": rate}
    if region >= 0:
        variance = sum(r.total(region)[1] ** 2 for r in runs) / repeats
        row["cpu_seconds_to_1_percent"] = variance / 1e-4 * electrons / rate
    return row


def main() -> None:
    """Run all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(*case, options.repeats) for case in CASES]
    for row in rows:
        needed = row.get("cpu_seconds_to_1_percent")
        print(
            f"{row['case']:40s} {row['electrons_per_cpu_second']:10,.0f} electrons/s"
            + ("" if needed is None else f"  {needed:8.3f} CPU s to 1 %")
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"host": host(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
