from importlib import import_module

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from retrim.errors import ConfigError
from retrim.zoo.glue import Examples, encode

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install transformers"
)

PAD, UNKNOWN, CLS, SEP, A, B, C = range(7)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "##c"]


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer of eight word pieces, as BERT's or with options."""

    def tokenizer(**options):
        made = Tokenizer(
            models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
        )
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
        )
        made.save(str(tmp_path / "tokenizer.json"))
        given = {
            "pad_token": "[PAD]",
            "model_max_length": 512,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        }
        return transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(tmp_path / "tokenizer.json"),
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            **(given | options),
        )

    return tokenizer


def singles(*texts):
    return Examples(list(texts), None, np.arange(len(texts)) % 2)


def many(count=103):
    """Examples of 1 to 20 words, whose number is in the label."""
    draw = np.random.default_rng(3)
    texts = [" ".join(draw.choice(["a", "b", "c"], draw.integers(1, 21))) for _ in range(count)]
    return Examples(texts, None, np.arange(count))


def test_pairs_in_a_batch(tokenizer):
    examples = Examples(["a b", "c"], ["ac", "b b b b b"], np.array([0.5, 5], dtype=np.float32))
    batch = encode(examples, tokenizer()).batch([0, 1])
    assert batch.input_ids.tolist() == [
        [CLS, A, B, SEP, A, 7, SEP, PAD, PAD, PAD, PAD, PAD, PAD, PAD, PAD, PAD],
        [CLS, C, SEP, B, B, B, B, B, SEP, PAD, PAD, PAD, PAD, PAD, PAD, PAD],
    ]
    assert batch.attention_mask.tolist() == [[1] * 7 + [0] * 9, [1] * 9 + [0] * 7]
    assert batch.token_type_ids.tolist() == [[0] * 4 + [1] * 3 + [0] * 9, [0] * 3 + [1] * 6 + [0] * 7]
    assert batch.labels.tolist() == [0.5, 5]
    assert batch.labels.dtype == torch.float32
    assert batch.input_ids.dtype == batch.attention_mask.dtype == batch.token_type_ids.dtype == torch.int64
    assert list(batch.inputs()) == ["input_ids", "attention_mask", "token_type_ids"]
    assert len(batch) == 2


def test_single_sentences_of_a_model_without_types(tokenizer):
    tokens = encode(singles("a", "x b"), tokenizer(model_input_names=["input_ids", "attention_mask"]))
    batch = tokens.batch([1, 0])
    assert batch.input_ids.tolist() == [[CLS, UNKNOWN, B, SEP] + [PAD] * 4, [CLS, A, SEP] + [PAD] * 5]
    assert batch.token_type_ids is None
    assert list(batch.inputs()) == ["input_ids", "attention_mask"]
    assert batch.labels.tolist() == [1, 0]
    assert batch.labels.dtype == torch.int64


def test_padding_before_the_text(tokenizer):
    batch = encode(singles("a", "a b"), tokenizer(padding_side="left")).batch([0, 1])
    assert batch.input_ids.tolist() == [[PAD] * 5 + [CLS, A, SEP], [PAD] * 4 + [CLS, A, B, SEP]]
    assert batch.attention_mask.tolist() == [[0] * 5 + [1] * 3, [0] * 4 + [1] * 4]


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_as_the_tokenizers_own(tokenizer, side):
    examples = many()
    made = tokenizer(padding_side=side)
    tokens = encode(examples, made)
    for batch in tokens.in_order(10):
        texts = [examples.first[number] for number in batch.labels.tolist()]
        own = made(texts, padding=True, pad_to_multiple_of=8, return_tensors="pt")
        for name, tensor in batch.inputs().items():
            assert torch.equal(tensor, own[name])


def test_long_examples_are_cut_and_counted(tokenizer):
    examples = Examples(["a a a a", "b"], ["c " * 30, "c"], np.zeros(2, dtype=np.int64))
    made = tokenizer()
    message = "^1 of 2 examples are longer than max_length, 12 tokens, and are cut$"
    with pytest.warns(UserWarning, match=message):
        tokens = encode(examples, made, 12)
    assert tokens.shortened == 1
    assert tokens.lengths.tolist() == [12, 5]
    own = made(
        examples.first[:1],
        examples.second[:1],
        truncation="longest_first",
        max_length=12,
        return_tensors="pt",
    )
    assert torch.equal(tokens.batch([0]).input_ids[:, :12], own["input_ids"])
    assert torch.equal(tokens.batch([0]).token_type_ids[:, :12], own["token_type_ids"])


