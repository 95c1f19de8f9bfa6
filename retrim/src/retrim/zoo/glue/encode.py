"""Examples as tokens, and batches of them as a Hugging Face model takes them.

Nothing here imports transformers: any of its fast tokenizers serves, and whatever
can be called as they are (`Tokenizer`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import torch

from retrim.errors import ConfigError
from retrim.zoo.glue.examples import Examples
from retrim.zoo.glue.order import cut, shuffled

MULTIPLE = 8
"""Lengths of batches are a multiple of this, if the model's limit allows."""

_AT_ONCE = 1000  # examples given to the tokenizer together


class Tokenizer(Protocol):
    """What is asked of a tokenizer: the face of transformers' PreTrainedTokenizerFast."""

    @property
    def pad_token_id(self) -> int | None: ...
    @property
    def pad_token_type_id(self) -> int: ...
    @property
    def padding_side(self) -> str: ...
    @property
    def model_max_length(self) -> int: ...
    def num_special_tokens_to_add(self, pair: bool) -> int: ...
    def __call__(
        self,
        text: list[str],
        text_pair: list[str] | None,
        *,
        truncation: str | bool,
        max_length: int | None,
        return_attention_mask: bool,
        verbose: bool,
    ) -> Mapping[str, Sequence[Sequence[int]]]: ...


@dataclass(frozen=True, eq=False)
class Encoded:
    """A batch.

    Attributes
    ----------
    input_ids : Tensor of int64, shape (n, length)
    attention_mask : Tensor of int64, shape (n, length)
        0 where there is only padding.
    token_type_ids : Tensor of int64, shape (n, length), or None
        Which sentence a token is of; None where the model takes none.
    labels : Tensor, shape (n,)
        int64 classes, or float32 scores.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor | None
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.input_ids)

    def inputs(self) -> dict[str, torch.Tensor]:
        """What the model takes by name, without the labels: `model(**batch.inputs())`."""
        given = {"input_ids": self.input_ids, "attention_mask": self.attention_mask}
        return given if self.token_type_ids is None else {**given, "token_type_ids": self.token_type_ids}


@dataclass(frozen=True)
class Padding:
    """How short examples are filled up.

    Attributes
    ----------
    token, kind : int
        Ids of the token and of its sentence.
    left : bool
        Before the text, not after it.
    most : int
        Tokens that the model takes.
    """

    token: int
    kind: int
    left: bool
    most: int

    def width(self, longest: int) -> int:
        """Length of a batch: `longest`, up to a multiple of 8."""
        return max(longest, min(-(-longest // MULTIPLE) * MULTIPLE, self.most))


@dataclass(frozen=True, eq=False)
class Tokens:
    """Examples as tokens, one after the other.

    Attributes
    ----------
    ids : ndarray of int32, shape (tokens,)
    kinds : ndarray of int32, shape (tokens,), or None
        Which sentence a token is of.
    starts : ndarray of int64, shape (n + 1,)
        Where each example begins, and the last ends.
    labels : ndarray, shape (n,)
    padding : Padding
    shortened : int
        Examples that lost tokens to the limit.
    """

    ids: np.ndarray
    kinds: np.ndarray | None
    starts: np.ndarray
    labels: np.ndarray
    padding: Padding
    shortened: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example, shape (n,)."""
        return np.diff(self.starts)

    def steps(self, size: int) -> int:
        """Batches in an epoch."""
        return -(-len(self) // _at_least_one(size))

    def batches(
        self,
        size: int,
        seed: int,
        epoch: int,
        start: int = 0,
        *,
        bucketed: bool = False,
        among: np.ndarray | None = None,
    ) -> Iterator[Encoded]:
        """Batches `start`, `start` + 1, … of one epoch, shuffled: a function of the arguments alone.

        Parameters
        ----------
        size : int
            Examples of a batch; one batch has what is left over.
        seed, epoch : int
        start : int
        bucketed : bool
            Examples of about one length together, which saves padding; see `retrim.zoo.glue.order`.
        among : ndarray of int, optional
            Numbers of the examples to take; without it, all.
        """
        taken = np.arange(len(self)) if among is None else among
        chosen = shuffled(self.lengths[taken], _at_least_one(size), seed, epoch, bucketed=bucketed)
        return (self.batch(taken[numbers]) for numbers in chosen[start:])

    def in_order(self, size: int) -> Iterator[Encoded]:
        """All examples once, as they come: to evaluate on."""
        return (self.batch(numbers) for numbers in cut(np.arange(len(self)), _at_least_one(size)))

    def batch(self, numbers: np.ndarray | Sequence[int]) -> Encoded:
        """The examples of these numbers, filled up to one length."""
        numbers = np.asarray(numbers, dtype=np.int64)
        first = self.starts[numbers, None]
        lengths = self.starts[numbers + 1, None] - first
        width = self.padding.width(int(lengths.max()))
        column = np.arange(width) - (width - lengths if self.padding.left else 0)
        there = (column >= 0) & (column < lengths)
        taken = np.where(there, first + column, 0)

        def filled(values: np.ndarray, fill: int) -> torch.Tensor:
            return torch.from_numpy(np.where(there, values[taken], fill).astype(np.int64))

        return Encoded(
            filled(self.ids, self.padding.token),
            torch.from_numpy(there.astype(np.int64)),
            None if self.kinds is None else filled(self.kinds, self.padding.kind),
            torch.from_numpy(self.labels[numbers]),
        )


def encode(examples: Examples, tokenizer: Tokenizer, max_length: int = 128) -> Tokens:
    """Tokenise examples.

    Parameters
    ----------
    examples : Examples
    tokenizer : PreTrainedTokenizerFast
        Or what can be called as it.
    max_length : int
        Tokens of an example at most, special ones too; of a pair the longer sentence loses tokens first.

    Raises
    ------
    ConfigError
        If the tokenizer has no token to fill up with, or `max_length` is too small for any text, or larger than
        the model takes.

    Warns
    -----
    UserWarning
        If examples were longer, with their number.
    """
    padding = _padding(tokenizer)
    special = tokenizer.num_special_tokens_to_add(pair=examples.second is not None)
    if max_length <= special:
        raise ConfigError(
            f"max_length must leave room for text beside {special} special tokens, not {max_length}: make it larger"
        )
    if max_length > padding.most:
        raise ConfigError(
            f"max_length must be at most the model's {padding.most} tokens, not {max_length}: make it smaller"
        )
    ids: list[Sequence[int]] = []
    kinds: list[Sequence[int]] = []
    shortened = 0
    for start in range(0, len(examples), _AT_ONCE):
        some = range(start, min(start + _AT_ONCE, len(examples)))
        given = _tokens(tokenizer, examples, some, None)
        long = [number for number, row in zip(some, given[0], strict=True) if len(row) > max_length]
        shortened += len(long)
        for place, *rows in zip(long, *_tokens(tokenizer, examples, long, max_length), strict=True):
            for of_all, row in zip(given, rows, strict=True):
                of_all[place - start] = row
        ids += given[0]
        kinds += given[1] if len(given) == 2 else []
    if shortened:
        warnings.warn(
            f"{shortened} of {len(examples)} examples are longer than max_length, {max_length} tokens, and are cut",
            stacklevel=2,
        )
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)
    return Tokens(_flat(ids), _flat(kinds) if kinds else None, starts, examples.labels, padding, shortened)


