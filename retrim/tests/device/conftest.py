"""Fake trees of system files, and small devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from retrim.device import Battery, Cluster, OperatingPoint, PowerModel

POLICY = {
    "cpuinfo_min_freq": "400000",
    "cpuinfo_max_freq": "1400000",
    "scaling_cur_freq": "1000000",
    "scaling_available_frequencies": "1400000 1000000 400000 ",
    "scaling_governor": "schedutil",
    "related_cpus": "0 1 2 3",
}
BATTERY = {
    "type": "Battery",
    "status": "Discharging",
    "capacity": "63",
    "voltage_now": "3800000",
    "current_now": "-500000",
    "charge_full": "4000000",
    "voltage_min_design": "3700000",
}
ZONE = {"type": "cpu-thermal", "temp": "48500"}
COUNTER = {"name": "package-0", "energy_uj": "2500000", "max_energy_range_uj": "10000000"}

TREE: dict[str, Mapping[str, str]] = {
    "devices/system/cpu/cpufreq/policy0": POLICY,
    "class/power_supply/BAT0": BATTERY,
    "class/power_supply/AC": {"type": "Mains", "online": "1"},
    "class/thermal/thermal_zone0": ZONE,
    "class/powercap/intel-rapl:0": COUNTER,
}

Grow = Callable[..., Path]


@pytest.fixture
def grow(tmp_path: Path) -> Grow:
    """Makes a tree like /sys; ``{folder: {file: text}}`` changes it, None in place of a text or folder leaves it out."""

    def make(changes: Mapping[str, Mapping[str, str | None] | None] | None = None) -> Path:
        for folder in {**TREE, **(changes or {})}:
            change = (changes or {}).get(folder, {})
            if change is None:
                continue
            files = {**TREE.get(folder, {}), **change}
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                if text is not None:
                    (tmp_path / folder / name).write_text(text + "\n")
        return tmp_path

    return make


@pytest.fixture
def policy() -> Mapping[str, str]:
    """The files of a clock."""
    return POLICY


@pytest.fixture
def cluster() -> Cluster:
    """Three operating points and round numbers: 10, 40 and 160 mW with one busy core, nothing idle."""
    return Cluster(
        name="small",
        cores=2,
        points=tuple(OperatingPoint(mhz=f, volts=v) for f, v in ((100, 0.5), (200, 0.707106781), (400, 1.0))),
        power=PowerModel(core_uw_per_mhz_v2=400.0),
        macs_per_cycle={"fp32": 2.0},
    )


@pytest.fixture
def battery() -> Battery:
    return Battery(capacity_mwh=100.0)
