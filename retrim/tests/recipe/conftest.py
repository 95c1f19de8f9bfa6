"""A recipe so small that it trains in a second, and its text."""

from __future__ import annotations

from pathlib import Path

import pytest

TEXT = "".join(f"def f{i}(x):\n    return x * {i} + {i % 7}\n\n" for i in range(900))

RECIPE = """
version = 1
seed = 3
[model]
vocabulary = 320
width = 32
layers = 2
heads = 2
context = 32
[corpus]
path = "{corpus}"
[train]
steps = 12
batch = 4
[prune]
steps = 10
batch = 4
harden_at = 5
pruner = {{ type = "ReweightedGroupLasso", refresh_every = 2 }}
[[prune.plan]]
weights = "blocks.*.ffn.*.weight"
structure = {{ type = "BlockColumns", rows = 32 }}
density = 0.5
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "text.py"
    path.write_text(TEXT)
    return path


@pytest.fixture
def recipe(tmp_path: Path, corpus: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE.format(corpus=corpus.as_posix()))
    return path
