"""Write the built-in device profiles from their sources, so that no number in them is typed by hand.

    python retrim/experiments/device_profiles.py [--data FOLDER] [--check]

Sources: Linux device trees (operating points of the Exynos 5422), results/a15-power.json (fit of
a15_power.py), kdrag0n/freqbench (power and CoreMark of two phones, MIT).  What each number means:
docs/retrim/device.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE.parent / "src" / "retrim" / "device" / "profiles"
TREES = "torvalds/linux@6cc0d5f4a9a5 arch/arm/boot/dts/samsung/exynos5800.dtsi, exynos5422-cpus.dtsi: points, volts"
VFP = (
    "wlog.flatlib.jp 2014-02-14, measured fp32 NEON operations per cycle: A7 2, A15 8 (a multiply-add is two)"
)
PIPES = "fp32 at best, from the width of the SIMD pipes (A55 2 x 64 bits, A76 2 x 128 bits); nobody measured it here"
BOARD = "a choice: the board has none; 5000 mAh at 3.7 V"
STEADY = 0.1  # of the median of CoreMarks per MHz: what deviates by more did not run at its frequency

PHONES: dict[str, dict[str, Any]] = {
    "pixel-5": {
        "title": "Google Pixel 5 (Snapdragon 765G), power measured by freqbench, one busy core",
        "results": "sm7250ab/new",
        "volts": "sm7250ab/voltages.txt",
        "clusters": {"1": ("little", 6, 4.0), "6": ("big", 1, 8.0), "7": ("prime", 1, 8.0)},
        "battery": (15504, "maker's 4080 mAh at a nominal 3.8 V"),
    },
    "rog-phone-2": {
        "title": "Asus ROG Phone II (Snapdragon 855+), power measured by freqbench, one busy core",
        "results": "sm8150ac/new",
        "volts": "sm8150ac/voltages.txt",
        "clusters": {"1": ("little", 4, 4.0), "4": ("big", 3, 8.0), "7": ("prime", 1, 8.0)},
        "battery": (22800, "maker's 6000 mAh at a nominal 3.8 V"),
    },
}


def boards(data: Path) -> dict[str, str]:
    """The two clusters of the Odroid-XU3, a device each."""
    points: dict[str, list[str]] = {"A7": [], "A15": []}
    with (data / "opp" / "exynos5422_opp.csv").open(newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            volts = int(row["microvolt"]) / 1e6
            points[row["cluster"]].append(f"{{ mhz = {row['freq_mhz']}, volts = {volts:g} }}")
    fit = json.loads((HERE / "results" / "a15-power.json").read_text())
    a15 = {name: round(value, 1) for name, value in fit["coefficients"].items()}
    error = f"{fit['held_out']['mean_absolute']:.1%}"
    return {
        "odroid-xu3-a7": _file(
            "odroid-xu3-a7",
            "Odroid-XU3 (Exynos 5422), Cortex-A7 cluster",
            (18500, BOARD),
            [_cluster("A7", 4, [TREES, "power: dynamic-power-coefficient 90 of that file", VFP], 1.0, points["A7"],
                      {"core_uw_per_mhz_v2": 90.0})],
            ["Nobody measured this cluster's static power: it is 0 here, and `retrim simulate` sweeps it."],
        ),
        "odroid-xu3-a15": _file(
            "odroid-xu3-a15",
            "Odroid-XU3 (Exynos 5422), Cortex-A15 cluster",
            (18500, BOARD),
            [_cluster("A15", 4, [TREES, "power: fitted to kranik/ARMPM_BUILDMODEL by a15_power.py", VFP], 4.0,
                      points["A15"], a15)],
            [
                f"Mean error of the power model on programs and frequencies it was not fitted to: {error}.",
                "The measurements do not tell static from shared dynamic power; the fit puts all into the latter.",
            ],
        ),
    }  # fmt: skip


def phone(data: Path, name: str) -> str:
    """One phone, measured milliwatts at each frequency of each cluster."""
    spec = PHONES[name]
    folder = data / "freqbench" / "results"
    volts = dict(item.split("=") for item in (folder / spec["volts"]).read_text().split())
    with (folder / spec["results"] / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    clusters, notes = [], []
    for cpu, (cluster, cores, macs) in spec["clusters"].items():
        mine = [row for row in rows if row["CPU"] == cpu]
        usual = statistics.median(float(row["CoreMarks/MHz"]) for row in mine)
        points = []
        for row in mine:
            mhz, mw = int(row["Frequency (kHz)"]) / 1000, float(row["Power (mW)"])
            if abs(float(row["CoreMarks/MHz"]) / usual - 1) > STEADY:
                notes.append(
                    f"{cluster}: {mhz:g} MHz is left out, for it ran {float(row['CoreMarks/MHz']):.2f} CoreMarks per MHz "
                    f"against {usual:.2f} elsewhere"
                )
                continue
            v = int(volts[f"{cpu}.{row['Frequency (kHz)']}"]) / 1e6
            points.append(f"{{ mhz = {mhz:g}, volts = {v:g}, milliwatts = {mw:.1f} }}")
        source = f"kdrag0n/freqbench results/{spec['results']}: mW above the idle phone, CoreMark on one core"
        clusters.append(
            _cluster(cluster, cores, [source, f"{usual:.2f} CoreMarks per MHz", PIPES], macs, points)
        )
    notes.append("Power of more than one busy core, and of a waiting one, was not measured.")
    return _file(name, spec["title"], spec["battery"], clusters, notes)


def _file(name: str, title: str, battery: tuple[float, str], clusters: list[str], notes: list[str]) -> str:
    lines = ",\n".join(f"  {json.dumps(note)}" for note in notes)
    head = (
        f'format = "retrim-device"\nversion = 1\nname = "{name}"\ntitle = "{title}"\nnotes = [\n{lines},\n]\n'
    )
    mwh, source = battery
    return (
        f"# written by retrim/experiments/device_profiles.py\n{head}\n[battery]\ncapacity_mwh = {mwh}\n"
        f'source = "{source}"\n' + "".join(clusters)
    )


def _cluster(
    name: str,
    cores: int,
    sources: list[str],
    macs: float,
    points: list[str],
    power: dict[str, float] | None = None,
) -> str:
    texts = ",\n".join(f"  {json.dumps(source)}" for source in sources)
    model = "" if power is None else f"power = {{ {', '.join(f'{k} = {v}' for k, v in power.items())} }}\n"
    rows = ",\n".join(f"  {point}" for point in points)
    return (
        f'\n[[cluster]]\nname = "{name}"\ncores = {cores}\nsources = [\n{texts},\n]\n'
        f"macs_per_cycle = {{ fp32 = {macs} }}\n{model}points = [\n{rows},\n]\n"
    )


def main() -> None:
    """Write the files, or see that they are what their sources say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    root = Path(os.environ.get("RETRIM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=root / "device")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    options = parser.parse_args()
    found = boards(options.data) | {name: phone(options.data, name) for name in PHONES}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in found.items():
        path = FOLDER / f"{name}.toml"
        if not options.check:
            path.write_text(text)
        same = path.read_text() == text
        print(f"{path.name}: {'as its sources say' if same else 'differs from its sources'}")
        if not same:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
