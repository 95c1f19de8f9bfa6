"""`retrim device`, `retrim simulate` and `retrim govern` as their users see them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from retrim import cli_console
from retrim.cli import app
from retrim.device import names
from retrim.errors import RetrimError

LEVELS = """
format = "retrim-levels"
version = 1
deadline_ms = 100.0
dense = { density = 1.0, accuracy = 0.41, cycles = 3e8 }
backbone = { density = 0.5, accuracy = 0.405, cycles = 1.3e8 }
[[level]]
name = "fast"
mhz = 1400
density = 0.4
accuracy = 0.4
latency_ms = 99.0
[[level]]
name = "slow"
mhz = 400
density = 0.1
accuracy = 0.38
latency_ms = 99.0
"""
BOARD = """
format = "retrim-device"
version = 1
name = "board"
title = "A board [/rev] :cat:"
battery = { capacity_mwh = 10000, source = "its label" }
[[cluster]]
name = "big [/old] :cat:"
cores = 2
power = { core_uw_per_mhz_v2 = 400.0 }
points = [{ mhz = 400, volts = 1.0 }, { mhz = 1400, volts = 1.3 }, { mhz = 2000, volts = 1.3 }]
[[cluster]]
name = "little"
cores = 4
power = { core_uw_per_mhz_v2 = 90.0 }
points = [{ mhz = 400, volts = 1.0 }, { mhz = 1400, volts = 1.275 }]
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(part) for part in arguments])


def good(*arguments: object) -> str:
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: object) -> str:
    done = call(*arguments)
    assert isinstance(done.exception, RetrimError), done.output
    return str(done.exception)


@pytest.fixture
def levels(tmp_path: Path) -> Path:
    path = tmp_path / "levels.toml"
    path.write_text(LEVELS)
    return path


def test_list(tmp_path: Path) -> None:
    words = good("device", "list", "--root", tmp_path, "--json", tmp_path / "list.json")
    assert all(name in words for name in names())
    found = json.loads((tmp_path / "list.json").read_text())
    assert [device["name"] for device in found["devices"]] == names()
    assert "must have cpufreq policies, but has none" in found["this"]


def test_list_where_this_machine_has_clocks(grow: Callable[..., Path], tmp_path: Path) -> None:
    good("device", "list", "--root", grow(), "--json", tmp_path / "list.json")
    found = json.loads((tmp_path / "list.json").read_text())
    assert found["devices"][-1]["name"] == "this" and found["this"] is None


def test_show(tmp_path: Path) -> None:
    words = good("device", "show", "odroid-xu3-a15", "--json", tmp_path / "a15.json")
    assert "voltage falls from 1.25 to 1.2375 V between 1700 and 1800 MHz" in words
    assert "2075.8" in words  # (439.8 + 162.7) * 2000 * 1.3125^2 / 1000
    found = json.loads((tmp_path / "a15.json").read_text())
    assert found["clusters"][0]["power"]["core_uw_per_mhz_v2"] == 439.8
    assert "little" in good("device", "show", "pixel-5")
    assert "device must be one of" in refused("device", "show", "odroid")


def test_probe(grow: Callable[..., Path], tmp_path: Path) -> None:
    words = good("device", "probe", "--root", grow(), "--json", tmp_path / "probe.json")
    for part in ("policy0: 1000 MHz of 400–1400", "BAT0: 63%, discharging, 1900 mW", "48.5 °C", "2.500 J"):
        assert part in words
    assert json.loads((tmp_path / "probe.json").read_text())["missing"] == {}
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "Nothing here can be read: `retrim simulate` shows" in good("device", "probe", "--root", empty)


