"""Damaged in whatever way, a file is refused or holds packs that kernels may read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrim.artifact import Artifact, Pack, PackedWeight, Tensor, file, load, save
from retrim.artifact.layout import GROUPS, PRECISIONS, PackView, pack_rows, parse
from retrim.errors import ArtifactError

Edit = Callable[[bytes], bytes]

WORST = [31, 33, 64, 96, 127, 128, 2**16, 2**31 - 32, 2**31 - 1, 2**31, 2**32 - 32, 2**32 - 2, 2**32 - 1]
"""Whole numbers that damage most."""


def word(at: int, new: Callable[[int], int]) -> Edit:
    """Change the 32 bits number `at` of the file."""

    def change(data: bytes) -> bytes:
        found = int.from_bytes(data[4 * at : 4 * at + 4], "little")
        return data[: 4 * at] + (new(found) % 2**32).to_bytes(4, "little") + data[4 * at + 4 :]

    return change


def splice(at: int, count: int, new: bytes) -> Edit:
    """Put `new` in the place of `count` bytes."""
    return lambda data: data[: at % (len(data) + 1)] + new + data[at % (len(data) + 1) + count :]


def flip(at: int, bits: int) -> Edit:
    return lambda data: splice(at, 1, bytes([data[at % len(data)] ^ bits]))(data) if data else data


# header and lists of a pack are its first 200 words
words = st.integers(0, 20) | st.integers(16, 200)
in_place = st.one_of(
    st.builds(lambda at, by: word(at, lambda n: n + by), words, st.integers(-4, 4)),
    st.builds(lambda at, to: word(at, lambda n: to), words, st.integers(0, 30) | st.sampled_from(WORST)),
    st.builds(flip, st.integers(0, 2**13), st.integers(1, 255)),
)
places = st.integers(0, 127) | st.integers(0, 2**13)
sizes = st.sampled_from([1, 4, 64, 128, 2**20])
resized = st.one_of(
    st.builds(splice, places, sizes, st.just(b"")),
    st.builds(splice, places, st.just(0), st.binary(min_size=1, max_size=8)),
    st.builds(splice, places, st.just(0), sizes.filter(lambda size: size < 200).map(bytes)),
)
edits = st.lists(in_place, min_size=1, max_size=3) | st.lists(in_place | resized, min_size=1, max_size=4)


def edited(data: bytes, changes: list[Edit]) -> bytes:
    for change in changes:
        data = change(data)
    return data


def weight(precisions: tuple[str, ...], group: int, idle: int) -> PackedWeight:
    """Two blocks, the second one lower, of 24 inputs; `idle` outputs keep nothing."""
    rng = np.random.default_rng(0)
    mask = np.repeat(rng.random((2, 24)) < 0.4, 64, axis=0)[:90]
    mask[rng.permutation(90)[:idle]] = False
    matrix = rng.standard_normal(mask.shape).astype(np.float32)
    packs = (Pack(precision, 64, pack_rows(matrix, mask, 64, precision, group)) for precision in precisions)
    return PackedWeight(mask.shape, "linear", {"type": "BlockColumns"}, 0.4, tuple(packs), mask)


def artifact(packed: PackedWeight) -> Artifact:
    return Artifact(
        architecture="x",
        config={"width": 24},
        tensors={"bias": Tensor.of(np.ones(90, np.float32))},
        weights={"w": packed},
        aliases={"again": "w"},
        tokenizer="{}",
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "model.safetensors"


@settings(deadline=None, max_examples=300)
@given(changes=edits)
def test_whole_files(path: Path, in_range: Callable[[PackView], bool], changes: list[Edit]) -> None:
    intact = path.with_name("intact")
    wanted = artifact(weight(PRECISIONS, 2, 10))
    if not intact.exists():
        save(intact, wanted)
    path.write_bytes(edited(intact.read_bytes(), changes))
    try:
        found = load(path)
    except ArtifactError:
        pass
    else:  # what was changed says nothing, such as a space in the header
        assert found.config == wanted.config
        assert [p.data.tobytes() for p in found.weights["w"].packs] == [
            p.data.tobytes() for p in wanted.weights["w"].packs
        ]
    assert_sound(path, in_range, "header")


@settings(deadline=None, max_examples=300)
@given(
    precision=st.sampled_from(PRECISIONS),
    group=st.sampled_from(GROUPS),
    idle=st.sampled_from([0, 10, 70, 90]),
    changes=edits,
)
def test_packs_whose_checksums_fit(
    path: Path,
    in_range: Callable[[PackView], bool],
    precision: str,
    group: int,
    idle: int,
    changes: list[Edit],
) -> None:
    whole = weight((precision,), group, idle)
    data = np.frombuffer(edited(whole.pack(precision).data.tobytes(), changes), np.uint8)
    forged = PackedWeight(
        whole.shape, whole.kind, whole.structure, whole.density, (Pack(precision, 64, data),), whole.support
    )
    manifest, stored = file._manifest_of(artifact(forged))  # as `save` does, but unchecked
    body = b"".join(tensor.data.tobytes() for tensor in stored.values())
    path.write_bytes(file._header(manifest, stored) + body)
    assert_sound(path, in_range, "full")


def assert_sound(path: Path, in_range: Callable[[PackView], bool], verify: Any) -> None:
    try:
        found = load(path, verify=verify)
    except ArtifactError:
        return
    for packed in found.weights.values():
        for pack in packed.packs:
            assert in_range(parse(pack.data))
        assert packed.matrix().shape == packed.mask().shape == packed.shape


@settings(deadline=None, max_examples=600)
@given(
    precision=st.sampled_from(PRECISIONS),
    group=st.sampled_from(GROUPS),
    idle=st.sampled_from([0, 10, 70, 90]),
    changes=edits,
)
def test_packs_alone(
    in_range: Callable[[PackView], bool], precision: str, group: int, idle: int, changes: list[Edit]
) -> None:
    whole = weight((precision,), group, idle).pack(precision).data
    data = np.frombuffer(bytearray(edited(whole.tobytes(), changes)), np.uint8)
    try:
        view = parse(data)
    except ArtifactError:
        return
    assert in_range(view)
