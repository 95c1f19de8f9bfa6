"""Files that are whole or not there, whoever else writes to their place."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from retrim.errors import ConfigError
from retrim.files import replacing


def write(target: Path, text: str) -> None:
    with replacing(target, "text", ConfigError) as beside:
        beside.write_text(text)


def test_threads_write_to_one_place(tmp_path: Path) -> None:
    """All are inside at once; each has a hidden file of its own, in the folder of the target."""
    target, inside = tmp_path / "x", threading.Barrier(4)
    found: list[Path] = []

    def work(number: int) -> None:
        with replacing(target, "text", ConfigError) as beside:
            inside.wait(10)
            beside.write_text(str(number) * 1000)
            found.append(beside)
            inside.wait(10)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4
    assert all(path.parent == tmp_path and path.name.startswith(".") for path in found)
    assert target.read_text() in {str(number) * 1000 for number in range(4)}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one(tmp_path: Path, there: bool) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "x", tmp_path / "link"
    link.symlink_to(Path("real") / "x")
    if there:
        real.write_text("old")
    write(link, "new")
    assert link.is_symlink() and real.read_text() == "new"
    assert list(real.parent.iterdir()) == [real]


def test_long_names_and_ordinary_permissions(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 255)
    write(target, "text")
    other = tmp_path / "y"
    other.write_text("")
    assert target.read_text() == "text" and target.stat().st_mode == other.stat().st_mode


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 256)
    with pytest.raises(ConfigError) as error:
        write(target, "text")
    assert str(error.value) == (
        f"text {str(target)!r} cannot be written: File name too long; free some space or choose another folder"
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_made_in_between(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "x"
    with replacing(target, "text", ConfigError) as beside:
        target.parent.mkdir()
        beside.write_text("text")
    assert target.read_text() == "text" and list(target.parent.iterdir()) == [target]


def test_errors_leave_nothing(tmp_path: Path) -> None:
    target = tmp_path / "x"
    with pytest.raises(ZeroDivisionError), replacing(target, "text", ConfigError) as beside:
        beside.write_text(str(1 // 0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["", ".", "..", "/", "a\0b"])
def test_paths_without_a_name(path: str) -> None:
    with pytest.raises(ConfigError) as error:
        write(Path(path), "text")
    assert str(error.value) == (
        f"text must be written to a file that has a name, not to {str(Path(path))!r}: name one"
    )


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError) as error:
        write(pipe, "text")
    assert str(error.value) == f"text {str(pipe)!r} must be a file, but is a device or a pipe: name a file"
    assert pipe.is_fifo()