def test_simulate(levels: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "plot.png"
    words = good("simulate", levels, "--json", out, "--plot", plot, "--battery-mwh", 1000)
    assert plot.read_bytes().startswith(b"\x89PNG")
    found = json.loads(out.read_text())
    assert found["device"] == "odroid-xu3-a7"
    assert [p["policy"] for p in found["policies"]] == ["a", "b", "c", "d", "e"]
    assert [p["missed"] == 0 for p in found["policies"]] == [False, True, True, False, True]
    assert f"{found['gain']['a']:.2f}× over (a)" in words
    assert len(found["static"]) == 5


def test_simulate_without_a_table(tmp_path: Path) -> None:
    words = good("simulate", "--json", tmp_path / "out.json")
    assert "2.65× over (c)" in words and "no model for (a) and (b)" in words
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["bound_over_c"] == pytest.approx(2.6548, abs=1e-4)
    assert "2.65× over (c)" in good("simulate", "--mhz", "400,600,800,1000,1200,1400")
    less = good("simulate", "--static-mw", 40.96575)
    assert "2.06× over (c)" in less


def test_simulate_refuses(levels: Path, tmp_path: Path) -> None:
    assert refused("simulate", levels, "--deadline-ms", 50) == (
        "deadline_ms must be one that a level meets, not 50: the fastest, 'fast', takes 99 ms at 1400 MHz; ask for 99 "
        "ms or more, or for sparser levels"
    )
    assert refused("simulate", "--mhz", "fast") == "mhz must be numbers with commas between them, not 'fast'"
    assert "the nearest: 400 or 500" in refused("simulate", "--mhz", "410")
    assert "leave one out" in refused("simulate", levels, "--mhz", "400")
    assert "shares must be one of" in refused("simulate", levels, "--shares", "some")
    assert "leave static power out" in refused("simulate", "--device", "pixel-5", "--static-mw", 1)
    assert "operating point" in refused("simulate", levels, "--device", "pixel-5")
    (tmp_path / "bare.toml").write_text(LEVELS.replace("deadline_ms = 100.0", ""))
    assert "must say deadline_ms, or give --deadline-ms" in refused("simulate", tmp_path / "bare.toml")
    assert refused("simulate", "--plot", tmp_path / "plot.gif2") == (
        "a picture must end in .png, .svg or .pdf, not .gif2"
    )
    assert not list(tmp_path.glob("*plot*"))


def test_names_are_printed_as_they_are(levels: Path, tmp_path: Path) -> None:
    """Brackets and colons of users are no markup of the console."""
    board = tmp_path / "board.toml"
    board.write_text(BOARD)
    levels.write_text(
        LEVELS.replace('"slow"', '"l5 [/slow]"').replace("99.0", "150.0", 2).replace("150.0", "99.0", 1)
    )
    for folder in ("x[red]", "res[", "res[/old]"):
        (tmp_path / folder).mkdir(parents=True)
        plot = tmp_path / folder / "a.png"
        words = good("simulate", levels, "--device", board, "--plot", plot, "--cluster", "big [/old] :cat:")
        assert f"Picture: {plot}\n" in words and plot.is_file()
        assert "A board [/rev] :cat:, cluster big [/old] :cat:, 10 Wh, deadline 100 ms\n" in words
        assert "note: late at their own clocks: l5 [/slow]\n" in words
    assert "board: A board [/rev] :cat:\n" in good("device", "show", board)


def test_numbers_are_written_before_they_are_printed(
    levels: Path, grow: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = grow(), tmp_path / "out.json"

    def full(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli_console.console, "print", full)
    for command in (
        ("simulate", levels),
        ("govern", levels, "--dry-run", "--root", root),
        ("device", "list", "--root", root),
        ("device", "show", "odroid-xu3-a7"),
        ("device", "probe", "--root", root),
    ):
        assert isinstance(call(*command, "--json", out).exception, BrokenPipeError)
        assert json.loads(out.read_text())
        out.unlink()


def test_simulate_with_batteries_for_little(levels: Path) -> None:
    assert refused("simulate", "--battery-mwh", "0.00001") == (
        "capacity_mwh must be enough for one request of (e), not 1e-05: at level '1400 MHz' one takes 0.00569 mWh; give "
        "a larger battery or a shorter period"
    )
    words = good("simulate", "--period-ms", "1e9")  # with static power one wait empties it
    assert re.search(r"static power 40% of dynamic \(82 mW\) +– +– +1.15×", words)
    words = good("simulate", levels, "--battery-mwh", "0.007")
    assert "note: the battery is too small for one request of (a)\n" in words
    assert refused("simulate", "--deadline-ms", "1e-310") == (
        "deadline_ms must be a number of at least 1e-09 and at most 1e+12, not 1e-310"
    )


def test_the_fastest_cluster_stands_in(levels: Path, tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text(BOARD)
    assert ", cluster big [/old] :cat:, " in good("simulate", "--device", board)
    assert ", cluster little, " in good("simulate", "--device", board, "--cluster", "little")


def test_govern(levels: Path, grow: Callable[..., Path], tmp_path: Path) -> None:
    root = grow()
    words = good("govern", levels, "--dry-run", "--root", root, "--samples", 2, "--interval", 0)
    assert words.count("battery 63%, 1000 MHz, 48 °C → slow") == 2
    assert "(clock at 1000 MHz)" in words
    (root / "devices/system/cpu/cpufreq/policy0/scaling_cur_freq").write_text("1400000")
    out = tmp_path / "govern.json"
    assert "→ fast (stay)" in good("govern", levels, "--dry-run", "--root", root, "--json", out)
    assert json.loads(out.read_text())["decisions"][0]["level"] == "fast"
    late = good("govern", levels, "--dry-run", "--root", root, "--latency-p99-ms", 120)
    assert "→ slow (p99 latency 120 ms over 100 ms)" in late


def test_govern_keeps_what_it_decided(
    levels: Path, grow: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = grow(), tmp_path / "govern.json"
    temp = root / "class/thermal/thermal_zone0/temp"
    monkeypatch.setattr("time.sleep", lambda _: temp.write_text("-300000"))
    assert refused("govern", levels, "--dry-run", "--root", root, "--samples", 2, "--json", out) == (
        f"file {str(temp)!r} must hold millidegrees Celsius from -50000 to 200000, not '-300000': the driver is at "
        "fault, or the file is another one"
    )
    (kept,) = json.loads(out.read_text())["decisions"]
    assert kept["level"] == "slow"


def test_govern_of_another_root(grow: Callable[..., Path]) -> None:
    words = good("govern", "--dry-run", "--device", "this", "--root", grow())
    assert words == "battery 63%, 1000 MHz, 48 °C → 1000 MHz (battery at 63%)\n"


def test_govern_refuses(levels: Path, tmp_path: Path) -> None:
    assert "must be called with --dry-run" in refused("govern", levels)
    assert "`retrim simulate` shows what the governor would do" in refused(
        "govern", levels, "--dry-run", "--root", tmp_path
    )
    assert refused("govern", levels, "--dry-run", "--interval", "inf") == (
        "interval must be a number of at least 0 and at most 1e+06, not inf"
    )
    assert "table of levels 'none.toml' must be a file" in refused("govern", "none.toml", "--dry-run")


def test_calibrate_writes_the_profile_of_the_machine(
    grow: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file and one format: what `retrim device calibrate` writes, `retrim profile` shows."""
    from retrim.recipe import profiles
    from retrim.runtime.calibration import common_requests

    monkeypatch.setattr(profiles, "common_requests", lambda *a: common_requests(*a)[:1])
    monkeypatch.setattr(profiles, "rivals", lambda: ())
    root, path = grow(), tmp_path / "profile.json"
    options = ("--tokens", 1, "--seconds", 20, "--profile", path)
    words = good("device", "calibrate", *options, "--root", root, "--json", tmp_path / "out.json")
    assert "changed in mid-run" not in words
    found = json.loads(path.read_text())
    assert found["format"] == "retrim-profile" and found["entries"]
    assert json.loads((tmp_path / "out.json").read_text())["entries"] == found["entries"]
    assert "256 × 256" in good("profile", "--profile", path, "--tokens", 1)


def test_calibrate_says_that_the_clock_moved(
    grow: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrim.recipe import profiles

    root = grow()

    def slower(*_: object, **__: object) -> None:
        (root / "devices/system/cpu/cpufreq/policy0/scaling_cur_freq").write_text("600000")

    monkeypatch.setattr(profiles, "calibrate", slower)
    shown = {"path": "p", "entries": [], "machine": {"processor": "P"}, "layers": []}
    monkeypatch.setattr(profiles, "show", lambda *_, **__: shown)
    words = good("device", "calibrate", "--root", root)
    assert "the clock of policy0 changed in mid-run, from 1000 to 600 MHz" in words
