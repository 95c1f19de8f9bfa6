"""Text without labels, for a student to learn from its teacher on: sentences at hand, altered and paired anew.

Every drawn example is one of three kinds, a third each: an example as it stands with its
words altered; of a pair task also a sentence beside an altered copy of itself, and two
sentences that do not belong together.  Altering leaves out words, exchanges neighbours,
and puts other words of the text in (deletion, swap and replacement of arXiv 1901.11196;
replaced words are drawn from the text at random, not from a thesaurus).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retrim.errors import DataError
from retrim.zoo.glue.examples import Examples

LEFT_OUT, EXCHANGED, REPLACED = 0.1, 0.1, 0.1
"""Shares of words that are altered."""


def unlabelled(sources: Sequence[Examples], count: int, *, pairs: bool, seed: int) -> Examples:
    """Examples whose labels are unknown: NaN throughout.

    Parameters
    ----------
    sources : sequence of Examples
        Text to draw from; of the first, whole examples too.
    count : int
        How many to draw.
    pairs : bool
        Pairs of sentences, not single ones; the first source must have them then.
    seed : int
        The result depends on it and the text alone.

    Raises
    ------
    DataError
        If there is no text, or pairs are wanted of a source without them.
    """
    own = sources[0]
    if not len(own):
        raise DataError("unlabelled text must be drawn from at least one example, but there is none")
    if pairs and own.second is None:
        raise DataError("pairs must be drawn from a task with pairs, but its examples are single sentences")
    draw = np.random.default_rng([seed, count])
    sentences = [text for source in sources for text in (*source.first, *(source.second or ()))]
    altered = _Altered(sentences, draw)
    firsts, seconds = [], []
    for _ in range(count):
        kind = draw.integers(3)
        number = int(draw.integers(len(own)))
        some, other = (sentences[int(n)] for n in draw.integers(len(sentences), size=2))
        if not pairs:
            firsts.append(altered(own.first[number]) if kind == 0 else altered(some))
        elif kind == 0:
            assert own.second is not None  # noqa: S101 - checked above
            firsts.append(altered(own.first[number]))
            seconds.append(altered(own.second[number]))
        else:
            firsts.append(some)
            seconds.append(altered(some) if kind == 1 else other)
    return Examples(firsts, seconds if pairs else None, np.full(count, np.nan, dtype=np.float32))


class _Altered:
    """Alters sentences, with the words of all of them at hand."""

    def __init__(self, sentences: Sequence[str], draw: np.random.Generator) -> None:
        self._words = sorted({word for text in sentences for word in text.split()})
        self._draw = draw

    def __call__(self, text: str) -> str:
        words = text.split()
        chance = self._draw.random(len(words))
        bounds = np.cumsum([LEFT_OUT, EXCHANGED, REPLACED])
        kept: list[str] = []
        for word, number in zip(words, chance, strict=True):
            if number < bounds[0]:
                continue
            if number < bounds[1] and kept:
                kept.insert(-1, word)
            elif bounds[1] <= number < bounds[2]:
                kept.append(self._words[int(self._draw.integers(len(self._words)))])
            else:
                kept.append(word)
        return " ".join(kept) or text
