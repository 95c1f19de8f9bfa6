"""Profiles as files: what ships, and what is refused."""

from __future__ import annotations

import csv
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from retrim.device import find, names, read
from retrim.device.store import parse
from retrim.errors import DeviceError

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
DATA = Path(os.environ.get("RETRIM_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")) / "device"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the devices' measurements are not here: RETRIM_DATA"
)

SMALL = """
format = "retrim-device"
version = 1
name = "board"
title = "A board"
[battery]
capacity_mwh = 1000
[[cluster]]
name = "little"
cores = 4
macs_per_cycle = { fp32 = 1.0 }
power = { core_uw_per_mhz_v2 = 90.0 }
points = [{ mhz = 400, volts = 1.0 }, { mhz = 1400, volts = 1.275 }]
"""


def script(name: str) -> ModuleType:
    """A script of the experiments, which are no package."""
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", EXPERIMENTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_what_ships() -> None:
    assert names() == ["odroid-xu3-a15", "odroid-xu3-a7", "pixel-5", "rog-phone-2"]
    for name in names():
        device = find(name)
        assert device.name == name and device.battery is not None
        for cluster in device.clusters:
            assert cluster.sources and cluster.throughput("fp32") > 0
            assert all(cluster.busy_mw(point.mhz) > 0 for point in cluster.points)


def test_the_a7_is_the_device_trees() -> None:
    a7 = find("odroid-xu3-a7").cluster()
    assert (a7.cores, len(a7.points), a7.top.volts) == (4, 13, 1.275)
    assert a7.power is not None and a7.power.core_uw_per_mhz_v2 == 90 and a7.power.static_ma == 0


def test_the_real_table_falls_once() -> None:
    assert find("odroid-xu3-a15").to_dict()["notes"][-1] == (
        "cluster A15: voltage falls from 1.25 to 1.2375 V between 1700 and 1800 MHz; the table is used as it is"
    )


@needs_data
def test_every_point_is_its_sources() -> None:
    profiles = script("device_profiles")
    found = profiles.boards(DATA) | {name: profiles.phone(DATA, name) for name in profiles.PHONES}
    assert sorted(found) == names()
    for name, text in found.items():
        assert parse(text, name) == find(name)


@needs_data
def test_phones_leave_out_what_did_not_run_at_its_clock() -> None:
    """freqbench on the Pixel 5: 1075.2 MHz of the little cluster ran at 3.12 CoreMarks per MHz, all else at 3.71."""
    with (DATA / "freqbench/results/sm7250ab/new/results.csv").open(newline="") as file:
        rows = {float(row["Frequency (kHz)"]) / 1000 for row in csv.DictReader(file) if row["CPU"] == "1"}
    kept = {point.mhz for point in find("pixel-5").cluster("little").points}
    assert rows - kept == {1075.2}


@needs_data
def test_the_power_of_the_a15_is_fitted_and_tested() -> None:
    """Refitted from the measurements: the coefficients that ship, and the error that is stated."""
    fit = script("a15_power")
    folder = DATA / "odroid_xu3_power"
    found = fit.fit(fit.read(folder, fit.FITTED))
    model = find("odroid-xu3-a15").cluster().power
    assert model is not None
    shipped = (model.core_uw_per_mhz_v2, model.shared_uw_per_mhz_v2, model.static_ma)
    assert found == pytest.approx(shipped, abs=0.06)
    held_out = fit.read(folder, fit.HELD_OUT)
    error = fit.errors(found, held_out)
    assert error["mean_absolute"] == pytest.approx(0.089, abs=0.001)
    assert f"{error['mean_absolute']:.1%}" in find("odroid-xu3-a15").notes[0]
    assert max(map(abs, error["of_means"].values())) < 0.05
    # what it was not fitted to are other programs at other frequencies
    fitted = fit.read(folder, fit.FITTED)
    assert not set(fitted.program) & set(held_out.program)
    assert set(held_out.mhz) - set(fitted.mhz) == {1500, 2000}


