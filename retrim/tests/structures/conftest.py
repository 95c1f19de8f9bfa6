"""Every structure, for the batteries that all of them pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from retrim.structures import BlockColumns, BlockRows, Channels, Elements, Filters, Structure, Within

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
