import pytest

from retrim.errors import ConfigError
from retrim.zoo.ultrafast import PAPER, SMALL, Config


def test_the_papers_sizes():
    assert PAPER.features == 1800
    assert PAPER.shape == (101, 56, 4)
    assert [round(anchor * 288) for anchor in PAPER.anchors] == list(range(64, 288, 4))
    assert SMALL.features == 32 * 3 * 8


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"height": 100}, "height must be a multiple of 32, not 100"),
        ({"width": 0}, "width must be a multiple of 32, not 0"),
        (
            {"anchors": (0.5, 0.4, 0.6)},
            "anchors must be three or more increasing numbers from 0 to below 1, not (0.5, 0.4, 0.6)",
        ),
        ({"lanes": 3}, "lanes must be an even number >= 2, not 3"),
        ({"cells": 1}, "cells must be a whole number >= 2, not 1"),
        ({"hidden": 0}, "hidden must be a whole number >= 1, not 0"),
    ],
)
def test_options_are_checked(options, sentence):
    with pytest.raises(ConfigError) as raised:
        Config(**options)
    assert str(raised.value) == sentence
