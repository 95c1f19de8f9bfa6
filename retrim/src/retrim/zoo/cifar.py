"""CIFAR-10 in the layouts that people have: image folders (packed or not) and the original batches.

- ``train|test/<class>/<name>.jpg|png``, a folder or a tar of one (any compression);
- ``data_batch_1 … 5`` and ``test_batch``, the original Python batches.  They are
  pickles: their tokens are read, nothing in them is executed;
- ``data_batch_1.bin … 5.bin`` and ``test_batch.bin``, the original binary batches.

References
----------
A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

import io
import pickletools
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from retrim.errors import DataError
from retrim.zoo.pixels import rgb

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
BATCHES = tuple(f"data_batch_{n}" for n in range(1, 6))


@dataclass(frozen=True, eq=False)
class Cifar:
    """The images in memory.

    Attributes
    ----------
    train_images, test_images : ndarray of uint8, shape (n, 3, 32, 32)
    train_classes, test_classes : ndarray of int64, shape (n,)
    """

    train_images: np.ndarray
    train_classes: np.ndarray
    test_images: np.ndarray
    test_classes: np.ndarray


def read_cifar10(path: Path) -> Cifar:
    """Read the data set, whichever layout it is in.

    Raises
    ------
    DataError
        If nothing of the kind is there, or a file is damaged.
    """
    path = Path(path)
    if path.is_file():
        images = _Images(_from_tar(path), path)
    elif (path / "test_batch.bin").is_file():
        return _batches(path, ".bin", _binary)
    elif (path / "test_batch").is_file():
        return _batches(path, "", _pickled)
    elif (path / "train").is_dir() and (path / "test").is_dir():
        images = _Images(_from_folder(path), path)
    else:
        raise DataError(
            f"CIFAR-10 at {str(path)!r} must be a folder with train/ and test/, a tar of one, or the folder of "
            "the original batches: none of them is there"
        )
    return Cifar(*images.part("train"), *images.part("test"))


class _Images:
    """Images sorted by part, class and name, so that the order does not hang on the archive's."""

    def __init__(self, files: Iterator[tuple[PurePosixPath, bytes]], origin: Path) -> None:
        self.origin = origin
        self.found: dict[str, list[tuple[int, str, np.ndarray]]] = {"train": [], "test": []}
        for name, content in files:
            part, kind = name.parts[-3:-1]
            if part not in self.found:
                continue
            if kind not in CLASSES:
                raise DataError(
                    f"folder {str(name.parent)!r} of {str(origin)!r} must be named after a class of CIFAR-10 "
                    f"({', '.join(CLASSES)}), not {kind!r}"
                )
            self.found[part].append((CLASSES.index(kind), name.name, _decoded(content, name, origin)))

    def part(self, which: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and classes of one part."""
        rows = sorted(self.found[which], key=lambda row: row[:2])
        if not rows:
            raise DataError(f"{which!r} of {str(self.origin)!r} must hold images, but holds none")
        return np.stack([row[2] for row in rows]), np.array([row[0] for row in rows], dtype=np.int64)


def _from_tar(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if member.isfile() and len(name.parts) >= 3:
                    content = archive.extractfile(member)
                    yield name, b"" if content is None else content.read()
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DataError(
            f"{str(path)!r} must be a tar of images, and whole: {error}; fetch it anew"
        ) from error


def _from_folder(path: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    for part in ("train", "test"):
        for file in sorted((path / part).glob("*/*")):
            if file.is_file() and not file.name.startswith("."):
                yield PurePosixPath(file.relative_to(path).as_posix()), file.read_bytes()


def _decoded(content: bytes, name: PurePosixPath, origin: Path) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(rgb(image))
    except Exception as error:
        raise DataError(
            f"{str(name)!r} of {str(origin)!r} must be an image, but cannot be read as one"
        ) from error
    if pixels.shape != (32, 32, 3):
        height, width = pixels.shape[:2]
        raise DataError(f"{str(name)!r} of {str(origin)!r} must be of 32 x 32 pixels, not {width} x {height}")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


Reader = Callable[[Path], tuple[np.ndarray, np.ndarray]]


def _batches(path: Path, suffix: str, read: Reader) -> Cifar:
    missing = [name + suffix for name in BATCHES if not (path / (name + suffix)).is_file()]
    if missing:
        raise DataError(f"{str(path)!r} must hold all batches, but {', '.join(missing)} are missing")
    parts = [read(path / (name + suffix)) for name in BATCHES]
    return Cifar(
        np.concatenate([images for images, _ in parts]),
        np.concatenate([classes for _, classes in parts]),
        *read(path / ("test_batch" + suffix)),
    )


def _binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one byte for the class and 3,072 for the pixels, red, green, blue."""
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if not len(content) or len(content) % (1 + PIXELS):
        raise DataError(
            f"{str(path)!r} must be rows of {1 + PIXELS:,} bytes, not {len(content):,} bytes: fetch it anew"
        )
    rows = content.reshape(-1, 1 + PIXELS)
    return _checked(path, rows[:, 1:], rows[:, 0].astype(np.int64))


def _pickled(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The pixels are the one long string of the pickle; the classes the list that follows the key ``labels``."""
    pixels, listing = b"", False
    classes: list[int] = []
    try:
        for code, value, _ in pickletools.genops(path.read_bytes()):
            text = value if isinstance(value, str | bytes | bytearray) else b""
            if text and classes:  # the next key: a list comes in pieces of 1,000
                listing = False
            if len(text) >= PIXELS:
                pixels = text.encode("latin-1") if isinstance(text, str) else bytes(text)
            elif value in ("labels", b"labels"):
                classes, listing = [], True
            elif listing and isinstance(value, int) and code.name in ("BININT1", "BININT", "INT", "LONG1"):
                classes.append(value)
            elif listing and code.name in ("SETITEM", "SETITEMS"):
                listing = False
    except Exception as error:  # the tokeniser raises what it likes on garbage
        raise DataError(
            f"{str(path)!r} must be a batch of CIFAR-10, but is damaged: fetch it anew"
        ) from error
    if not pixels or len(pixels) != PIXELS * len(classes):
        raise DataError(
            f"{str(path)!r} must hold {PIXELS:,} bytes of pixels for each of its {len(classes):,} classes, not "
            f"{len(pixels):,} in all: fetch it anew"
        )
    return _checked(path, np.frombuffer(pixels, np.uint8).reshape(-1, PIXELS), np.array(classes, np.int64))


def _checked(path: Path, pixels: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if classes.min() < 0 or classes.max() >= len(CLASSES):
        bad = classes[(classes < 0) | (classes >= len(CLASSES))][0]
        raise DataError(f"a class of {str(path)!r} must lie between 0 and 9, not {bad}: fetch it anew")
    return pixels.reshape(-1, 3, 32, 32), classes
