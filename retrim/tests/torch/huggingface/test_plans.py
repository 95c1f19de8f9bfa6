"""Plans for well-known Transformers."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

pytest.importorskip(
    "transformers", reason="the Hugging Face extra is not installed: pip install 'retrim[hf]'"
)

from retrim.errors import ConfigError
from retrim.structures import BlockColumns, Filters
from retrim.torch.huggingface import plan_for

EXPECTED = {
    "bert": 12,
    "roberta": 12,
    "distilbert": 12,
    "gpt2": 8,
}


def test_all_linear_weights_of_the_blocks_and_no_others(family: str, make_model: Any) -> None:
    for task in ("classes",) if family == "distilbert" else ("classes", "lm"):
        model = make_model(family, task=task, is_decoder=task == "lm")
        targets = plan_for(model, BlockColumns(rows=16), 0.5).resolve(model)
        blocks = [
            name + ".weight"
            for name, module in model.named_modules()
            if type(module).__name__ in ("Linear", "Conv1D") and any(c.isdigit() for c in name.split("."))
        ]
        assert [target.name for target in targets] == blocks
        assert len(targets) == EXPECTED[family]
        assert {target.kind for target in targets} == {"conv1d" if family == "gpt2" else "linear"}
        body = model.base_model
        assert len(plan_for(body, Filters(), 0.5).resolve(body)) == EXPECTED[family]


@pytest.mark.parametrize("kind", ["camembert", "electra", "xlm-roberta"])
def test_types_with_the_names_of_bert(kind: str) -> None:
    import transformers as hf

    small = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = hf.AutoConfig.for_model(kind, **small, intermediate_size=64, embedding_size=16)
    model = hf.AutoModelForMaskedLM.from_config(config)
    assert len(plan_for(model, BlockColumns(rows=16), 0.5).resolve(model)) == 12


def test_a_type_that_is_not_known(make_model: Any) -> None:
    model = make_model()
    model.config.model_type = "mamba"
    for other, said in ((model, "'mamba'"), (nn.Linear(2, 2), "None")):
        with pytest.raises(ConfigError) as caught:
            plan_for(other, Filters(), 0.5)
        assert str(caught.value) == (
            "the model's type must be one of bert, camembert, distilbert, electra, gpt2, roberta, xlm-roberta, not "
            f"{said}: write the plan by hand, as in Plan([Rule(weights='*.layers.*_proj.weight', structure=Filters(), "
            "density=0.5)])"
        )