def _tokens(
    tokenizer: Tokenizer, examples: Examples, numbers: Sequence[int], max_length: int | None
) -> list[list[Sequence[int]]]:
    """Ids of the chosen examples, and the sentences that tokens are of where the model takes them."""
    if not numbers:
        return [[]]
    found = tokenizer(
        [examples.first[number] for number in numbers],
        None if examples.second is None else [examples.second[number] for number in numbers],
        truncation=False if max_length is None else "longest_first",
        max_length=max_length,
        return_attention_mask=False,
        verbose=False,
    )
    return [list(found[name]) for name in ("input_ids", "token_type_ids") if name in found]


def _padding(tokenizer: Tokenizer) -> Padding:
    if tokenizer.pad_token_id is None:
        raise ConfigError(
            "tokenizer must have a token to fill short examples up with, but has none: set tokenizer.pad_token, "
            "as to tokenizer.eos_token, and the model's pad_token_id"
        )
    left = tokenizer.padding_side == "left"
    most = int(tokenizer.model_max_length)
    return Padding(tokenizer.pad_token_id, tokenizer.pad_token_type_id, left, most)


def _flat(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32)


def _at_least_one(size: int) -> int:
    if size < 1:
        raise ConfigError(f"size of a batch must be a whole number >= 1, not {size}")
    return size