def test_long_examples_of_a_later_portion(tokenizer, monkeypatch):
    monkeypatch.setattr(import_module("retrim.zoo.glue.encode"), "_AT_ONCE", 7)
    examples = many(40)
    made = tokenizer()
    with pytest.warns(UserWarning, match="of 40 examples are longer"):
        tokens = encode(examples, made, 10)
    own = made(examples.first, truncation=True, max_length=10)["input_ids"]
    assert [tokens.ids[a:b].tolist() for a, b in zip(tokens.starts, tokens.starts[1:], strict=False)] == own
    assert tokens.shortened == sum(len(text.split()) > 8 for text in examples.first)


def test_padding_stays_within_the_models_limit(tokenizer):
    tokens = encode(singles("a " * 9, "a"), tokenizer(model_max_length=12), 12)
    assert tokens.batch([0]).input_ids.shape == (1, 12)
    assert tokens.batch([1]).input_ids.shape == (1, 8)


@pytest.mark.parametrize("bucketed", [False, True])
def test_an_epoch_has_each_example_once(tokenizer, bucketed):
    tokens = encode(many(), tokenizer())
    batches = list(tokens.batches(8, 1, 2, bucketed=bucketed))
    assert len(batches) == tokens.steps(8) == 13
    assert sorted(len(batch) for batch in batches) == [7] + [8] * 12
    seen = [label for batch in batches for label in batch.labels.tolist()]
    assert sorted(seen) == list(range(103))
    assert seen != sorted(seen)
    assert all(batch.input_ids.shape[1] % 8 == 0 for batch in batches)


@pytest.mark.parametrize("bucketed", [False, True])
def test_batches_depend_on_seed_epoch_and_number_alone(tokenizer, bucketed):
    tokens = encode(many(), tokenizer())

    def labels(seed, epoch, start=0):
        return [batch.labels.tolist() for batch in tokens.batches(8, seed, epoch, start, bucketed=bucketed)]

    whole = labels(1, 2)
    assert labels(1, 2) == whole
    assert labels(1, 2, 5) == whole[5:]
    assert labels(1, 2, 13) == []
    assert labels(1, 3) != whole
    assert labels(2, 2) != whole


def test_buckets_save_padding(tokenizer):
    tokens = encode(many(800), tokenizer())

    def padding(bucketed):
        return sum(
            int((1 - batch.attention_mask).sum()) for batch in tokens.batches(8, 0, 0, bucketed=bucketed)
        )

    assert padding(True) < padding(False) / 2


def test_all_in_order(tokenizer):
    tokens = encode(many(), tokenizer())
    assert [label for batch in tokens.in_order(16) for label in batch.labels.tolist()] == list(range(103))


def test_what_cannot_be_encoded_is_refused(tokenizer):
    with pytest.raises(ConfigError) as raised:
        encode(singles("a"), tokenizer(pad_token=None))
    assert str(raised.value) == (
        "tokenizer must have a token to fill short examples up with, but has none: set tokenizer.pad_token, as to "
        "tokenizer.eos_token, and the model's pad_token_id"
    )
    with pytest.raises(ConfigError) as raised:
        encode(Examples(["a"], ["b"], np.zeros(1)), tokenizer(), 3)
    assert str(raised.value) == (
        "max_length must leave room for text beside 3 special tokens, not 3: make it larger"
    )
    with pytest.raises(ConfigError) as raised:
        encode(singles("a"), tokenizer(model_max_length=64), 65)
    assert str(raised.value) == "max_length must be at most the model's 64 tokens, not 65: make it smaller"
    tokens = encode(singles("a"), tokenizer(), 64)
    for call in (tokens.steps, tokens.in_order, lambda size: tokens.batches(size, 0, 0)):
        with pytest.raises(ConfigError) as raised:
            call(0)
        assert str(raised.value) == "size of a batch must be a whole number >= 1, not 0"


def test_bert_on_published_pairs(data):
    vocabulary = data.parent / "tokenizers/bert-base-uncased/vocab.txt"
    if not vocabulary.is_file():
        pytest.skip(f"BERT's vocabulary is not {vocabulary}; set RETRIM_DATA to the folder of the data")
    from retrim.zoo.glue import read_glue

    words = {line: number for number, line in enumerate(vocabulary.read_text(encoding="utf-8").splitlines())}
    made = transformers.BertTokenizerFast(vocab=words, do_lower_case=True, model_max_length=512)
    examples = read_glue(data, "rte", "dev")
    with pytest.warns(UserWarning, match=r"of 277 examples are longer than max_length, 128 tokens"):
        tokens = encode(examples, made)
    assert tokens.lengths.max() == 128
    first = tokens.batch([0]).input_ids[0]
    assert made.decode(first[first != made.pad_token_id]).startswith(
        "[CLS] dana reeve, the widow of the actor"
    )
