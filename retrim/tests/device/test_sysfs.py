"""Readers of the system's files, on fake trees."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from retrim.device import cpufreq, power_supply, powercap, thermal
from retrim.device.probe import probe, signals, this
from retrim.errors import DeviceError

Grow = Callable[..., Path]

SILENCE = [errno.ENODATA, errno.ENODEV, errno.EBUSY, errno.EAGAIN, errno.EIO]


@contextmanager
def failing(number: int, *paths: Path) -> Iterator[None]:
    """Files that are there, but whose drivers answer with an error."""
    read = Path.read_text

    def answer(path: Path, *arguments: str, **options: str) -> str:
        if path in paths:
            raise OSError(number, os.strerror(number))
        return read(path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "read_text", answer)
        yield


CPUFREQ, BAT = "devices/system/cpu/cpufreq/policy0", "class/power_supply/BAT0"
ZONE, RAPL = "class/thermal/thermal_zone0", "class/powercap/intel-rapl:0"


def test_clocks(grow: Grow, policy: Mapping[str, str]) -> None:
    parent = "devices/system/cpu/cpufreq"
    root = grow({f"{parent}/policy10": policy, f"{parent}/policy4": policy})
    found = cpufreq.policies(root)
    assert [policy.name for policy in found] == ["policy0", "policy4", "policy10"]
    one = found[0]
    assert (one.mhz, one.least_mhz, one.most_mhz, one.cpus) == (1000, 400, 1400, (0, 1, 2, 3))
    assert one.available_mhz == (400, 1000, 1400)
    assert one.governor == "schedutil"


def test_a_clock_that_moves_in_mid_run(grow: Grow) -> None:
    (before,) = cpufreq.policies(grow())
    assert cpufreq.changed([before], [before]) is None
    assert cpufreq.changed([before], [replace(before, mhz=1003)]) is None
    assert cpufreq.changed([before], []) is None
    assert cpufreq.changed([before], [replace(before, mhz=600)]) == (
        "the clock of policy0 changed in mid-run, from 1000 to 600 MHz: these times mix clocks; set its governor to "
        "`performance` or `userspace` and measure again"
    )


def test_batteries(grow: Grow) -> None:
    (found,) = power_supply.batteries(grow())
    assert (found.name, found.status, found.fraction, found.volts) == ("BAT0", "Discharging", 0.63, 3.8)
    assert found.milliwatts == pytest.approx(1900)
    assert found.full_mwh == pytest.approx(14800)


def test_batteries_by_energy(grow: Grow) -> None:
    root = grow(
        {
            BAT: {
                "capacity": None,
                "current_now": None,
                "charge_full": None,
                "energy_now": "25000000",
                "energy_full": "50000000",
                "power_now": "7500000",
            }
        }
    )
    (found,) = power_supply.batteries(root)
    assert (found.fraction, found.milliwatts, found.full_mwh) == (0.5, 7500, 50000)


def test_a_battery_that_says_little(grow: Grow) -> None:
    bare = {"status": None, "voltage_now": None, "charge_full": None, "voltage_min_design": None}
    (found,) = power_supply.batteries(grow({BAT: bare}))
    assert (found.status, found.volts, found.milliwatts, found.full_mwh) == ("Unknown", None, None, None)


def test_batteries_of_others_do_not_count(grow: Grow) -> None:
    root = grow({BAT: {"scope": "Device"}, "class/power_supply/BAT1": {"type": "Battery", "present": "0"}})
    assert power_supply.batteries(root) == []


def test_temperatures_and_energy(grow: Grow) -> None:
    root = grow()
    (zone,) = thermal.zones(root)
    assert (zone.name, zone.kind, zone.temp_c) == ("thermal_zone0", "cpu-thermal", 48.5)
    (before,) = powercap.counters(root)
    assert (before.domain, before.microjoules) == ("package-0", 2_500_000)
    after = replace(before, microjoules=4_500_000)
    assert powercap.milliwatts(before, after, 2.0) == 1000
    # it began anew at 10 J
    assert powercap.milliwatts(before, replace(before, microjoules=500_000), 4.0) == 2000
    with pytest.raises(DeviceError, match="two readings must be of one counter with time between them"):
        powercap.milliwatts(before, after, 0.0)


@pytest.mark.parametrize(
    ("folder", "file", "text", "sentence"),
    [
        (BAT, "capacity", "250", "must hold a percentage from 0 to 100, not '250'"),
        (BAT, "capacity", "-1", "must hold a percentage from 0 to 100, not '-1'"),
        (BAT, "capacity", "nan", "must hold a percentage from 0 to 100, not 'nan'"),
        (BAT, "capacity", "full", "must hold a percentage from 0 to 100, not 'full'"),
        (BAT, "voltage_now", "0", "must hold microvolts from 1e+06 to 1e+08, not '0'"),
        (ZONE, "temp", "-274000", "must hold millidegrees Celsius from -50000 to 200000, not '-274000'"),
        (CPUFREQ, "scaling_cur_freq", "0", "must hold kilohertz from 1 to 1e+07, not '0'"),
        (RAPL, "energy_uj", "99999999", "must hold microjoules from 0 to 1e+07, not '99999999'"),
    ],
)
def test_absurd_files(grow: Grow, folder: str, file: str, text: str, sentence: str) -> None:
    root = grow({folder: {file: text}})
    path = str(root / folder / file)
    remedy = "the driver is at fault, or the file is another one"
    expected = f"file {path!r} {sentence}: {remedy}"
    found = probe(root)
    assert expected in found["missing"].values()
    # what can be read is read all the same
    assert sum(bool(found[name]) for name in ("cpufreq", "power_supply", "thermal", "powercap")) == 3
    if folder != RAPL:
        with pytest.raises(DeviceError) as error:
            signals(root)
        assert str(error.value) == expected


def test_other_damage(grow: Grow) -> None:
    root = grow({CPUFREQ: {"related_cpus": "zero"}})
    with pytest.raises(DeviceError, match="must list processors by number, not 'zero'"):
        cpufreq.policies(root)
    grow({CPUFREQ: {"scaling_available_frequencies": "fast"}})
    with pytest.raises(DeviceError, match="must list kilohertz, not 'fast'"):
        cpufreq.policies(root)
    grow({CPUFREQ: {"cpuinfo_min_freq": "2000000"}})
    with pytest.raises(
        DeviceError, match="must rise from cpuinfo_min_freq to cpuinfo_max_freq, not from 2000 to 1400"
    ):
        cpufreq.policies(root)
    grow({CPUFREQ: {"scaling_governor": ""}})
    with pytest.raises(DeviceError, match="must say something, but is empty"):
        cpufreq.policies(root)


def test_a_battery_without_a_charge(grow: Grow) -> None:
    root = grow({BAT: {"capacity": None}})
    with pytest.raises(DeviceError) as error:
        power_supply.batteries(root)
    assert str(error.value) == (
        f"battery {str(root / BAT)!r} must say its charge in `capacity`, or in `energy_now` and `energy_full`, but "
        "says neither: name another root, or give the charge yourself"
    )


def test_a_missing_file(grow: Grow) -> None:
    root = grow({CPUFREQ: {"scaling_cur_freq": None}})
    path = str(root / CPUFREQ / "scaling_cur_freq")
    with pytest.raises(DeviceError) as error:
        cpufreq.policies(root)
    assert str(error.value) == f"file {path!r} must be one that can be read: No such file or directory"


@pytest.mark.parametrize("number", SILENCE)
def test_what_is_switched_off_is_left_out(grow: Grow, policy: Mapping[str, str], number: int) -> None:
    other = "devices/system/cpu/cpufreq/policy4"
    root = grow(
        {
            other: {**policy, "cpuinfo_max_freq": "2000000"},
            "class/thermal/thermal_zone1": {"type": "wifi", "temp": "99000"},
            "class/power_supply/BAT1": {"type": "Battery", "capacity": "20"},
            "class/powercap/intel-rapl:1": {
                "name": "package-1",
                "energy_uj": "1",
                "max_energy_range_uj": "10",
            },
        }
    )
    files = ("thermal/thermal_zone1/temp", "power_supply/BAT1/capacity", "powercap/intel-rapl:1/energy_uj")
    with failing(number, root / other / "scaling_cur_freq", *(root / "class" / file for file in files)):
        assert [one.name for one in cpufreq.policies(root)] == ["policy0"]
        assert [one.name for one in thermal.zones(root)] == ["thermal_zone0"]
        assert [one.name for one in power_supply.batteries(root)] == ["BAT0"]
        assert [one.name for one in powercap.counters(root)] == ["intel-rapl:0"]
        found = signals(root)
    assert (found.battery, found.freq_mhz, found.temp_c) == (0.63, 1000, 48.5)
    assert signals(root).temp_c == 99


def test_a_battery_whose_driver_says_less(grow: Grow) -> None:
    root = grow({BAT: {"energy_full": "40000000", "energy_now": "10000000"}})
    whole = power_supply.batteries(root)[0]
    quiet = ("status", "capacity", "voltage_now", "current_now")
    with failing(errno.ENODATA, *(root / BAT / name for name in quiet)):
        (found,) = power_supply.batteries(root)
    assert found == replace(whole, status="Unknown", fraction=0.25, volts=None, milliwatts=None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_for_root_alone(grow: Grow) -> None:
    root = grow()
    (root / RAPL / "energy_uj").chmod(0)
    with pytest.raises(DeviceError, match="run as root, or let root make it readable"):
        powercap.counters(root)


def test_probe_finds_everything(grow: Grow) -> None:
    found = probe(grow())
    assert found["missing"] == {}
    assert found["cpufreq"][0]["mhz"] == 1000
    assert found["power_supply"][0]["fraction"] == 0.63


def test_probe_of_nothing(tmp_path: Path) -> None:
    found = probe(tmp_path)
    assert found["missing"]["cpufreq"] == f"no cpufreq in {str(tmp_path / 'devices/system/cpu/cpufreq')!r}"
    assert sorted(found["missing"]) == ["cpufreq", "power_supply", "powercap", "thermal"]
    with pytest.raises(DeviceError, match="root must be a folder laid out like /sys, not"):
        probe(tmp_path / "none")


def test_this_machine_as_a_device(grow: Grow, tmp_path: Path) -> None:
    device = this(grow())
    (cluster,) = device.clusters
    assert [point.mhz for point in cluster.points] == [400, 1000, 1400]
    assert (cluster.name, cluster.cores) == ("policy0", 4)
    assert device.battery is not None and device.battery.capacity_mwh == pytest.approx(14800)
    with pytest.raises(DeviceError, match="neither a model nor a measurement"):
        cluster.busy_mw(400)


def test_a_driver_without_a_list_of_clocks(grow: Grow) -> None:
    device = this(grow({CPUFREQ: {"scaling_available_frequencies": None}}))
    assert [point.mhz for point in device.clusters[0].points] == [400, 1400]


def test_no_machine_to_be_seen(tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as error:
        this(tmp_path)
    assert str(error.value) == (
        f"folder {str(tmp_path / 'devices/system/cpu/cpufreq')!r} must have cpufreq policies, but has none (a virtual "
        "machine?): name a built-in device (`retrim device list`), or --root"
    )


def test_signals(grow: Grow, policy: Mapping[str, str]) -> None:
    root = grow({"class/thermal/thermal_zone1": {"type": "gpu", "temp": "61000"}})
    found = signals(root, latency_p99_ms=12.0, queue=3)
    assert (found.battery, found.freq_mhz, found.temp_c) == (0.63, 1000, 61)
    assert (found.latency_p99_ms, found.queue) == (12, 3)
    with pytest.raises(DeviceError, match="cluster must be one of policy0, not 'policy7'"):
        signals(root, cluster="policy7")
    fast = {
        "cpuinfo_max_freq": "2000000",
        "scaling_cur_freq": "1700000",
        "scaling_available_frequencies": "2000000 400000",
    }
    grow({CPUFREQ: fast, "devices/system/cpu/cpufreq/policy4": dict(policy)})
    assert signals(root).freq_mhz == 1700  # of the fastest
    assert signals(root, cluster="policy4").freq_mhz == 1000
    assert this(root).cluster().name == "policy0"


def test_the_least_charged_battery_counts(grow: Grow) -> None:
    root = grow({"class/power_supply/BAT1": {"type": "Battery", "capacity": "20"}})
    assert signals(root).battery == 0.2


def test_signals_without_a_battery_or_without_a_clock(grow: Grow) -> None:
    root = grow({BAT: None})
    assert signals(root).battery is None and signals(root).freq_mhz == 1000


def test_a_policy_where_there_is_no_clock(grow: Grow) -> None:
    root = grow({CPUFREQ: None})
    with pytest.raises(DeviceError) as error:
        signals(root, cluster="nosuch")
    assert str(error.value) == "cluster must be left out where no clock can be read, not be 'nosuch'"


def test_signals_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as error:
        signals(tmp_path)
    assert str(error.value) == (
        f"folder {str(tmp_path)!r} must have a battery (class/power_supply) or a clock (cpufreq) to govern by, but has "
        "neither: `retrim simulate` shows what the governor would do on a device"
    )
