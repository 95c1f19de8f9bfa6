"""The tokenizer, and what is kept of an earlier call."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from tokenizers import Tokenizer

from retrim.errors import ArtifactError, CorpusError
from retrim.zoo import tokens
from retrim.zoo.corpus import Corpus
from retrim.zoo.tokens import END, encode, tokenize

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "and",
    "naïve",
    "ünïcode",
    "漢字",
    "runs",
    "away",
]


def corpus(seed: int = 0, words: int = 900) -> Corpus:
    rng = np.random.default_rng(seed)
    texts = tuple(" ".join(rng.choice(WORDS, words)) + "\n" for _ in range(3))
    return Corpus(texts, (texts[0][::-1],), "words", f"digest {seed}")


def test_texts_come_back_from_their_ids() -> None:
    text = corpus()
    result = tokenize(text, 320)
    tokenizer = Tokenizer.from_str(result.tokenizer)
    assert 290 < tokenizer.get_vocab_size() <= 320
    assert result.train.dtype == result.held_out.dtype == np.uint16
    end = tokenizer.token_to_id(END)
    parts = np.split(result.train, np.flatnonzero(result.train == end) + 1)
    assert tuple(tokenizer.decode(part[:-1].tolist()) for part in parts[:-1]) == text.train
    assert result.train[-1] == end
    assert tokenizer.decode(result.held_out[:-1].tolist()) == text.held_out[0]


def test_tokenizing_is_deterministic() -> None:
    one, other = tokenize(corpus(), 320), tokenize(corpus(), 320)
    assert one.tokenizer == other.tokenizer
    np.testing.assert_array_equal(one.train, other.train)


def test_held_out_ids_by_a_stored_tokenizer() -> None:
    result = tokenize(corpus(), 320)
    np.testing.assert_array_equal(encode(result.tokenizer, corpus()), result.held_out)


def test_a_second_call_reads_what_the_first_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "deep" / "cache"
    first = tokenize(corpus(), 320, cache)
    (stored,) = cache.iterdir()

    def never(*args: object) -> NoReturn:
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(tokens, "train_tokenizer", never)
        again = tokenize(corpus(), 320, cache)
        for other in (lambda: tokenize(corpus(1), 320, cache), lambda: tokenize(corpus(), 330, cache)):
            with pytest.raises(AssertionError):
                other()
    assert again.tokenizer == first.tokenizer
    np.testing.assert_array_equal(again.train, first.train)
    np.testing.assert_array_equal(again.held_out, first.held_out)
    for damage in (b"", b"nonsense", stored.read_bytes()[:-100]):
        stored.write_bytes(damage)
        np.testing.assert_array_equal(tokenize(corpus(), 320, cache).train, first.train)
    assert list(cache.iterdir()) == [stored]


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(CorpusError) as caught:
        tokenize(corpus(), 320, tmp_path)
    assert str(caught.value).startswith(f"token cache '{tmp_path}/tokens-")
    assert str(caught.value).endswith(
        ".npz' cannot be written: No space left on device; free some space or choose another folder"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("vocabulary", [299, 65537])
def test_a_vocabulary_that_does_not_fit(vocabulary: int) -> None:
    with pytest.raises(CorpusError) as caught:
        tokenize(corpus(), vocabulary)
    assert str(caught.value) == f"vocabulary must lie between 300 and 65536, not {vocabulary}"


def test_text_that_is_too_short() -> None:
    long = corpus().train
    for train, held_out, name in ((("a\n",), long, "training"), (long, ("a\n",), "held-out")):
        with pytest.raises(CorpusError) as caught:
            tokenize(Corpus(train, held_out, "mine", "x"), 300)
        assert str(caught.value) == f"corpus 'mine' must give at least 300 {name} tokens, not 3: add text"


def test_a_tokenizer_of_another_kind() -> None:
    with pytest.raises(ArtifactError, match=r"^the tokenizer must be JSON of the `tokenizers` library: "):
        encode("{}", corpus())
    bare = Tokenizer.from_str(tokenize(corpus(), 320).tokenizer).to_str().replace(END, "<end>")
    with pytest.raises(ArtifactError) as caught:
        encode(bare, corpus())
    assert str(caught.value) == ("the tokenizer must have an entry <|end|>: take one that retrim trained")
