"""The on-disk format: the only link between training and everything that runs.  Never imports torch.

Names come on first use, so that the run-time, which needs `layout` alone, imports NumPy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrim.artifact.file import load as load
    from retrim.artifact.file import save as save
    from retrim.artifact.model import Artifact as Artifact
    from retrim.artifact.model import Level as Level
    from retrim.artifact.model import Pack as Pack
    from retrim.artifact.model import PackedWeight as PackedWeight
    from retrim.artifact.model import Tensor as Tensor

_HOME = {
    "load": "retrim.artifact.file",
    "save": "retrim.artifact.file",
    "Artifact": "retrim.artifact.model",
    "Level": "retrim.artifact.model",
    "Pack": "retrim.artifact.model",
    "PackedWeight": "retrim.artifact.model",
    "Tensor": "retrim.artifact.model",
}

__all__ = ["Artifact", "Level", "Pack", "PackedWeight", "Tensor", "load", "save"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'retrim.artifact' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
