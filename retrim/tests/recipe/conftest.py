"""A recipe so small that it trains in a second, and its text; measurements that take no time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from retrim.recipe import expectation, profiles
from retrim.runtime import isa, profile_file, tuning
from retrim.runtime.entry import Entry, Request
from retrim.runtime.matrix import variants
from retrim.runtime.profile import Profile

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


class Measurer:
    """In place of `calibrate`: times by a rule, and what was asked for.

    A microsecond for every thousand stored weights in fp32, half in bf16, a quarter
    in int8; a third more where columns have to be joined to lanes; torch's dense
    layers take a tenth longer than ours.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.seconds: list[float] = []

    def __call__(
        self,
        profile: Profile,
        requests: Iterable[Request],
        *,
        seconds: float,
        rivals: Sequence[Any],
        progress: Callable[[int, int], None],
    ) -> Profile:
        asked = [request for request in requests if not profile.has(request)]
        self.requests += asked
        self.seconds.append(seconds)
        for done, request in enumerate(asked if seconds else [], 1):
            profile = profile.adding([*self.times(request), *self.times(request.dense())])
            progress(done, len(asked))
        return profile

    def times(self, request: Request) -> list[Entry]:
        fields = {name: getattr(request, name) for name in Request.__dataclass_fields__}
        width = {"fp32": 1, "bf16": 2, "int8": 4}[request.precision]
        time = request.work / 1000 / width * (4 / 3 if request.group % width else 1)
        ours = {(isa.available()[0], v): time for v in variants(request.precision, request.group)}
        torchs = {("torch", "linear"): 1.1 * time} if request.density == 1 else {}
        return [
            Entry(**fields, isa=name, variant=variant, microseconds=found, runs=5)
            for (name, variant), found in (ours | torchs).items()
        ]


@pytest.fixture
def measurer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Measurer]:
    """Measurements by a rule, for a profile of the test's own."""
    found = Measurer()
    monkeypatch.setattr(expectation, "calibrate", found)
    monkeypatch.setattr(profiles, "calibrate_", found)
    monkeypatch.setenv(profile_file.VARIABLE, str(tmp_path / "profile.json"))
    monkeypatch.delenv(isa.VARIABLE, raising=False)
    tuning.forget()
    yield found
    tuning.forget()
