"""Text without labels: where its words come from, and how much of it is altered."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from retrim.errors import DataError
from retrim.zoo.glue.examples import Examples
from retrim.zoo.glue.unlabelled import EXCHANGED, LEFT_OUT, REPLACED, unlabelled

FIRST = [" ".join(f"a{n}w{k}" for k in range(20)) for n in range(30)]
SECOND = [" ".join(f"b{n}w{k}" for k in range(20)) for n in range(30)]
PAIRS = Examples(FIRST, SECOND, np.zeros(30, dtype=np.float32))
OTHER = Examples([f"c{n} and more" for n in range(10)], None, np.zeros(10, dtype=np.int64))


def test_pairs_are_of_three_kinds() -> None:
    found = unlabelled([PAIRS, OTHER], 3000, pairs=True, seed=0)
    assert np.isnan(found.labels).all()
    assert found.second is not None
    words = {word for text in (*FIRST, *SECOND, *OTHER.first) for word in text.split()}
    assert {word for text in (*found.first, *found.second) for word in text.split()} <= words
    kinds = {"own": 0, "copies": 0, "apart": 0}
    sentences = {*FIRST, *SECOND, *OTHER.first}
    for first, second in zip(found.first, found.second, strict=True):
        same = len(set(first.split()) & set(second.split())) > 0.5 * len(set(first.split()))
        kinds["copies" if same else "apart" if first in sentences and second in sentences else "own"] += 1
    assert all(800 < count < 1200 for count in kinds.values()), kinds


def test_how_much_is_altered() -> None:
    alone = Examples(FIRST, None, np.zeros(30, dtype=np.int64))
    found = unlabelled([alone], 2000, pairs=False, seed=1)
    assert found.second is None
    lengths = np.array([len(text.split()) for text in found.first])
    # the first word cannot be exchanged with one before it
    assert lengths.mean() / 20 == pytest.approx(1 - LEFT_OUT, abs=0.01)
    moved = replaced = 0
    for text in found.first:
        words = text.split()
        names = [word.split("w")[0] for word in words]
        home = max(set(names), key=names.count)
        own = [int(word.split("w")[1]) for word in words if word.split("w")[0] == home]
        replaced += len(words) - len(own)
        moved += sum(a > b for a, b in pairwise(own))
    assert replaced / lengths.sum() == pytest.approx(REPLACED / (1 - LEFT_OUT), abs=0.02)
    assert 0.6 * EXCHANGED < moved / lengths.sum() < 1.2 * EXCHANGED


def test_it_depends_on_the_seed_alone() -> None:
    once, again = (unlabelled([PAIRS, OTHER], 50, pairs=True, seed=3) for _ in range(2))
    assert (once.first, once.second) == (again.first, again.second)
    assert once.first != unlabelled([PAIRS, OTHER], 50, pairs=True, seed=4).first


def test_a_sentence_never_becomes_empty() -> None:
    short = Examples(["a", "b"], None, np.zeros(2, dtype=np.int64))
    assert set(unlabelled([short], 500, pairs=False, seed=0).first) == {"a", "b"}


def test_where_there_is_nothing_to_draw_from() -> None:
    nothing = Examples([], None, np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match="must be drawn from at least one example, but there is none"):
        unlabelled([nothing], 5, pairs=False, seed=0)
    with pytest.raises(DataError, match="but its examples are single sentences"):
        unlabelled([OTHER], 5, pairs=True, seed=0)
