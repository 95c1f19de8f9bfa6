"""Text to train language models on.

The default is the text of the running Python's own standard library: real
text that every machine has.  Any file or folder of text serves as well.
"""

from __future__ import annotations

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from retrim.errors import CorpusError

HELD_OUT_ONE_IN = 20
_FEW_FILES = 40
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}


@dataclass(frozen=True)
class Corpus:
    """Texts, split into those to train on and those held out.

    Attributes
    ----------
    train, held_out : tuple of str
    source : str
        What was read, for people.
    digest : str
        SHA-256 over names and contents, in order.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    source: str
    digest: str


def read_corpus(path: Path | None = None) -> Corpus:
    """Read the text below `path`, or the standard library's sources.

    Files are split by a hash of their names, one in twenty held out; where
    there are fewer than forty, the last tenth of each file's lines is held out.

    Raises
    ------
    CorpusError
        If there is no text, or a file cannot be read.
    """
    if path is None:
        root = Path(sysconfig.get_path("stdlib"))
        version = ".".join(sysconfig.get_python_version().split(".")[:2])
        return _split(_folder(root, "*.py", _SKIPPED_FOLDERS), f"standard library of Python {version}")
    if not path.exists():
        raise CorpusError(f"corpus {str(path)!r} must be a file or folder that exists")
    if path.is_dir():
        return _split(_folder(path, "*", set()), str(path.name))
    text = _text(_bytes(path))
    if text is None:
        raise CorpusError(f"corpus {str(path)!r} must be UTF-8 text, not a binary file")
    return _split([(path.name, text)] if text.strip() else [], str(path))


def _folder(root: Path, pattern: str, skipped: set[str]) -> list[tuple[str, str]]:
    found = []
    for file in sorted(root.rglob(pattern)):
        parts = file.relative_to(root).parts
        if skipped.intersection(parts[:-1]) or not file.is_file():
            continue
        text = _text(_bytes(file))
        if text is not None and text.strip():
            found.append(("/".join(parts), text))
    return found


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CorpusError(f"corpus {str(file)!r} cannot be read: {error.strerror or error}") from error


def _text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _split(files: list[tuple[str, str]], source: str) -> Corpus:
    if not files:
        raise CorpusError(f"corpus {source!r} must hold some UTF-8 text, but holds none")
    digest = hashlib.sha256()
    numbers = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) for name, _ in files}
    apart = {name for name, number in numbers.items() if number % HELD_OUT_ONE_IN == 0}
    apart = apart or {min(numbers, key=numbers.__getitem__)}  # one at least
    train: list[str] = []
    held_out: list[str] = []
    for name, text in files:
        digest.update(f"{name}\0{len(text)}\0{text}".encode())
        if len(files) < _FEW_FILES:
            lines = text.splitlines(keepends=True)
            cut = len(lines) - max(1, len(lines) // 10)
            train.append("".join(lines[:cut]))
            held_out.append("".join(lines[cut:]))
        elif name in apart:
            held_out.append(text)
        else:
            train.append(text)
    if not any(text.strip() for text in train) or not any(text.strip() for text in held_out):
        raise CorpusError(
            f"corpus {source!r} must be long enough to hold some of it out, but is a single line: "
            "add text or files"
        )
    return Corpus(tuple(train), tuple(held_out), source, digest.hexdigest())
