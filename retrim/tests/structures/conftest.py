"""Every structure, for the batteries that all of them pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from retrim.structures import (
    BlockColumns,
    BlockRows,
    Channels,
    Elements,
    Filters,
    PatternSet,
    Structure,
    Within,
)

QUARTER = PatternSet(("81", "42", "24", "18", "c0"), (4, 4), 2)
"""Five patterns of 2 x 4 bits that keep two of them."""
HALF = PatternSet(("a5a5", "5a5a", "ff00", "00ff", "c3c3"), (4, 4), 1)
"""Five patterns of 4 x 4 bits that keep eight of them."""

STRUCTURES: list[Structure] = [
    Elements(),
    Filters(),
    Channels(),
    BlockColumns(4),
    BlockColumns(8, "global"),
    BlockColumns(4, group=2),
    BlockColumns(8, "global", group=4),
    BlockRows(4),
    BlockRows(4, "global"),
    Within(BlockColumns(4), Elements()),
    Within(BlockColumns(4, group=4), BlockColumns(2, group=2)),
    Within(BlockColumns(4), BlockColumns(2)),
    Within(BlockRows(4), BlockColumns(2)),
    Within(Filters(), Elements()),
    Within(Channels(), BlockRows(2, "global")),
    QUARTER,
    Within(BlockColumns(4), HALF),
]

LIBRARIES = {"numpy": np.asarray, "torch": torch.tensor}


def label(structure: Structure) -> str:
    return repr(structure).replace("budget=", "").replace(" ", "")


@pytest.fixture(scope="session", params=STRUCTURES, ids=label)
def structure(request: pytest.FixtureRequest) -> Structure:
    chosen: Structure = request.param
    return chosen


@pytest.fixture(scope="session", params=list(LIBRARIES))
def array(request: pytest.FixtureRequest) -> Any:
    """Maker of an array of one of the libraries from a NumPy one."""
    return LIBRARIES[request.param]
