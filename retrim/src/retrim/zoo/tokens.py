"""Byte-pair encoding trained on the corpus, and the corpus as token arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from retrim.errors import ArtifactError, CorpusError
from retrim.files import replacing
from retrim.zoo.corpus import Corpus

END = "<|end|>"
_TRAINING_CHARACTERS = 4_000_000
_FORMAT = 1


@dataclass(frozen=True)
class TokenizedCorpus:
    """A corpus as two arrays of token ids.

    Attributes
    ----------
    tokenizer : str
        The `tokenizers` library's JSON.
    train, held_out : ndarray of uint16
    """

    tokenizer: str
    train: np.ndarray
    held_out: np.ndarray


def train_tokenizer(texts: tuple[str, ...], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE of `vocabulary` entries on 4 million characters from all over the texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_up_to(texts, _TRAINING_CHARACTERS), trainer)
    return tokenizer


def tokenize(corpus: Corpus, vocabulary: int, cache: Path | None = None) -> TokenizedCorpus:
    """Tokenize `corpus`, or read what an earlier call left in the folder `cache`.

    Raises
    ------
    CorpusError
        If the vocabulary does not fit, the text is shorter than a few batches, or
        the cache cannot be written.
    """
    if not 300 <= vocabulary <= 65536:
        raise CorpusError(f"vocabulary must lie between 300 and 65536, not {vocabulary}")
    key = hashlib.sha256(f"{_FORMAT} {corpus.digest} {vocabulary}".encode()).hexdigest()[:16]
    stored = None if cache is None else cache / f"tokens-{key}.npz"
    found = None if stored is None else _read(stored)
    if found is not None:
        return found
    tokenizer = train_tokenizer(corpus.train, vocabulary)
    result = TokenizedCorpus(
        tokenizer.to_str(),
        _enough(_encode(tokenizer, corpus.train), "training", corpus),
        _enough(_encode(tokenizer, corpus.held_out), "held-out", corpus),
    )
    if stored is not None:
        _write(stored, result)
    return result


def _read(stored: Path) -> TokenizedCorpus | None:
    """What an earlier call left, or None if there is nothing whole."""
    try:
        with stored.open("rb") as file, np.load(file, allow_pickle=False) as read:
            return TokenizedCorpus(str(read["tokenizer"]), read["train"], read["held_out"])
    except Exception:
        return None  # missing or damaged: it is made anew


def _write(stored: Path, corpus: TokenizedCorpus) -> None:
    with replacing(stored, "token cache", CorpusError) as beside:
        stored.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.savez(file, tokenizer=np.array(corpus.tokenizer), train=corpus.train, held_out=corpus.held_out)


def encode(tokenizer: str, corpus: Corpus) -> np.ndarray:
    """Held-out ids of `corpus` by a trained tokenizer, given as JSON.

    Raises
    ------
    CorpusError
        If the text is shorter than 300 tokens.
    ArtifactError
        If the tokenizer is none, or has no entry for the end of a text.
    """
    try:
        trained = Tokenizer.from_str(tokenizer)
    except Exception as error:
        raise ArtifactError(f"the tokenizer must be JSON of the `tokenizers` library: {error}") from error
    if trained.token_to_id(END) is None:
        raise ArtifactError(f"the tokenizer must have an entry {END}: take one that retrim trained")
    return _enough(_encode(trained, corpus.held_out), "held-out", corpus)


def _enough(ids: np.ndarray, name: str, corpus: Corpus) -> np.ndarray:
    if len(ids) < 300:
        raise CorpusError(
            f"corpus {corpus.source!r} must give at least 300 {name} tokens, not {len(ids)}: add text"
        )
    return ids


def _encode(tokenizer: Tokenizer, texts: tuple[str, ...]) -> np.ndarray:
    end = cast(int, tokenizer.token_to_id(END))
    ids: list[int] = []
    for start in range(0, len(texts), 64):
        for encoding in tokenizer.encode_batch(list(texts[start : start + 64])):
            ids.extend(encoding.ids)
            ids.append(end)
    return np.array(ids, dtype=np.uint16)


def _up_to(texts: tuple[str, ...], characters: int) -> list[str]:
    """Texts of `characters` together; every n-th first, as neighbours (of one folder) are alike."""
    taken, total = [], 0
    step = max(1, len(texts) * 4 // 5 // 97) if len(texts) > 97 else 1
    for text in [text for offset in range(step) for text in texts[offset::step]]:
        taken.append(text[: characters - total])
        total += len(taken[-1])
        if total >= characters:
            break
    return taken
