"""Hugging Face transformers: pruning in its Trainer, distillation, checkpoints pruned and packed.

Names come on first use, so that ``import retrim.torch`` does not load transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrim.torch.huggingface.callback import PruneCallback as PruneCallback
    from retrim.torch.huggingface.distil import DistillationMixin as DistillationMixin
    from retrim.torch.huggingface.distil import DistillationTrainer as DistillationTrainer
    from retrim.torch.huggingface.plans import attention_of as attention_of
    from retrim.torch.huggingface.plans import plan_for as plan_for
    from retrim.torch.huggingface.probe import loss_probe as loss_probe
    from retrim.torch.huggingface.quantizer import RetrimConfig as RetrimConfig
    from retrim.torch.huggingface.quantizer import RetrimQuantizer as RetrimQuantizer
    from retrim.torch.huggingface.saving import pack_pretrained as pack_pretrained
    from retrim.torch.huggingface.saving import save_pruned as save_pruned

_HOME = {
    "DistillationMixin": "distil",
    "DistillationTrainer": "distil",
    "PruneCallback": "callback",
    "RetrimConfig": "quantizer",
    "RetrimQuantizer": "quantizer",
    "attention_of": "plans",
    "loss_probe": "probe",
    "pack_pretrained": "saving",
    "plan_for": "plans",
    "save_pruned": "saving",
}

__all__ = [
    "DistillationMixin",
    "DistillationTrainer",
    "PruneCallback",
    "RetrimConfig",
    "RetrimQuantizer",
    "attention_of",
    "loss_probe",
    "pack_pretrained",
    "plan_for",
    "save_pruned",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'retrim.torch.huggingface' has no attribute {name!r}")
    try:
        return getattr(import_module(f"retrim.torch.huggingface.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("transformers", "accelerate"):
            raise
        from retrim.errors import MissingExtraError

        raise MissingExtraError(
            f"retrim.torch.huggingface.{name} needs {missing}: pip install 'retrim[hf]'"
        ) from None


def __dir__() -> list[str]:
    return sorted(__all__)
