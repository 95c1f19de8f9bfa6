"""Corpora: what is text, and how it is split."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from retrim.errors import CorpusError
from retrim.zoo.corpus import read_corpus


def refused(path: Path, sentence: str) -> None:
    with pytest.raises(CorpusError) as caught:
        read_corpus(path)
    assert str(caught.value) == sentence


def many(folder: Path, count: int = 60) -> Path:
    for i in range(count):
        file = folder / f"part{i % 3}" / f"text{i}.txt"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(f"text number {i}\nüber alles\n", encoding="utf-8")
    return folder


def test_a_file_gives_its_last_tenth_away(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("".join(f"line {i}\n" for i in range(50)))
    corpus = read_corpus(file)
    assert corpus.train == ("".join(f"line {i}\n" for i in range(45)),)
    assert corpus.held_out == ("".join(f"line {i}\n" for i in range(45, 50)),)
    assert corpus.source == str(file)


def test_a_folder_is_split_by_file_for_good(tmp_path: Path) -> None:
    corpus = read_corpus(many(tmp_path / "a"))
    assert len(corpus.train) + len(corpus.held_out) == 60
    assert 1 <= len(corpus.held_out) <= 10
    assert not set(corpus.train) & set(corpus.held_out)
    again = read_corpus(many(tmp_path / "b"))  # another folder, the same files
    assert (again.train, again.held_out, again.digest) == (corpus.train, corpus.held_out, corpus.digest)
    (tmp_path / "b" / "more.txt").write_text("one more\n")
    grown = read_corpus(tmp_path / "b")
    assert set(corpus.held_out) <= set(grown.held_out)
    assert set(corpus.train) <= set(grown.train)
    assert grown.digest != corpus.digest


@pytest.mark.parametrize("pattern", ["{:02d}.txt", "part{:02d}.txt", "doc_{:03d}.txt"])
def test_some_of_many_files_is_always_held_out(pattern: str, tmp_path: Path) -> None:
    """One in twenty by a hash of its name, and where that is none, one."""
    for number in range(1, 46):
        (tmp_path / pattern.format(number)).write_text(f"text {number}\n")
    corpus = read_corpus(tmp_path)
    assert corpus.held_out
    assert len(corpus.train) + len(corpus.held_out) == 45


def test_the_digest_is_that_of_names_and_contents(tmp_path: Path) -> None:
    digests = set()
    for name, text in (("a", "one\ntwo\n"), ("b", "one\ntwo\n"), ("a", "one\ntoo\n")):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        (folder / name).write_text(text)
        digests.add(read_corpus(folder).digest)
    assert len(digests) == 3


def test_files_that_are_no_text_are_passed_over_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "zero").write_bytes(b"a\0b")
    (tmp_path / "latin").write_bytes(b"\xe9t\xe9")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "blank").write_text(" \n")
    assert read_corpus(tmp_path).train == ("one\n",)


def test_the_standard_library_is_the_default() -> None:
    corpus = read_corpus()
    assert len(corpus.train) > 300
    assert len(corpus.held_out) > 10
    assert corpus.source.startswith("standard library of Python 3.")
    assert any("def loads(" in text for text in (*corpus.train, *corpus.held_out))
    assert read_corpus().digest == corpus.digest


def test_what_is_missing_empty_binary_or_too_short(tmp_path: Path) -> None:
    file = tmp_path / "x"
    refused(file, f"corpus {str(file)!r} must be a file or folder that exists")
    file.write_bytes(b"")
    refused(file, f"corpus {str(file)!r} must hold some UTF-8 text, but holds none")
    file.write_bytes(b" \n\n ")
    refused(file, f"corpus {str(file)!r} must hold some UTF-8 text, but holds none")
    for binary in (b"\x7fELF\0\0", b"\xff\xfe\xfd"):
        file.write_bytes(binary)
        refused(file, f"corpus {str(file)!r} must be UTF-8 text, not a binary file")
    file.write_text("a single line without an end")
    refused(
        file,
        f"corpus {str(file)!r} must be long enough to hold some of it out, but is a single line: "
        "add text or files",
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    refused(folder, "corpus 'folder' must hold some UTF-8 text, but holds none")
    (folder / "image").write_bytes(bytes(8))
    refused(folder, "corpus 'folder' must hold some UTF-8 text, but holds none")


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    file = tmp_path / "x"
    file.write_text("one\ntwo\n")
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    refused(file, f"corpus {str(file)!r} cannot be read: Permission denied")
    refused(tmp_path, f"corpus {str(file)!r} cannot be read: Permission denied")
