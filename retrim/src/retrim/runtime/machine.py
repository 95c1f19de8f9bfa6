"""The machine that times were measured on: they say nothing about another one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from retrim.runtime import _core, host, isa


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A processor, and the kernels that ran on it.

    Parameters
    ----------
    processor : str
    isa : tuple of str
        Instruction sets that it runs, fastest first.
    kernels : str
        Version of retrim and digest of its compiled core.
    """

    processor: str
    isa: tuple[str, ...]
    kernels: str

    @property
    def key(self) -> str:
        """A short name of the processor, for files."""
        names = "\n".join((self.processor, *self.isa)).encode("utf-8", "backslashreplace")
        return hashlib.sha256(names).hexdigest()[:12]


@cache
def here() -> Machine:
    """This machine."""
    digest = hashlib.sha256(Path(str(_core.__file__)).read_bytes()).hexdigest()[:12]
    version = host.version_of("retrim") or "unknown"
    return Machine(processor=host.processor(), isa=tuple(isa.available()), kernels=f"{version}-{digest}")
