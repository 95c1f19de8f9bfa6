"""Compression of neural networks into forms that hardware exploits.

``import retrim`` brings the names below on first use, so that a program that
only runs packed models never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from retrim.artifact import Artifact as Artifact
    from retrim.artifact import load as load
    from retrim.artifact import save as save
    from retrim.errors import RetrimError as RetrimError
    from retrim.prune import ADMM as ADMM
    from retrim.prune import SLR as SLR
    from retrim.prune import CubicSchedule as CubicSchedule
    from retrim.prune import Magnitude as Magnitude
    from retrim.prune import OptimalBrainSurgeon as OptimalBrainSurgeon
    from retrim.prune import Plan as Plan
    from retrim.prune import ReweightedGroupLasso as ReweightedGroupLasso
    from retrim.prune import Rule as Rule
    from retrim.structures import BlockColumns as BlockColumns
    from retrim.structures import BlockRows as BlockRows
    from retrim.structures import Channels as Channels
    from retrim.structures import Elements as Elements
    from retrim.structures import Filters as Filters
    from retrim.structures import Within as Within
    from retrim.torch import Distillation as Distillation
    from retrim.torch import PackedLinear as PackedLinear
    from retrim.torch import pack as pack
    from retrim.torch import pack_ as pack_

_HOME = {
    "ADMM": "retrim.prune",
    "Artifact": "retrim.artifact",
    "BlockColumns": "retrim.structures",
    "BlockRows": "retrim.structures",
    "Channels": "retrim.structures",
    "CubicSchedule": "retrim.prune",
    "Distillation": "retrim.torch",
    "Elements": "retrim.structures",
    "Filters": "retrim.structures",
    "Magnitude": "retrim.prune",
    "OptimalBrainSurgeon": "retrim.prune",
    "PackedLinear": "retrim.torch",
    "Plan": "retrim.prune",
    "RetrimError": "retrim.errors",
    "ReweightedGroupLasso": "retrim.prune",
    "Rule": "retrim.prune",
    "SLR": "retrim.prune",
    "Within": "retrim.structures",
    "load": "retrim.artifact",
    "pack": "retrim.torch",
    "pack_": "retrim.torch",
    "save": "retrim.artifact",
}

__all__ = [
    "ADMM",
    "SLR",
    "Artifact",
    "BlockColumns",
    "BlockRows",
    "Channels",
    "CubicSchedule",
    "Distillation",
    "Elements",
    "Filters",
    "Magnitude",
    "OptimalBrainSurgeon",
    "PackedLinear",
    "Plan",
    "RetrimError",
    "ReweightedGroupLasso",
    "Rule",
    "Within",
    "__version__",
    "load",
    "pack",
    "pack_",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'retrim' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from retrim.errors import MissingExtraError

        raise MissingExtraError(f"retrim.{name} needs torch: pip install 'retrim[torch]'") from None


def __dir__() -> list[str]:
    return sorted(__all__)
