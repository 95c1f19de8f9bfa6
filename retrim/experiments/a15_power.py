"""Power of the Odroid-XU3's A15 cluster: coefficients of the model, fitted to measurements and tested on others.

    python retrim/experiments/a15_power.py [--data FOLDER] [--json retrim/experiments/results/a15-power.json]

Measurements: kranik/ARMPM_BUILDMODEL (BSD), INA231 sensors, 0.5 s samples.  Fitted to PARSEC and
SPLASH-2 on one and two cores at 1000, 1400 and 1800 MHz; tested on cBench at 1000, 1500 and 2000 MHz:
other programs, other frequencies, another day, some 20 K warmer.  The method: docs/retrim/device.md.
"""

from __future__ import annotations

import argparse
import csv
import os
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from retrim.device import PowerModel, find

HERE = Path(__file__).parent
FITTED = ("xu3_cset_perfcpu_PARSEC_eMMC_1core_big", "xu3_cset_perfcpu_PARSEC_eMMC_2core_big")
HELD_OUT = ("xu3_cset_perfcpu_cBench_eMMC_big",)
SECONDS = (0.3, 1.0)  # between two samples of one run


@dataclass(frozen=True)
class Samples:
    """Columns of measurements, each of shape (samples,).

    Attributes
    ----------
    program : ndarray of str
    mhz, volts, milliwatts : ndarray of float64
        `volts` is power over current: the column of voltages is cut to 0.1 V.
    cores : ndarray of float64
        Cycles counted over cycles of one core: how many were busy.
    """

    program: np.ndarray
    mhz: np.ndarray
    volts: np.ndarray
    milliwatts: np.ndarray
    cores: np.ndarray

    def where(self, mask: np.ndarray) -> Samples:
        """Some of the samples."""
        return Samples(*(getattr(self, name)[mask] for name in Samples.__dataclass_fields__))

    @property
    def features(self) -> np.ndarray:
        """What the model's coefficients multiply, shape (samples, 3)."""
        switched = self.mhz * self.volts**2 / 1000
        return np.stack([self.cores * switched, switched, self.volts], axis=1)


def read(folder: Path, names: tuple[str, ...]) -> Samples:
    """Samples that follow another one of the same run, so that their duration is known."""
    parts = [_read(folder / f"{name}.data") for name in names]
    return Samples(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Samples.__dataclass_fields__)
    )


