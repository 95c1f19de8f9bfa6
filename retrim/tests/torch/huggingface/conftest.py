"""Tiny models of transformers with random weights, built from configurations: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

FAMILIES = ("bert", "roberta", "distilbert", "gpt2")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No network, no progress on the terminal, and the same logging before and after."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if find_spec("transformers") is None:
        yield
        return
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield
    logging.set_verbosity(before)


@pytest.fixture
def make_model() -> Callable[..., Any]:
    """A classifier of two layers, or (task "lm") a model of language, without dropout."""

    def make(family: str = "bert", seed: int = 0, task: str = "classes", **fields: Any) -> Any:
        import transformers as hf

        wide = {"vocab_size": 61, "max_position_embeddings": 40, "num_labels": 3, "initializer_range": 0.2}
        common = {
            **wide,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
        own = {
            "bert": (hf.BertConfig, common),
            "roberta": (hf.RobertaConfig, common),
            "distilbert": (
                hf.DistilBertConfig,
                {
                    **wide,
                    "dim": 32,
                    "hidden_dim": 64,
                    "n_layers": 2,
                    "n_heads": 2,
                    "dropout": 0.0,
                    "attention_dropout": 0.0,
                    "seq_classif_dropout": 0.0,
                },
            ),
            "gpt2": (
                hf.GPT2Config,
                {
                    "vocab_size": 61,
                    "n_positions": 40,
                    "n_embd": 32,
                    "n_layer": 2,
                    "n_head": 2,
                    "resid_pdrop": 0.0,
                    "embd_pdrop": 0.0,
                    "attn_pdrop": 0.0,
                    "initializer_range": 0.2,
                    "num_labels": 3,
                    "pad_token_id": 0,
                    "bos_token_id": 1,
                    "eos_token_id": 1,
                },
            ),
        }
        config, given = own[family]
        torch.manual_seed(seed)
        auto = hf.AutoModelForCausalLM if task == "lm" else hf.AutoModelForSequenceClassification
        return auto.from_config(config(**given | fields))

    return make


@pytest.fixture
def sentences() -> list[dict[str, torch.Tensor]]:
    """Made-up data: 32 sequences of 12 tokens, the last of which are padding, in three classes."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(2, 61, (32, 12), generator=draw)
    lengths = torch.randint(6, 13, (32,), generator=draw)
    mask = (torch.arange(12) < lengths[:, None]).long()
    labels = ids[:, 0] % 3
    return [
        {"input_ids": row * kept, "attention_mask": kept, "labels": label}
        for row, kept, label in zip(ids, mask, labels, strict=True)
    ]


@pytest.fixture
def make_trainer(tmp_path: Path, sentences: list[dict[str, torch.Tensor]]) -> Callable[..., Any]:
    """A Trainer on the CPU: 12 steps of 8 sequences unless told otherwise."""

    def make(model: Any, *callbacks: Any, kind: Any = None, folder: str = "run", **fields: Any) -> Any:
        import transformers as hf

        options = {"data": sentences, "more": {}} | {
            k: fields.pop(k) for k in ("data", "more") if k in fields
        }
        given = {
            "output_dir": str(tmp_path / folder),
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
            "per_device_train_batch_size": 8,
            "max_steps": 12,
            "learning_rate": 1e-2,
            "logging_steps": 3,
            "save_strategy": "no",
            "dataloader_pin_memory": False,
        }
        return (kind or hf.Trainer)(
            model=model,
            args=hf.TrainingArguments(**given | fields),
            train_dataset=options["data"],
            callbacks=list(callbacks),
            **options["more"],
        )

    return make
