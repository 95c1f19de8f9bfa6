"""Plans for well-known Transformers: the linear weights of all their blocks.

Embeddings, layer norms, poolers and the task's head stay dense.  An embedding
is looked up, not multiplied by, so no structure applies to it.  Whole attention heads
(of self-attention) may be left out beside (`retrim.prune.heads`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from retrim.errors import ConfigError
from retrim.prune import Attention, Plan, Rule, head_energies, keep_heads, with_heads
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

_HEADS_AS_IN_BERT = (
    r"encoder\.layer\.\d+\.attention\.",
    ("self.query", "self.key", "self.value"),
    "output.dense",
)
_HEADS: dict[str, tuple[str, tuple[str, ...], str]] = {
    kind: _HEADS_AS_IN_BERT for kind, globs in _BLOCKS.items() if globs is _AS_IN_BERT
} | {
    "distilbert": (r"transformer\.layer\.\d+\.attention\.", ("q_lin", "k_lin", "v_lin"), "out_lin"),
    "gpt2": (r"h\.\d+\.attn\.", ("c_attn",), "c_proj"),
}
"""Where attention layers are, and what their weights are called there: those of heads' inputs, and the output."""


def plan_for(
    model: nn.Module,
    structure: Structure,
    density: Density,
    *,
    heads: float | Sequence[Sequence[int]] | None = None,
) -> Plan:
    """Plan for every linear weight in the blocks of a model of transformers.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of type bert, camembert, distilbert, electra, gpt2, roberta or xlm-roberta,
        with any head or none.
    structure : Structure
    density : float or tuple of float
        Kept weights over all weights, of each weight.
    heads : float or sequence of sequences of int, optional
        Whole attention heads that stay: their share in every layer, those of the largest norm over
        their four slices; or the heads of each layer.  The others are pruned, and `structure` holds
        inside those that stay; the density of an attention layer's weights is at most what they leave.

    Raises
    ------
    ConfigError
        If the model's type is none of these, or heads are none of the model's.
    DensityError
        If no number of heads is near the share.
    """
    kind = _type_of(model)
    if kind not in _BLOCKS:
        raise ConfigError(
            f"the model's type must be one of {', '.join(_BLOCKS)}, not {kind!r}: write the plan by hand, as in "
            f"Plan([Rule(weights='*.layers.*_proj.weight', structure={structure}, density={density})])"
        )
    plan = Plan([Rule(weights=glob, structure=structure, density=density) for glob in _BLOCKS[kind]])
    return plan if heads is None else without_heads(plan, model, heads)


def without_heads(plan: Plan, model: nn.Module, heads: float | Sequence[Sequence[int]]) -> Plan:
    """A plan of a model of transformers with these heads alone; see `plan_for`."""
    layers = attention_of(model)
    if isinstance(heads, int | float):
        heads = keep_heads(head_energies(model, layers), heads)
    return with_heads(plan, model, layers, heads)


def attention_of(model: nn.Module) -> list[Attention]:
    """The self-attention layers of a model of transformers, in their order.

    Raises
    ------
    ConfigError
        If the model's type is none that `plan_for` knows.
    """
    kind = _type_of(model)
    if kind not in _HEADS:
        raise ConfigError(
            f"the model's type must be one of {', '.join(_HEADS)}, not {kind!r}: describe its layers by "
            "retrim.prune.Attention"
        )
    where, inputs, output = _HEADS[kind]
    count = int(model.config.num_attention_heads)  # type: ignore[union-attr,arg-type]
    place = re.compile(rf"(?:^|.*\.)({where}){re.escape(output)}\.weight")
    found = []
    for name, _ in model.named_parameters():
        if place.fullmatch(name):
            stem = name.removesuffix(f"{output}.weight")
            names = tuple(f"{stem}{part}.weight" for part in inputs)
            found.append(Attention(inputs=names, output=name, heads=count))
    return found


def _type_of(model: nn.Module) -> str | None:
    kind: str | None = getattr(getattr(model, "config", None), "model_type", None)
    return kind
