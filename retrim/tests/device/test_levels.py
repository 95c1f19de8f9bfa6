"""Tables of levels: files, deadlines, and what is refused."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from retrim.device import Level, LevelTable, just_meeting, read_levels
from retrim.errors import DeviceError

HUGE = 10**400
TEXT = """
format = "retrim-levels"
version = 1
deadline_ms = 100.0
dense = { density = 1.0, accuracy = 0.41, cycles = 3e8 }
backbone = { density = 0.5, accuracy = 0.4, latency_ms = 95.0 }
[[level]]
name = "slow"
mhz = 400
density = 0.1
accuracy = 0.38
latency_ms = 99.0
[[level]]
name = "fast"
mhz = 1400
density = 0.4
accuracy = 0.4
cycles = 1.4e8
"""


def test_toml_and_json(tmp_path: Path) -> None:
    (tmp_path / "levels.toml").write_text(TEXT)
    (tmp_path / "levels.json").write_text(json.dumps(tomllib.loads(TEXT)))
    found = read_levels(tmp_path / "levels.toml")
    assert found == read_levels(tmp_path / "levels.json")
    fast, slow = found.levels
    assert (fast.name, fast.latency_ms(), fast.latency_ms(700)) == ("fast", 100, 200)
    assert slow.cycles == pytest.approx(99 * 400_000)
    assert found.dense is not None and found.dense.mhz == 1400
    assert found.backbone is not None and found.backbone.cycles == pytest.approx(95 * 1_400_000)
    assert found.level("slow") is slow
    with pytest.raises(DeviceError) as error:
        found.level("middle")
    assert str(error.value) == "level must be one of fast, slow, not 'middle'"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "levels.toml").write_text(TEXT)
    found = read_levels(tmp_path / "levels.toml")
    bare = just_meeting([400, 1400], 50.0)
    for table in (found, bare):
        (tmp_path / "levels.json").write_text(json.dumps(table.to_dict()))
        assert read_levels(tmp_path / "levels.json") == table


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("retrim-levels", "x", "format must be 'retrim-levels', not 'x'"),
        ("version = 1", "version = 9", "version must be 1, not 9: upgrade retrim"),
        ("mhz = 400", "mhz = -4", "mhz of level 'slow' must be a number above 0 and at most 100000, not -4"),
        ("latency_ms = 99.0", "", "level 'slow' must say either cycles or latency_ms"),
        ("mhz = 400", "mhz = 400\ncycles = 5", "level 'slow' must say either cycles or latency_ms"),
        ("density = 0.1", "density = 0", "density of level 'slow' must be a number above 0 and at most 1, not 0"),
        ("accuracy = 0.38", "accuracy = 38", "accuracy of level 'slow' must be a number of at least 0 and at most 1, not 38"),
        ('name = "slow"', 'name = "fast"', "levels must differ in name, but have fast, fast"),
        ("mhz = 400", "mhz = 1400", "levels must differ in mhz, but have 1400.0, 1400.0"),
        ("deadline_ms = 100.0", "deadline_ms = 0", "deadline_ms must be a number of at least 1e-09 and at most 1e+12, not 0"),
        ("deadline_ms = 100.0", f"deadline_ms = {HUGE}", f"deadline_ms must be a number of at least 1e-09 and at most 1e+12, not {HUGE}"),
        ("latency_ms = 99.0", "cycles = 1e-310", "cycles of level 'slow' must be a number of at least 1e-09 and at most 1e+15, not 1e-310"),
        ("mhz = 400", "mhz = 400\nx = 1", "a level must not say 'x'; it may say name, mhz, mhz, density, accuracy, cycles, latency_ms"),
    ],
)  # fmt: skip
def test_damaged_files(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = tmp_path / "levels.toml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(DeviceError) as error:
        read_levels(path)
    assert str(error.value) == f"table of levels {str(path)!r}: {sentence}"


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="must be a file that can be read: No such file or directory"):
        read_levels(tmp_path / "none.toml")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DeviceError, match="must be TOML or JSON"):
        read_levels(tmp_path / "x.json")
    (tmp_path / "y.json").write_text("[]")
    with pytest.raises(DeviceError, match=r"the file must be a table, not \[\]"):
        read_levels(tmp_path / "y.json")
    with pytest.raises(DeviceError, match="a table of levels must have a level, but has none"):
        LevelTable(levels=())


def test_whole_numbers_that_no_float_holds(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    found = tomllib.loads(TEXT) | {"deadline_ms": HUGE}
    path.write_text(json.dumps(found))
    with pytest.raises(DeviceError) as error:
        read_levels(path)
    assert str(error.value) == (
        f"table of levels {str(path)!r}: deadline_ms must be a number of at least 1e-09 and at most 1e+12, not {HUGE}"
    )


def test_levels_that_just_meet() -> None:
    found = just_meeting([400, 1400], 100.0)
    assert [level.mhz for level in found.levels] == [1400, 400]
    assert [level.latency_ms() for level in found.levels] == pytest.approx([100, 100])
    assert found.levels[1].density == pytest.approx(2 / 7)
    assert found.late(100.0) == ()


def test_late_levels_and_what_would_be_feasible() -> None:
    found = just_meeting([400, 1400], 100.0)
    slow = replace(found.levels[1], cycles=1.2 * found.levels[1].cycles)
    mixed = LevelTable(levels=(found.levels[0], slow))
    assert mixed.late(100.0) == (slow,)
    with pytest.raises(DeviceError) as error:
        mixed.late(50.0)
    assert str(error.value) == (
        "deadline_ms must be one that a level meets, not 50: the fastest, '1400 MHz', takes 100 ms at 1400 MHz; ask for "
        "100 ms or more, or for sparser levels"
    )


def test_the_deadline_that_is_named_is_feasible() -> None:
    table = LevelTable(levels=(Level(name="x", mhz=1000, cycles=12_344_600),))
    with pytest.raises(DeviceError) as error:
        table.late(1.0)
    named = float(str(error.value).split("ask for ")[1].split(" ms")[0])
    assert table.late(named) == ()