def test_a_fit_finds_what_made_the_data() -> None:
    """Without noise the three coefficients come back; a negative one becomes zero."""
    fit = script("a15_power")
    rng = np.random.default_rng(0)
    mhz, volts, cores = rng.uniform(200, 2000, 500), rng.uniform(0.9, 1.3, 500), rng.uniform(1, 4, 500)
    samples = fit.Samples(np.array(["x"] * 500), mhz, volts, np.ones(500), cores)
    for true in ([300.0, 100.0, 50.0], [300.0, 0.0, 50.0], [300.0, 100.0, 0.0]):
        power = samples.features @ np.array(true)
        one = fit.Samples(samples.program, mhz, volts, power, cores)
        assert fit.fit(one) == pytest.approx(true, abs=1e-6)
    leaky = samples.features @ np.array([300.0, 100.0, -5.0])
    found = fit.fit(fit.Samples(samples.program, mhz, volts, leaky, cores))
    assert found[2] == 0 and (found >= 0).all()


def test_a_users_file(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text(SMALL)
    assert read(path) == find(str(path))
    assert read(path).cluster("little").busy_mw(400, 2) == pytest.approx(72)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("retrim-device", "other", "format must be 'retrim-device', not 'other'"),
        ("version = 1", "version = 2", "version must be 1, not 2: upgrade retrim"),
        (
            'title = "A board"',
            "",
            "the file must say 'title'; it has format, version, name, battery, cluster",
        ),
        (
            "cores = 4",
            "cores = 4\ncolour = 1",
            "a cluster must not say 'colour'; it may say name, cores, points, power, macs_per_cycle, sources",
        ),
        ("cores = 4", "cores = 0", "cores of cluster 'little' must be a whole number from 1 to 4096, not 0"),
        ("volts = 1.275", "volts = 1275", "volts must be a number above 0 and at most 5, not 1275"),
        (", volts = 1.275", "", "points of cluster 'little' must say volts, for its power is modelled"),
        ("mhz = 400,", "", "a point of cluster 'little' must say 'mhz'; it has volts"),
        (
            "capacity_mwh = 1000",
            "capacity_mwh = -1",
            "capacity_mwh must be a number above 0 and at most 1e+09, not -1",
        ),
        (
            "capacity_mwh = 1000",
            f"capacity_mwh = {10**400}",
            f"capacity_mwh must be a number above 0 and at most 1e+09, not {10**400}",
        ),
        (
            "capacity_mwh = 1000",
            f"capacity_mwh = {'9' * 5000}",
            "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use "
            "sys.set_int_max_str_digits() to increase the limit",
        ),
        ("[battery]", "[battery", "Expected ']' at the end of a table declaration (at line 6, column 9)"),
    ],
)
def test_damaged_files(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = tmp_path / "board.toml"
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(DeviceError) as error:
        read(path)
    assert str(error.value) == f"device profile {str(path)!r}: {sentence}"


def test_files_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(DeviceError) as error:
        find(str(path))
    assert str(error.value) == (
        f"device profile {str(path)!r} must be a file that can be read: No such file or directory"
    )
    with pytest.raises(DeviceError) as error:
        find("odroid")
    assert str(error.value) == (
        "device must be one of odroid-xu3-a15, odroid-xu3-a7, pixel-5, rog-phone-2, `this`, or a TOML file's path, "
        "not 'odroid'"
    )
    with pytest.raises(DeviceError) as error:
        find("x" * 300)
    assert str(error.value) == (
        "device must be one of odroid-xu3-a15, odroid-xu3-a7, pixel-5, rog-phone-2, `this`, or a TOML file's path, "
        f"not {'x' * 300!r}"
    )
    (tmp_path / "text.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DeviceError, match="it is no text"):
        read(tmp_path / "text.toml")
