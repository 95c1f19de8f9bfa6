"""Dose in water: agreement with DOSXYZnrc, speed, start-up time and memory.

Speeds are histories per CPU second of one thread (the thread's own clock, so that
other work on the machine does not count), best of several runs.  The gain by two
threads is wall-clock time and means something on an idle machine only.

    python benchmarks/water.py --json benchmarks/results/water.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from conebeam.compare.water import CASES, WaterVerdict, judge, published, read_reference
from conebeam.dose import Beam, as_json, build_scene
from conebeam.host import host
from conebeam.job import Job
from conebeam.provenance import provenance
from conebeam.run import Engine
from conebeam.water_beams import water_beam

DOSXYZNRC_EFFICIENCY = 1042.0  # per CPU second, 2x2 column at 1 cm, 60 keV; shared reference
AT_1_CM = 2


def accuracy(
    case: str, histories: int, threads: int, folder: Path | None
) -> tuple[WaterVerdict, dict[str, Any]]:
    """One beam against its reference."""
    with water_beam(case) as beam:
        content = dose(beam, histories, threads, seed=1)
    reference = (
        published(case)
        if folder is None
        else read_reference(folder / f"ref_{case}_depth.csv", folder / f"ref_{case}_profiles.csv")
    )
    return judge(content, reference), content


def dose(beam: Beam, histories: int, threads: int, seed: int) -> dict[str, Any]:
    """What ``conebeam dose`` writes."""
    scene = build_scene(beam, histories=histories, seed=seed)
    engine = Engine(scene, threads)
    job = Job(
        runner=engine, plan=scene.plan(),
        provenance=provenance(scene=scene.to_toml(), seed=seed, versions=engine.versions),
    )  # fmt: skip
    started = time.perf_counter()
    result = job.run()
    seconds = time.perf_counter() - started
    return as_json(beam, result, engine.spectrum, seconds=seconds, threads=engine.threads)


def speed(histories: int, repeats: int) -> dict[str, float]:
    """Histories per CPU second and efficiency on one thread, 60 keV, whole grid with σ."""
    runs = [dose(Beam(energy_kev=60.0), histories, 1, seed) for seed in range(1, repeats + 1)]
    rate = max(r["histories"] / r["cpu_seconds"] for r in runs)
    # One run's σ is itself uncertain by 9 % (64 batches): variances are averaged.
    variance = sum(r["sigma"]["2x2"][AT_1_CM] ** 2 for r in runs) / repeats
    efficiency = rate / (variance * histories)
    return {
        "histories_per_cpu_second": rate,
        "efficiency_per_cpu_second": efficiency,
        "times_dosxyznrc": efficiency / DOSXYZNRC_EFFICIENCY,
    }


def scaling(histories: int, repeats: int) -> dict[str, float]:
    """Wall-clock gain by two threads, interleaved, best of several."""
    beam = Beam(energy_kev=60.0)
    times: dict[int, list[float]] = {1: [], 2: []}
    for seed in range(1, repeats + 1):
        for threads in times:
            times[threads].append(dose(beam, histories, threads, seed)["seconds"])
    return {
        "seconds_1_thread": min(times[1]),
        "seconds_2_threads": min(times[2]),
        "gain": min(times[1]) / min(times[2]),
    }


def startup() -> dict[str, float]:
    """Seconds to the first result of ``conebeam dose``: nothing cached, then all."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "CONEBEAM_CACHE": folder}
        environment.pop("NUMBA_CACHE_DIR", None)
        command = [sys.executable, "-m", "conebeam.cli", "dose", "--energy-kev", "60", "--histories", "10000"]
        for name in ("cold", "warm", "warm again"):
            started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[f"{name}_seconds"] = time.perf_counter() - started
            found[f"{name}_cpu_seconds"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found


def memory(full: bool, histories: int) -> float:
    """Peak memory in GiB of a run in a 512×512×256 CT at two threads, in a process of its own."""
    script = Path(__file__).with_name("ct_memory.py")
    done = subprocess.run(
        [sys.executable, str(script), "full" if full else "coarse", str(histories)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


def main() -> None:
    """Run what is asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=float, default=6e7, help="for the comparison, each beam")
    parser.add_argument("--speed-histories", type=float, default=4e6)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--reference", type=Path, help="folder with dosxyznrc's CSV files; the package's own")
    parser.add_argument("--skip", nargs="*", default=[], choices=["speed", "scaling", "startup", "memory"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"host": host(), "histories": int(options.histories), "accuracy": {}}
    for case in CASES:
        verdict, content = accuracy(case, int(options.histories), options.threads, options.reference)
        sigma = content["sigma"]["2x2"][AT_1_CM]
        report["accuracy"][case] = {**verdict.as_dict(), "sigma_2x2_at_1cm": sigma}
        show(case, verdict, sigma)
    if "speed" not in options.skip:
        report["speed"] = speed(int(options.speed_histories), options.repeats)
    if "scaling" not in options.skip:
        report["scaling"] = scaling(int(options.speed_histories), options.repeats)
    if "startup" not in options.skip:
        report["startup"] = startup()
    if "memory" not in options.skip:
        report["memory_gib"] = {
            "ct_with_2.5mm_grid": memory(False, 100_000), "ct_at_full_resolution": memory(True, 100_000),
        }  # fmt: skip
    for part in ("speed", "scaling", "startup", "memory_gib"):
        for name, value in report.get(part, {}).items():
            print(f"{part:12s} {name:32s} {value:14.4g}")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def show(case: str, verdict: WaterVerdict, sigma: float) -> None:
    """The figures of one beam."""
    print(f"{case}: our sigma at 1 cm (2x2) {sigma:.3%}")
    for name, value in (
        ("worst excess, 2x2 to 10 cm", verdict.worst_excess),
        ("mean difference, 2x2 to 10 cm", verdict.mean_difference),
        ("excess, 6x6 at 20 cm", verdict.deep_excess),
        ("profile points within 1 %", verdict.profile_share),
        ("worst excess in profiles", verdict.profile_worst),
    ):
        print(f"  {name:32s} {value:+.3%}")
    for name, passed in verdict.passes.items():
        print(f"  {'met   ' if passed else 'MISSED'} {name}")


if __name__ == "__main__":
    main()
