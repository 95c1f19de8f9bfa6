"""Plans for well-known Transformers: the linear weights of all their blocks.

Embeddings, layer norms, poolers and the task's head stay dense.  An embedding
is looked up, not multiplied by, so no structure applies to it; whole attention
heads would tie rows of three weights to columns of a fourth, which structures,
each of one weight, do not express.
"""

from __future__ import annotations

from torch import nn

from retrim.errors import ConfigError
from retrim.prune import Plan, Rule
from retrim.structures import Density, Structure

_AS_IN_BERT = ("*encoder.layer.*attention.self.*.weight", "*encoder.layer.*.dense.weight")
_BLOCKS: dict[str, tuple[str, ...]] = {
    "bert": _AS_IN_BERT,
    "camembert": _AS_IN_BERT,
    "distilbert": ("*transformer.layer.*.attention.*_lin.weight", "*transformer.layer.*.ffn.lin?.weight"),
    "electra": _AS_IN_BERT,
    "gpt2": ("*h.*.attn.c_*.weight", "*h.*.mlp.c_*.weight"),
    "roberta": _AS_IN_BERT,
    "xlm-roberta": _AS_IN_BERT,
}
"""Globs over parameter names, by the configuration's model_type."""


def plan_for(model: nn.Module, structure: Structure, density: Density) -> Plan:
    """Plan for every linear weight in the blocks of a model of transformers.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of type bert, camembert, distilbert, electra, gpt2, roberta or xlm-roberta,
        with any head or none.
    structure : Structure
    density : float or tuple of float
        Kept weights over all weights, of each weight.

    Raises
    ------
    ConfigError
        If the model's type is none of these.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in _BLOCKS:
        raise ConfigError(
            f"the model's type must be one of {', '.join(_BLOCKS)}, not {kind!r}: write the plan by hand, as in "
            f"Plan([Rule(weights='*.layers.*.weight', structure={structure}, density={density})])"
        )
    return Plan([Rule(weights=glob, structure=structure, density=density) for glob in _BLOCKS[kind]])
