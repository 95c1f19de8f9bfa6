"""Write docs/conebeam/validation.md from the result files.

python experiments/report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "conebeam" / "validation.md"


def table(headers: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def made(report: dict[str, Any]) -> str:
    """Where a report was made."""
    host = report["host"]
    return (
        f"Made on {host['processor']} with {host['cores']} cores, Numba {host['versions']['numba']}, "
        f"commit {host['commit']}." + "".join(f"\n\n*Note.* {note}" for note in report.get("notes", []))
    )


def water(report: dict[str, Any]) -> str:
    """Dose in water, speed."""
    rows = []
    items = (
        ("worst_excess_2x2_to_10cm", "2×2 cm column to 10 cm: largest excess", "≤ 1 %"),
        ("mean_difference_2x2_to_10cm", "2×2 cm column to 10 cm: mean difference", "≤ 0.3 %"),
        ("excess_6x6_at_20cm", "6×6 cm column at 20 cm: excess", "≤ 2 %"),
        (
            "profile_share_within_1pct",
            "profiles at 1, 2, 5, 10 cm: points within 1 % of the axis value",
            "≥ 95 %",
        ),
        ("profile_worst_excess", "profiles: largest excess", "≤ 2 %"),
    )
    for key, name, limit in items:
        values = [f"{100 * report['accuracy'][case][key]:+.2f} %" for case in ("60keV", "100kVp")]
        rows.append([name, limit, *values])
    text = [
        "## Dose in water against DOSXYZnrc", "",
        f"{report['histories']:,} histories each. The excess of a point is |d| − 2√(σ₁² + σ₂²), d = ours/reference − 1.",
        "", table(["", "limit", "60 keV", "100 kVp"], rows), "",
    ]  # fmt: skip
    speed, start, scaling = (report.get(k, {}) for k in ("speed", "startup", "scaling"))
    rows = []
    if speed:
        rows += [
            ["histories per CPU second, one thread, 60 keV, whole grid", "≥ 1,000,000",
             f"{speed['histories_per_cpu_second']:,.0f}"],
            ["efficiency 1/(σ²T), 2×2 column at 1 cm, 1/s", "≥ 20,900", f"{speed['efficiency_per_cpu_second']:,.0f}"],
            ["times DOSXYZnrc (1,042)", "≥ 20", f"{speed['times_dosxyznrc']:.1f}"],
        ]  # fmt: skip
    if scaling:
        rows.append(["two threads against one, wall clock", "≥ 1.8", f"{scaling['gain']:.2f}"])
    if start:
        for key, name, limit in (("cold", "nothing cached", "≤ 15"), ("warm again", "all cached", "≤ 2")):
            cpu = start.get(f"{key}_cpu_seconds", float("nan"))
            rows.append(
                [f"first result, {name}, s", limit, f"{start[f'{key}_seconds']:.1f} ({cpu:.1f} CPU s)"]
            )
    for name, value in report.get("memory_gib", {}).items():
        limit = "≤ 2" if "grid" in name else "≤ 4"
        rows.append([f"peak memory, 512×512×256, {name.replace('_', ' ')}, GiB", limit, f"{value:.2f}"])
    load = report["host"]["load"]
    text += [
        f"Speeds are by the thread's own clock, the others by the wall's; load {load:.1f} on "
        f"{report['host']['cores']} cores at the time. DOSXYZnrc's 1,042 was measured on another machine.",
        "", table(["", "limit", "measured"], rows), "", made(report), "",
    ]  # fmt: skip
    return "\n".join(text)


def tg195(report: dict[str, Any]) -> str:
    """The two cases."""
    rows = [
        [
            r["case"], r["beam"], r["item"], f"{r['mean']:.5g}", f"{100 * r['spread']:.2f}", f"{r['ours']:.5g}",
            f"{100 * r['sigma']:.2f}", f"{100 * r['difference']:+.2f}", "yes" if r["passes"] else "**no**",
        ]
        for r in report["rows"]
    ]  # fmt: skip
    headers = [
        "case",
        "beam",
        "item",
        "mean of four",
        "spread %",
        "ours",
        "σ %",
        "difference %",
        "within limit",
    ]
    return "\n".join([
        "## AAPM TG-195, cases 1 and 2", "",
        "Case 1: air kerma behind half- and quarter-value layers, relative to none (limit 0.5 %). Case 2: energy in "
        "eV per photon in a soft-tissue body (0.5 %) and nine cubes of 3 cm in it (2 %). The mean is that of EGSnrc, "
        "Geant4, MCNP and PENELOPE; the spread is the largest deviation of one of them from it. "
        "(Med. Phys. 42 (2015) 5679.)",
        "", table(headers, rows), "", f"{report['case_2_histories']:,} histories a row group. {made(report)}", "",
    ])  # fmt: skip


def tg61(report: dict[str, Any]) -> str:
    """Backscatter factors."""
    rows = [
        [
            f"{r['hvl_mm_al']:g}", f"{r['kvp']:g}", f"{r['ssd_cm']:g}", f"{r['diameter_cm']:g}", f"{r['tg61']:.3f}",
            f"{r['ours']:.3f}", f"{100 * r['sigma']:.2f}", f"{100 * r['difference']:+.2f}",
            "yes" if r["passes"] else "**no**",
        ]
        for r in report["rows"]
    ]  # fmt: skip
    headers = [
        "HVL mm Al",
        "kV",
        "SSD cm",
        "diameter cm",
        "TG-61",
        "ours",
        "σ %",
        "difference %",
        "within 2 %",
    ]
    within = sum(r["passes"] for r in report["rows"])
    return "\n".join([
        "## TG-61 backscatter factors, table 5(b)", "",
        f"{within} of {len(rows)} within 2 %. TG-61 tabulates Bw by half-value layer alone; spectra of one half-value "
        "layer and different voltages differ by about 1 % in Bw. (Med. Phys. 28 (2001) 868.)",
        "", table(headers, rows), "", made(report), "",
    ])  # fmt: skip


def main() -> None:
    """Write the page."""
    parts = [
        "# Validation",
        "",
        "Written by `conebeam/experiments/report.py` from the result files in `conebeam/benchmarks/results` and "
        "`conebeam/experiments/results`, which `benchmarks/water.py`, `experiments/tg195.py` and "
        "`experiments/tg61.py` made.",
        "",
    ]
    for path, section in (
        (HERE.parent / "benchmarks" / "results" / "water.json", water),
        (HERE / "results" / "tg195.json", tg195),
        (HERE / "results" / "tg61.json", tg61),
    ):
        if path.exists():
            parts.append(section(json.loads(path.read_text())))
    PAGE.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
