"""The file of a profile: whole, of this machine, of these kernels, or refused in one sentence."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrim.artifact.layout import pack_rows
from retrim.errors import ProfileError
from retrim.runtime import PackedMatrix, isa, machine, profile_file, tuning
from retrim.runtime.entry import Entry
from retrim.runtime.profile import Profile

ENTRY = Entry(
    precision="fp32",
    activations=None,
    outputs=64,
    inputs=48,
    density=0.5,
    rows=32,
    group=1,
    tokens=16,
    threads=1,
    isa="portable",
    variant="packed",
    microseconds=7.5,
    runs=5,
)
ANEW = "remove it and call `retrim profile --calibrate`"


@pytest.fixture(autouse=True)
def nothing_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(profile_file.VARIABLE, raising=False)
    monkeypatch.delenv(isa.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "_found", {})
    monkeypatch.setattr(tuning, "_chosen", tuning._UNSET)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    profile_file.write(path, Profile(entries=(ENTRY,)))
    return path


def changed(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def elsewhere(path: Path, **changes: Any) -> Path:
    return changed(path, machine=json.loads(path.read_text())["machine"] | changes)


def test_what_was_written_is_read(written: Path) -> None:
    found = profile_file.read(written)
    assert found.machine == machine.here() and found.entries == (ENTRY,)
    assert len(written.read_text().splitlines()) == 4  # an entry a line
    profile_file.write(written, Profile())
    assert profile_file.read(written).entries == (ENTRY,)


def test_what_another_process_measured_is_kept(written: Path) -> None:
    other, better = replace(ENTRY, tokens=1), replace(ENTRY, microseconds=5.0)
    profile_file.write(written, Profile(entries=(other, better)))
    assert profile_file.read(written).entries == (other, better)
    assert list(written.parent.iterdir()) == [written]


def test_an_empty_profile(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "profile.json"
    profile_file.write(path, Profile())
    assert profile_file.read(path).entries == ()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "nonsense", '{"format": "x"}', "[" * 100_000, '{"format": "retrim'], ids=range(7)
)
def test_files_of_another_kind(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    refused(
        path, f"profile {str(path)!r} must be written by retrim, but is damaged or of another kind: {ANEW}"
    )
    path.write_bytes(b"\xff\xfe\x00")
    refused(
        path, f"profile {str(path)!r} must be written by retrim, but is damaged or of another kind: {ANEW}"
    )


def refused(path: Path, sentence: str) -> None:
    with pytest.raises(ProfileError, match=f"^{re.escape(sentence)}$"):
        profile_file.read(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "missing"
    refused(path, f"profile {str(path)!r} must be a file that can be read: No such file or directory")
    refused(tmp_path, f"profile {str(tmp_path)!r} must be a file that can be read: Is a directory")


def test_damaged_and_newer_files(written: Path) -> None:
    name, text = repr(str(written)), written.read_text()
    for changes, sentence in (
        ({"version": 2}, f"profile {name} must be of format 1 at most, not 2: upgrade retrim"),
        ({"version": "1"}, f"profile {name} must be of format 1, but is damaged: {ANEW}"),
        ({"more": 1}, f"profile {name} must be of format 1, but is damaged: {ANEW}"),
        ({"machine": {}}, f"profile {name} must name its machine, but is damaged: {ANEW}"),
        (
            {"machine": {"processor": 1, "isa": [], "kernels": ""}},
            f"profile {name} must name its machine, but is damaged: {ANEW}",
        ),
        ({"entries": {}}, f"profile {name} must have a list of entries, but is damaged: {ANEW}"),
        (
            {"entries": [ENTRY.to_dict(), ENTRY.to_dict() | {"runs": 0}]},
            f"profile {name}, entry 1: runs must be a whole number >= 1, not 0: {ANEW}",
        ),
    ):
        written.write_text(text)
        refused(changed(written, **changes), sentence)


def test_profiles_of_other_machines_and_kernels(written: Path) -> None:
    now = machine.here()
    with pytest.raises(ProfileError) as caught:
        profile_file.write(elsewhere(written, processor="Z80"), Profile())
    assert str(caught.value) == (
        f"profile {str(written)!r} must be of this machine ({now.processor}), not of Z80: name another file and "
        "call `retrim profile --calibrate`"
    )
    elsewhere(written, processor=now.processor, kernels="0.0.1-0")
    with pytest.raises(ProfileError) as caught:
        profile_file.check(profile_file.read(written), written)
    assert str(caught.value) == (
        f"profile {str(written)!r} must be of these kernels ({now.kernels}), not of 0.0.1-0: call `retrim profile "
        "--calibrate`"
    )
    assert profile_file.begin(written).entries == ()  # their times say nothing
    profile_file.write(written, Profile(entries=(ENTRY,)))
    assert profile_file.read(written).machine == now


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError) as caught:
        profile_file.write(tmp_path / "file" / "x" / "p.json", Profile())
    assert str(caught.value) == (
        f"folder {str(tmp_path / 'file' / 'x')!r} must be one that can be made: Not a directory; choose another file"
    )


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"profile-{machine.here().key}.json"
    assert profile_file.default_path() == tmp_path / "cache" / "retrim" / name
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profile_file.default_path() == tmp_path / ".cache" / "retrim" / name
    monkeypatch.setenv(profile_file.VARIABLE, "here.json")
    assert profile_file.default_path() == Path("here.json")
    monkeypatch.setenv(profile_file.VARIABLE, "none")
    assert profile_file.default_path() is None


def test_one_that_was_found_is_passed_over_where_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    path = profile_file.default_path()
    assert path is not None and tuning.current() is None
    path.parent.mkdir(parents=True)
    path.write_text("{")
    tuning.forget()
    assert tuning.current() is None
    assert profile_file.begin(path).entries == ()
    profile_file.write(path, Profile(entries=(ENTRY,)))
    whole = path.read_text("utf-8")
    for damage in ({"microseconds": 10**400}, {"density": 10**400}):
        found_ = json.loads(whole)
        found_["entries"][0] |= damage
        path.write_text(json.dumps(found_))
        tuning.forget()
        assert tuning.current() is None
    path.write_text(whole)
    elsewhere(path, processor="\ud800")
    tuning.forget()
    assert tuning.current() is None
    path.write_text(whole)
    assert tuning.current() is None  # it is looked for once
    tuning.forget()
    found = tuning.current()
    assert found is not None and found.entries == (ENTRY,)
    assert tuning.current() is found
    tuning.use(None)
    assert tuning.current() is None


def test_one_that_was_named_is_refused_where_it_is_wrong(
    monkeypatch: pytest.MonkeyPatch, written: Path
) -> None:
    monkeypatch.setenv(profile_file.VARIABLE, str(written))
    found = tuning.current()
    assert found is not None and found.entries == (ENTRY,)
    for wrong, begun in (({"processor": "Z80"}, False), ({"kernels": "0-0"}, True)):
        elsewhere(written, **wrong)
        tuning.forget()
        with pytest.raises(ProfileError, match="must be of th"):
            tuning.current()
        if begun:
            assert profile_file.begin(written).entries == ()
        else:
            with pytest.raises(ProfileError, match="must be of this machine"):
                profile_file.begin(written)
        written.unlink()
        profile_file.write(written, Profile())
    written.unlink()
    tuning.forget()
    assert tuning.current() is None  # not measured yet


def test_a_matrix_is_tuned(monkeypatch: pytest.MonkeyPatch, written: Path) -> None:
    rng = np.random.default_rng(0)
    mask = np.repeat(rng.random((2, 48)).argsort(axis=1) < 24, 32, axis=0)
    matrix = PackedMatrix(pack_rows(mask.astype(np.float32), mask))
    told: list[Any] = []
    monkeypatch.setattr(matrix, "tune", told.append)
    tuning.tune(matrix)
    assert told == []
    tuning.use(profile_file.read(written))
    tuning.tune(matrix)
    assert told == [((1, None, None), (8, "portable", "packed"), (33, None, None))]
