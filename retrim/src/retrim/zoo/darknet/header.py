"""What a `.weights` file begins with."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from retrim.errors import ArtifactError

_VERSION = struct.Struct("<iii")
_MOST = 1000  # of a version's number; darknet's own limit


@dataclass(frozen=True)
class Header:
    """Version of the format, and images that the network has seen in training.

    Attributes
    ----------
    major, minor, revision : int
    seen : int
    """

    major: int = 0
    minor: int = 2
    revision: int = 5
    seen: int = 0

    @property
    def _seen(self) -> struct.Struct:
        """Images were counted in 32 bits before version 0.2."""
        return struct.Struct("<q" if self.major * 10 + self.minor >= 2 else "<i")

    @property
    def size(self) -> int:
        """In bytes."""
        return _VERSION.size + self._seen.size

    def packed(self) -> bytes:
        """As it stands in the file, little-endian."""
        return _VERSION.pack(self.major, self.minor, self.revision) + self._seen.pack(self.seen)


def read_header(content: bytes, source: str) -> Header:
    """The header of a file that begins with `content`.

    Raises
    ------
    ArtifactError
        If there is none.
    """
    if len(content) < _VERSION.size:
        raise _none(source, f"is {len(content)} bytes long")
    major, minor, revision = _VERSION.unpack_from(content)
    if min(major, minor, revision) < 0 or max(major, minor) >= _MOST:
        raise _none(source, f"begins with {major}, {minor}, {revision}")
    counter = Header(major, minor, revision)._seen
    if len(content) < _VERSION.size + counter.size:
        raise _none(source, f"is {len(content)} bytes long")
    (seen,) = counter.unpack_from(content, _VERSION.size)
    if seen < 0:
        raise _none(source, f"counts {seen} images")
    return Header(major, minor, revision, seen)


def _none(source: str, what: str) -> ArtifactError:
    return ArtifactError(
        f"weights {source!r} must begin with darknet's version and the images seen, but the file {what}: fetch it again"
    )
