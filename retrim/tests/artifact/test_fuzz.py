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
from retrim.artifact.layout import GROUPS, PRECISIONS, AnyView, pack_lists, pack_rows, parse
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


def row_groups(precision: str, height: int, levels: int) -> PackedWeight:
    """Lists of 24 inputs for 90 outputs, the last of each group of them padding where it must."""
    rng = np.random.default_rng(0)
    level = np.repeat(rng.integers(0, 2 * levels, (-(-90 // height), 24)), height, axis=0)[:90]
    matrix = rng.standard_normal((90, 24)).astype(np.float32)
    data = pack_lists(matrix, [level <= at for at in range(levels)], height, precision)
    packs = (Pack(precision, height, data),)
    return PackedWeight(
        (90, 24), "linear", {"type": "PatternSet", "group": height}, 0.4, packs, level < levels
    )


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
def test_whole_files(path: Path, in_range: Callable[[AnyView], bool], changes: list[Edit]) -> None:
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
    in_range: Callable[[AnyView], bool],
    precision: str,
    group: int,
    idle: int,
    changes: list[Edit],
) -> None:
    assert_refused_or_sound(path, in_range, weight((precision,), group, idle), changes)


@settings(deadline=None, max_examples=200)
@given(
    precision=st.sampled_from(PRECISIONS),
    height=st.sampled_from([2, 8]),
    levels=st.integers(1, 3),
    changes=edits,
)
def test_row_groups_whose_checksums_fit(
    path: Path,
    in_range: Callable[[AnyView], bool],
    precision: str,
    height: int,
    levels: int,
    changes: list[Edit],
) -> None:
    assert_refused_or_sound(path, in_range, row_groups(precision, height, levels), changes)


def assert_refused_or_sound(
    path: Path, in_range: Callable[[AnyView], bool], whole: PackedWeight, changes: list[Edit]
) -> None:
    (pack,) = whole.packs
    data = np.frombuffer(edited(pack.data.tobytes(), changes), np.uint8)
    packs = (Pack(pack.precision, pack.rows, data),)
    forged = PackedWeight(whole.shape, whole.kind, whole.structure, whole.density, packs, whole.support)
    manifest, stored = file._manifest_of(artifact(forged))  # as `save` does, but unchecked
    body = b"".join(tensor.data.tobytes() for tensor in stored.values())
    path.write_bytes(file._header(manifest, stored) + body)
    assert_sound(path, in_range, "full")


def assert_sound(path: Path, in_range: Callable[[AnyView], bool], verify: Any) -> None:
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
    in_range: Callable[[AnyView], bool], precision: str, group: int, idle: int, changes: list[Edit]
) -> None:
    assert_pack_refused_or_sound(in_range, weight((precision,), group, idle), changes)


@settings(deadline=None, max_examples=600)
@given(
    precision=st.sampled_from(PRECISIONS),
    height=st.sampled_from([1, 4, 8]),
    levels=st.integers(1, 8),
    changes=edits,
)
def test_row_groups_alone(
    in_range: Callable[[AnyView], bool], precision: str, height: int, levels: int, changes: list[Edit]
) -> None:
    assert_pack_refused_or_sound(in_range, row_groups(precision, height, levels), changes)


def assert_pack_refused_or_sound(
    in_range: Callable[[AnyView], bool], whole: PackedWeight, changes: list[Edit]
) -> None:
    data = np.frombuffer(bytearray(edited(whole.packs[0].data.tobytes(), changes)), np.uint8)
    try:
        view = parse(data)
    except ArtifactError:
        return
    assert in_range(view)