def _read(path: Path) -> Samples:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    program = np.array([row["Benchmark"] for row in rows])
    mhz, run = column("CPU(4) Frequency(MHz)"), column("Run(#)")
    watts, amperes = column("A15 Power(W)"), column("A15 Current(A)")
    seconds = np.diff(column("#Timestamp"), prepend=np.nan) / 1e9
    same = np.zeros(len(rows), bool)
    same[1:] = (program[1:] == program[:-1]) & (mhz[1:] == mhz[:-1]) & (run[1:] == run[:-1])
    usable = same & (seconds > SECONDS[0]) & (seconds < SECONDS[1]) & (amperes > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        cores = column("CPU_CYCLES") / (1e6 * mhz * seconds)
        found = Samples(program, mhz, watts / amperes, 1000 * watts, cores)
    return found.where(usable)


def fit(samples: Samples) -> np.ndarray:
    """Coefficients ≥ 0 that minimise the relative squared error, shape (3,): core, shared, static.

    Of all subsets of columns whose least squares are positive the best one: with three columns that
    is the non-negative least-squares solution.
    """
    a = samples.features / samples.milliwatts[:, None]
    best, least = np.zeros(3), np.inf
    for count in (1, 2, 3):
        for chosen in combinations(range(3), count):
            found, *_ = np.linalg.lstsq(a[:, list(chosen)], np.ones(len(a)), rcond=None)
            loss = float(np.square(a[:, list(chosen)] @ found - 1).sum())
            if (found >= 0).all() and loss < least:
                best, least = np.zeros(3), loss
                best[list(chosen)] = found
    return best


def errors(coefficients: np.ndarray, samples: Samples) -> dict[str, Any]:
    """Relative errors: of samples, and of each frequency's mean power."""
    predicted = samples.features @ coefficients
    relative = predicted / samples.milliwatts - 1
    means = {
        f"{mhz:g}": float(predicted[at].mean() / samples.milliwatts[at].mean() - 1)
        for mhz in np.unique(samples.mhz)
        for at in [samples.mhz == mhz]
    }
    return {
        "samples": len(relative),
        "mean_absolute": float(np.abs(relative).mean()),
        "percentile_95": float(np.percentile(np.abs(relative), 95)),
        "bias": float(relative.mean()),
        "of_means": means,
    }


def at_table_voltages(samples: Samples) -> Samples:
    """The same with the voltages of the device's table in place of the measured ones."""
    points = {point.mhz: point.volts for point in find("odroid-xu3-a15").cluster().points}
    volts = np.array([points[mhz] for mhz in samples.mhz])
    return Samples(samples.program, samples.mhz, volts, samples.milliwatts, samples.cores)


def leave_one_out(samples: Samples) -> dict[str, float]:
    """Mean absolute error of each program where the model was fitted to the others."""
    return {
        str(name): errors(fit(samples.where(~at)), samples.where(at))["mean_absolute"]
        for name in np.unique(samples.program)
        for at in [samples.program == name]
    }


def evaluate(folder: Path) -> dict[str, Any]:
    """Fit, test, and what else there is to know, ready for JSON."""
    fitted, held_out = read(folder, FITTED), read(folder, HELD_OUT)
    found = fit(fitted)
    device_tree = np.array([310.0, 0.0, 0.0])
    return {
        "kind": "experiment",
        "coefficients": dict(zip(PowerModel.__dataclass_fields__, map(float, found), strict=True)),
        "fitted": errors(found, fitted),
        "held_out": errors(found, held_out),
        "held_out_at_table_voltages": errors(found, at_table_voltages(held_out)),
        "held_out_by_device_tree": errors(device_tree, held_out),
        "leave_one_program_out": leave_one_out(fitted),
        "static_without_sign": _free_static(fitted),
        "measured_volts": {
            f"{mhz:g}": float(np.median(part.volts[part.mhz == mhz]))
            for part in (held_out, fitted)
            for mhz in np.unique(part.mhz)
        },
    }


def _free_static(samples: Samples) -> dict[str, float]:
    """The static coefficient where it may be negative, with its standard error over programs (jackknife)."""

    def static(part: Samples) -> float:
        a = part.features / part.milliwatts[:, None]
        return float(np.linalg.lstsq(a, np.ones(len(a)), rcond=None)[0][2])

    names = np.unique(samples.program)
    each = np.array([static(samples.where(samples.program != name)) for name in names])
    error = np.sqrt((len(each) - 1) / len(each) * np.square(each - each.mean()).sum())
    return {"static_ma": static(samples), "standard_error": float(error)}


def main() -> None:
    """Fit, test, write and print."""
    from rich.console import Console
    from rich.table import Table

    from retrim.cli_console import write_json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    root = Path(os.environ.get("RETRIM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=root / "device" / "odroid_xu3_power")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "a15-power.json")
    options = parser.parse_args()
    result = evaluate(options.data)
    write_json(options.json, result)
    console = Console()
    console.print({name: round(value, 3) for name, value in result["coefficients"].items()})
    table = Table("what", "samples", "mean |error|", "95th percentile", "bias", "of mean power, by MHz")
    for name in ("fitted", "held_out", "held_out_at_table_voltages", "held_out_by_device_tree"):
        row = result[name]
        means = ", ".join(f"{mhz}: {value:+.1%}" for mhz, value in row["of_means"].items())
        values = [f"{row[key]:.1%}" for key in ("mean_absolute", "percentile_95", "bias")]
        table.add_row(name.replace("_", " "), str(row["samples"]), *values, means)
    console.print(table)
    console.print(result["static_without_sign"], result["leave_one_program_out"], result["measured_volts"])


if __name__ == "__main__":
    main()
