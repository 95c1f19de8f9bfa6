"""One thread (tensors here are tiny), real frames of TuSimple, and tiny folders in its layout."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(autouse=True, scope="package")
def one_thread_throughout() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data() -> Path:
    """Real frames of TuSimple."""
    root = os.environ.get("RETRIM_DATA") or Path(__file__).parents[4] / "shared" / "data"
    folder = Path(root) / "tusimple"
    if not folder.is_dir():
        pytest.skip(f"TuSimple's frames are not in {folder}; set RETRIM_DATA to the folder of the data")
    return folder


@pytest.fixture
def write():
    """Write a label file and the images that it names."""

    def write(path: Path, labels: list[dict], size=(128, 72)) -> Path:
        for label in labels:
            image = path.parent / label["raw_file"]
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (90, 90, 90)).save(image)
        path.write_text("".join(json.dumps(label) + "\n" for label in labels))
        return path

    return write


@pytest.fixture
def label():
    """A label of two straight lanes, at rows 20, 30, …, 70."""

    def label(name="clips/a/20.jpg"):
        rows = np.arange(20, 72, 10)
        return {
            "lanes": [[-2, *(60 - rows[1:] // 2).tolist()], (64 + rows // 2).tolist()],
            "h_samples": rows.tolist(),
            "raw_file": name,
        }

    return label


WORDS = ("fine", "warm", "bright", "dull", "cold", "grim")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head, with a tokenizer of whole words."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "day", "it", "was", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    )
    fast.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder
