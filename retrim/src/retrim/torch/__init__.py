"""What needs torch: packed layers in torch models, packing, distillation, Hugging Face's models."""

from __future__ import annotations

from retrim.torch.distil import Distillation
from retrim.torch.huggingface.registration import register
from retrim.torch.linear import PackedLinear
from retrim.torch.packing import dense_state, pack, pack_

__all__ = ["Distillation", "PackedLinear", "dense_state", "pack", "pack_"]

register()
