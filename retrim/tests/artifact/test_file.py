"""Artifacts on disk: exact, readable by stock safetensors, and nothing damaged gets past `load`."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrim.artifact import Artifact, Pack, PackedWeight, Tensor, load, save
from retrim.artifact.layout import pack_rows, parse
from retrim.errors import ArtifactError, ConfigError


def packed(
    mask: np.ndarray,
    kind: str = "linear",
    support: bool = False,
    precisions: tuple[str, ...] = ("fp32",),
    group: int = 1,
) -> PackedWeight:
    matrix = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    structure = {"type": "BlockColumns", "rows": 32, "budget": "balanced"}
    return PackedWeight(
        shape=mask.shape if kind == "linear" else mask.shape[::-1],
        kind=kind,
        structure=structure if group == 1 else structure | {"group": group},
        density=float(mask.mean()),
        packs=tuple(Pack(p, 32, pack_rows(matrix, mask, 32, p, group)) for p in precisions),
        support=mask if support else None,
    )


def columns(outputs: int = 64, inputs: int = 10) -> np.ndarray:
    mask = np.zeros((outputs, inputs), bool)
    mask[:, ::2] = True
    return mask


def example() -> Artifact:
    """One of everything, the same at every call."""
    rng = np.random.default_rng(0)
    return Artifact(
        architecture="tests.Network",
        config={"width": 10, "names": ["a", "ü"]},
        tensors={
            "bias": Tensor.of(rng.standard_normal(64).astype(np.float32)),
            "half": Tensor.of(rng.standard_normal((3, 5)).astype(np.float16)),
            "brain": Tensor("BF16", rng.integers(0, 2**16, (3, 3)).astype(np.uint16)),
            "double": Tensor.of(rng.standard_normal((2, 3, 4))),
            "steps": Tensor.of(np.array(7)),
            "flags": Tensor.of(np.array([True, False, True])),
            "bytes": Tensor.of(np.arange(5, dtype=np.uint8)),
            "none": Tensor.of(np.zeros((0, 4), np.float32)),
        },
        weights={
            "up.weight": packed(columns()),
            "sparse.weight": packed(rng.random((33, 9)) < 0.3, support=True),
            "turned.weight": packed(columns(32, 6), "conv1d"),
            "many.weight": packed(
                np.repeat(columns(64, 6), 2, axis=1), precisions=("int8", "fp32", "bf16"), group=2
            ),
            "small.weight": packed(rng.random((40, 8)) < 0.3, "linear", True, ("int8",)),
        },
        aliases={"also.bias": "bias", "again.weight": "up.weight"},
        tokenizer='{"model": "ü"}',
        metrics={"perplexity": 12.5},
        provenance={"retrim": "0.1.0"},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    where = tmp_path / "model.safetensors"
    save(where, example())
    return where


def refused(path: Path, sentence: str, verify: Any = "full") -> None:
    with pytest.raises(ArtifactError) as caught:
        load(path, verify=verify)
    assert str(caught.value) == sentence


def name(path: Path) -> str:
    return f"artifact {str(path)!r}"


# --- what comes back ------------------------------------------------------------------


def assert_same(one: Artifact, other: Artifact) -> None:
    for field in ("architecture", "config", "aliases", "tokenizer", "metrics", "provenance"):
        assert getattr(one, field) == getattr(other, field)
    assert one.tensors.keys() == other.tensors.keys()
    for key, tensor in one.tensors.items():
        assert tensor.dtype == other.tensors[key].dtype
        assert tensor.data.dtype == other.tensors[key].data.dtype
        assert tensor.data.shape == other.tensors[key].data.shape
        assert tensor.data.tobytes() == other.tensors[key].data.tobytes()
    assert one.weights.keys() == other.weights.keys()
    for key, weight in one.weights.items():
        back = other.weights[key]
        for field in ("shape", "kind", "structure", "density"):
            assert getattr(weight, field) == getattr(back, field)
        assert [(p.precision, p.rows) for p in weight.packs] == [(p.precision, p.rows) for p in back.packs]
        assert [p.data.tobytes() for p in weight.packs] == [p.data.tobytes() for p in back.packs]
        assert (weight.support is None) == (back.support is None)
        for pack in weight.packs:
            np.testing.assert_array_equal(back.pack(pack.precision).data, pack.data)
        np.testing.assert_array_equal(weight.mask(), back.mask())
        np.testing.assert_array_equal(weight.matrix(), back.matrix())


@pytest.mark.parametrize("verify", ["full", "header"])
def test_what_is_saved_comes_back(path: Path, verify: Any) -> None:
    save(path, wanted := example())
    assert_same(load(path, verify=verify), wanted)
    assert_same(load(str(path)), wanted)


def test_saving_what_was_loaded_gives_the_same_bytes(path: Path) -> None:
    before = path.read_bytes()
    size = save(path, load(path))  # onto the very file that is mapped
    assert path.read_bytes() == before
    assert size == len(before)


def test_an_artifact_of_nothing(tmp_path: Path) -> None:
    save(tmp_path / "empty", Artifact(architecture="none", config={}, tensors={}, weights={}))
    back = load(tmp_path / "empty")
    assert (back.tensors, back.weights, back.density, back.parameters) == ({}, {}, 1.0, 0)


def test_sizes_count_what_is_kept() -> None:
    artifact = example()
    dense = 64 + 15 + 9 + 24 + 1 + 3 + 5
    free = sum(int(artifact.weights[name].mask().sum()) for name in ("sparse.weight", "small.weight"))
    assert artifact.parameters == dense + 320 + free + 96 + 384
    assert artifact.density == (320 + free + 96 + 384) / (640 + 297 + 192 + 768 + 320)


def test_arrays_that_are_not_contiguous_are_stored_in_order(tmp_path: Path) -> None:
    turned = np.arange(12, dtype=np.float32).reshape(3, 4).T
    save(
        tmp_path / "x",
        Artifact(architecture="x", config={}, tensors={"a": Tensor.of(turned)}, weights={}),
    )
    np.testing.assert_array_equal(load(tmp_path / "x").tensors["a"].data, turned)


# --- the file as others see it ----------------------------------------------------------


def test_stock_safetensors_reads_it(path: Path) -> None:
    artifact = load(path)
    with safetensors.safe_open(path, framework="numpy") as stock:
        assert stock.metadata()["format"] == "retrim"
        assert "up.weight.fp32.r32" in stock.keys()  # noqa: SIM118 - not a dict
        np.testing.assert_array_equal(stock.get_tensor("double"), artifact.tensors["double"].data)
        pack = stock.get_tensor("up.weight.fp32.r32")
    np.testing.assert_array_equal(pack, artifact.weights["up.weight"].pack().data)
    in_torch = safetensors.torch.load_file(path)
    assert in_torch["brain"].dtype == torch.bfloat16
    bits = in_torch["brain"].view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(bits, artifact.tensors["brain"].data)
    assert in_torch["steps"].shape == ()
    assert in_torch["none"].shape == (0, 4)
    np.testing.assert_array_equal(in_torch["flags"].numpy(), [True, False, True])


def test_stock_numpy_reads_it_where_there_is_no_bfloat16(tmp_path: Path) -> None:
    artifact = example()
    tensors = {key: tensor for key, tensor in artifact.tensors.items() if key != "brain"}
    save(tmp_path / "x", replace(artifact, tensors=tensors))
    read = safetensors.numpy.load_file(tmp_path / "x")
    assert read["tokenizer.json"].tobytes().decode() == artifact.tokenizer
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(read[key], tensor.data)


def test_packs_lie_at_multiples_of_64_and_tensors_at_those_of_their_type(path: Path) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    sizes = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BF16": 2}
    for key, entry in header.items():
        if key != "__metadata__":
            first = 8 + length + entry["data_offsets"][0]
            assert first % sizes.get(entry["dtype"], 1) == 0
            assert first % (64 if re.search(r"\.(fp32|bf16|int8)\.r32$", key) else 1) == 0
    artifact = load(path)
    for pack in (pack for weight in artifact.weights.values() for pack in weight.packs):
        assert pack.data.ctypes.data % 64 == 0
    assert all(tensor.data.flags.aligned for tensor in artifact.tensors.values())


def test_the_file_is_mapped(tmp_path: Path) -> None:
    big = np.zeros(8_000_000, np.float32)
    mask = np.ones((4096, 1024), bool)
    weight = packed(mask)
    save(
        tmp_path / "x",
        Artifact(architecture="x", config={}, tensors={"a": Tensor.of(big)}, weights={"w": weight}),
    )
    tracemalloc.start()
    try:
        artifact = load(tmp_path / "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000  # of 48 MB
    for array in (artifact.tensors["a"].data, artifact.weights["w"].pack().data):
        assert not array.flags.writeable
        assert not array.flags.owndata
    view = parse(artifact.weights["w"].pack().data)
    assert np.shares_memory(view.values, artifact.weights["w"].pack().data)


def test_loading_needs_neither_torch_nor_pickle(path: Path) -> None:
    program = f"""
import pickle, sys
def refuse(*args, **kwargs): raise AssertionError("pickle was used")
pickle.load = pickle.loads = pickle.Unpickler = refuse
from retrim.artifact import load
artifact = load({str(path)!r})
assert artifact.weights["up.weight"].matrix().shape == (64, 10)
print(sorted({{"torch", "safetensors"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- what must not be saved ---------------------------------------------------------------


def with_weight(**fields: Any) -> Artifact:
    return replace(example(), aliases={}, weights={"w": replace(packed(columns()), **fields)})


def with_tensors(**tensors: Tensor) -> Artifact:
    return replace(example(), aliases={}, tensors=tensors)


SHORT = pack_rows(np.ones((64, 10), np.float32), columns())[:-64]


@pytest.mark.parametrize(
    ("artifact", "sentence"),
    [
        (
            with_tensors(**{"up.weight": Tensor.of(np.zeros(3))}),
            "'up.weight' must be a tensor or a packed weight, not both",
        ),
        (
            with_tensors(**{"up.weight.fp32.r32": Tensor.of(np.zeros(3))}),
            "a tensor must not be named 'up.weight.fp32.r32', as the file names a part of its own: rename it",
        ),
        (
            with_tensors(**{"sparse.weight.support": Tensor.of(np.zeros(3))}),
            "a tensor must not be named 'sparse.weight.support', as the file names a part of its own: rename it",
        ),
        (
            with_tensors(**{"tokenizer.json": Tensor.of(np.zeros(3))}),
            "a tensor must not be named 'tokenizer.json', as the file names a part of its own: rename it",
        ),
        (
            with_tensors(__metadata__=Tensor.of(np.zeros(3))),
            "a tensor must not be named '__metadata__', as the file names a part of its own: rename it",
        ),
        (
            with_tensors(a=Tensor("F32", np.zeros(3))),
            "a: a tensor of type F32 must be an array of float32, not of float64",
        ),
        (
            with_tensors(a=Tensor("C64", np.zeros(3))),
            "a: a tensor's type must be one of F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL, not 'C64'",
        ),
        (
            replace(example(), aliases={"x": "y"}),
            "'x' must be an alias of a tensor or weight, but there is no 'y'",
        ),
        (
            replace(example(), aliases={"half": "bias"}),
            "'half' must be an alias of 'bias' or have numbers of its own, not both",
        ),
        (
            with_weight(shape=(10, 64)),
            "w: a pack must be of the weight's shape (10, 64) in blocks of 32 rows, not 64 x 10 in blocks of 32: "
            "the file is damaged",
        ),
        (
            with_weight(packs=(Pack("fp32", 64, packed(columns()).pack().data),)),
            "w: a pack must be of the weight's shape (64, 10) in blocks of 64 rows, not 64 x 10 in blocks of 32: "
            "the file is damaged",
        ),
        (
            with_weight(shape=(2, 5, 64)),
            "w: a linear weight must not have shape (2, 5, 64): the file is damaged",
        ),
        (
            with_weight(packs=(Pack("fp32", 32, SHORT),)),
            "w: a pack must hold all its values, but ends early: the file is damaged",
        ),
        (
            with_weight(packs=packed(columns()).packs * 2),
            "w: a weight must have one pack of each precision, not ['fp32', 'fp32']",
        ),
        (with_weight(packs=()), "w: a weight must have one pack of each precision, not []"),
        (
            with_weight(packs=(Pack("int8", 32, packed(columns()).pack().data),)),
            "w: a pack of precision int8 must not hold fp32: the file is damaged",
        ),
        (
            with_weight(packs=packed(columns(), precisions=("bf16", "fp32", "bf16")).packs),
            "w: a weight must have one pack of each precision, not ['bf16', 'fp32', 'bf16']",
        ),
        (
            with_weight(structure={"type": "BlockColumns", "rows": 32, "group": 2}),
            "w: a pack must keep columns in the structure's groups of 2, not of 1: the file is damaged",
        ),
        (
            with_weight(
                structure={"type": "Within", "outer": {"type": "BlockColumns", "rows": 32, "group": 4}},
                packs=packed(columns(), precisions=("int8",), group=2).packs,
            ),
            "w: a pack must keep columns in the structure's groups of 4, not of 2: the file is damaged",
        ),
        (
            with_weight(support=np.ones((10, 64), bool)),
            "w: a support must be of the pack's shape: the file is damaged",
        ),
        (
            with_weight(density=0.0),
            "w: density of a packed weight must be otherwise than 0.0: Input should be greater than 0",
        ),
        (with_weight(structure={}), "w: a structure must have a type, not be {}"),
        (
            replace(example(), metrics={"accuracy": np.float32(0.5)}),
            "metrics of an artifact must be plain numbers, strings, lists and tables: "
            "Object of type float32 is not JSON serializable",
        ),
        (
            replace(example(), config={"perplexity": float("nan")}),
            "config of an artifact must be plain numbers, strings, lists and tables: "
            "Out of range float values are not JSON compliant",
        ),
    ],
)
def test_parts_that_do_not_fit_are_not_saved(artifact: Artifact, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        save(tmp_path / "x", artifact)
    assert str(caught.value).split(": nan")[0] == sentence  # newer Pythons add the value
    assert list(tmp_path.iterdir()) == []


def test_types_that_safetensors_lacks() -> None:
    with pytest.raises(ArtifactError) as caught:
        Tensor.of(np.zeros(2, np.complex64))
    assert str(caught.value) == (
        "a tensor's type must be one of float64, float32, float16, int64, int32, int16, int8, uint8, bool, "
        "not complex64"
    )


def test_the_matrix_is_that_of_the_most_precise_pack() -> None:
    mask = columns()
    exact = packed(mask).matrix()
    for precisions in (("int8", "fp32"), ("bf16", "fp32", "int8"), ("fp32",)):
        weight = packed(mask, precisions=precisions)
        np.testing.assert_array_equal(weight.matrix(), exact)
        assert weight.nbytes == sum(pack.data.nbytes for pack in weight.packs)
    brief = packed(mask, precisions=("int8", "bf16"))
    assert 0 < np.abs(brief.matrix() - exact).max() <= 2**-9 * np.abs(exact).max()
    np.testing.assert_array_equal(brief.mask(), mask)


def test_a_precision_that_was_not_packed() -> None:
    with pytest.raises(ArtifactError) as caught:
        packed(columns()).pack("int8")
    assert str(caught.value) == ("precision must be one that the weight was packed in (fp32), not 'int8'")


# --- saving that fails ----------------------------------------------------------------------


def test_no_space_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError) as caught:
        save(path, with_weight())
    assert str(caught.value) == (
        f"{name(path)} cannot be written: No space left on device; free some space or choose another folder"
    )
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_may_not_grow(path: Path) -> None:
    """The system itself stops the writing half-way."""
    before = path.read_bytes()
    program = f"""
import resource, numpy as np
from retrim.artifact import Artifact, Tensor, save
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
save({str(path)!r}, Artifact(architecture="x", config={{}}, tensors={{"a": Tensor.of(np.ones(100_000))}}, weights={{}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"retrim.errors.ArtifactError: {name(path)} cannot be written: File too large; free some space or "
        "choose another folder"
    )
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_no_permission(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    before = path.read_bytes()
    sentence = f"{name(path)} cannot be written: Permission denied; free some space or choose another folder"
    for place, function in ((Path, "open"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(place, function, forbidden)
            with pytest.raises(ArtifactError) as caught:
                save(path, example())
        assert str(caught.value) == sentence
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


def test_no_folder(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "x"
    with pytest.raises(ArtifactError) as caught:
        save(target, example())
    assert str(caught.value) == (
        f"{name(target)} cannot be written: No such file or directory; free some space or choose another folder"
    )


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.mkdir()
    with pytest.raises(ArtifactError) as caught:
        save(target, example())
    assert str(caught.value) == (
        f"{name(target)} cannot be written: Is a directory; free some space or choose another folder"
    )
    assert list(tmp_path.iterdir()) == [target]


def test_an_interruption_leaves_nothing_beside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> NoReturn:
        raise KeyboardInterrupt

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(path, with_weight())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["file.raw", "os.fsync", "os.replace"])
def test_a_killed_process_leaves_the_old_file(path: Path, moment: str) -> None:
    before = path.read_bytes()
    program = f"""
import os, signal, numpy as np
from retrim.artifact import Artifact, Tensor, file, save
kept = {moment}
def die(*args):
    if len(calls) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(args)
    return kept(*args)
calls = [()] if "raw" not in {moment!r} else []
{moment} = die
tensors = {{name: Tensor.of(np.ones(100_000)) for name in "ab"}}
save({str(path)!r}, Artifact(architecture="x", config={{}}, tensors=tensors, weights={{}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert path.read_bytes() == before
    assert load(path).architecture == "tests.Network"


# --- loading what is no artifact, or no longer one --------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    where = tmp_path / "x"
    refused(where, f"{name(where)} must be a file that can be read: No such file or directory")
    refused(tmp_path, f"{name(tmp_path)} must be a file that can be read: Is a directory")


def test_a_file_that_may_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbidden)
    refused(path, f"{name(path)} must be a file that can be read: Permission denied")


def test_an_unknown_way_to_verify(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, verify="quick")
    assert str(caught.value) == "verify must be 'full' or 'header', not 'quick'"


FOREIGN = "must be a safetensors file, but its header is none: it is damaged or of another kind"


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_a_file_that_is_too_short(tmp_path: Path, content: bytes) -> None:
    where = tmp_path / "x"
    where.write_bytes(content)
    refused(
        where,
        f"{name(where)} must be a safetensors file, but is too short to be one: the file is damaged",
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"GGUF and so on", FOREIGN),
        (b"PK\x03\x04\0\0\0\0" * 100, FOREIGN),
        (bytes(8), FOREIGN),
        ((1000).to_bytes(8, "little") + b"{}", "ends within its header: the file is damaged; copy it anew"),
        ((2).to_bytes(8, "little") + b"[]", FOREIGN),
        ((4).to_bytes(8, "little") + b"\xff\xff{}", FOREIGN),
        ((200_000).to_bytes(8, "little") + b'{"a":' + b"[" * 199_995, FOREIGN),
        ((2**63).to_bytes(8, "little") + b"{}", FOREIGN),
        (
            (2).to_bytes(8, "little") + b"{}",
            "must be written by retrim, but is another safetensors file: make one with `retrim pack`",
        ),
        ((14).to_bytes(8, "little") + b'{"a":1, "a":1}', FOREIGN),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, sentence: str) -> None:
    where = tmp_path / "x"
    where.write_bytes(content)
    refused(where, f"{name(where)} {sentence}")


def test_a_stock_safetensors_file(tmp_path: Path) -> None:
    where = tmp_path / "x.safetensors"
    for metadata in (None, {"format": "pt"}):
        safetensors.torch.save_file({"a": torch.ones(3)}, where, metadata=metadata)
        refused(
            where,
            f"{name(where)} must be written by retrim, but is another safetensors file: make one with "
            "`retrim pack`",
        )


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(path: Path, header: dict[str, Any] | str, body: bytes) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def forge(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Rewrite manifest and header, the manifest's checksum included, as an attacker would."""
    header, body = split(path)
    manifest = json.loads(header["__metadata__"]["manifest"])
    change(manifest, header)
    text = json.dumps(manifest)
    header["__metadata__"]["manifest"] = text
    header["__metadata__"]["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    join(path, header, body)


@pytest.mark.parametrize("version", ["2", "10"])
def test_a_newer_file(path: Path, version: str) -> None:
    header, body = split(path)
    header["__metadata__"]["version"] = version
    join(path, header, body)
    refused(path, f"{name(path)} must be of format 1 at most, not {version}: upgrade retrim")


DAMAGED_MANIFEST = "is damaged: copy the file anew or pack it again"


@pytest.mark.parametrize("version", ["0", "1.0", "q", None, "9" * 5000])
def test_a_version_that_is_none(path: Path, version: str | None) -> None:
    header, body = split(path)
    if version is None:
        del header["__metadata__"]["version"]
    else:
        header["__metadata__"]["version"] = version
    join(path, header, body)
    refused(path, f"the manifest of {name(path)} {DAMAGED_MANIFEST}")


def test_a_manifest_that_is_no_text(path: Path) -> None:
    header, body = split(path)
    header["__metadata__"]["manifest"] = "\ud800"
    join(path, header, body)
    refused(path, f"the manifest of {name(path)} {DAMAGED_MANIFEST}")


def test_a_manifest_that_was_changed(path: Path) -> None:
    header, body = split(path)
    header["__metadata__"]["manifest"] = header["__metadata__"]["manifest"].replace("12.5", "11.5")
    join(path, header, body)
    refused(path, f"the manifest of {name(path)} {DAMAGED_MANIFEST}")


def test_truncated_anywhere(path: Path) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    body = 8 + length
    for size in [*range(64), *range(64, body, 97), body - 1]:
        path.write_bytes(data[:size])
        refused(
            path,
            f"{name(path)} must be a safetensors file, but is too short to be one: the file is damaged"
            if size < 8
            else f"{name(path)} ends within its header: the file is damaged; copy it anew",
        )
    for size in [*range(body, len(data), 131), len(data) - 1]:
        path.write_bytes(data[:size])
        for verify in ("full", "header"):
            with pytest.raises(ArtifactError) as caught:
                load(path, verify=verify)
            pattern = (
                rf"{re.escape(name(path))} ends within its tensors, \d+ bytes short of '[^']+': "
                r"the file is damaged; copy it anew"
            )
            assert re.fullmatch(pattern, str(caught.value))


def test_bytes_behind_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")
    refused(
        path,
        f"{name(path)} must end after its tensors, not 4 bytes later: the file is damaged; copy it anew",
        "header",
    )


def test_a_damaged_tensor_is_named(path: Path) -> None:
    data = bytearray(path.read_bytes())
    header, body = split(path)
    first = len(data) - len(body)
    packs = ("up.weight.fp32.r32", "many.weight.bf16.r32", "many.weight.int8.r32")
    for key in ("bias", "brain", *packs, "tokenizer.json", "sparse.weight.support"):
        at = first + header[key]["data_offsets"][1] - 1
        data[at] ^= 1
        path.write_bytes(data)
        refused(
            path,
            f"tensor {key!r} of {name(path)} does not match its checksum: the file is damaged; "
            "copy it anew or pack it again",
        )
        data[at] ^= 1


@given(where=st.floats(0, 1, exclude_max=True), in_header=st.booleans(), bit=st.integers(0, 7))
@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_flipped_bit_is_found(path: Path, where: float, in_header: bool, bit: int) -> None:
    """Every flip is refused under "full"; under "header" none crashes, and packs stay sound."""
    intact = path.with_name("intact")
    if not intact.exists():
        intact.write_bytes(path.read_bytes())
    data = bytearray(intact.read_bytes())
    length = int.from_bytes(data[:8], "little")
    at = int(where * (8 + length if in_header else len(data)))
    data[at] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(ArtifactError):
        load(path)
    try:
        artifact = load(path, verify="header")
    except ArtifactError:
        return
    assert at >= 8 + length
    for weight in artifact.weights.values():
        weight.matrix()
        weight.mask()


def test_every_flip_in_the_first_bytes_and_the_padding_is_found(path: Path) -> None:
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    padding = len(data[8 : 8 + length]) - len(data[8 : 8 + length].rstrip())
    for at in [*range(40), *range(8 + length - padding - 2, 8 + length)]:
        for bit in range(8):
            data[at] ^= 1 << bit
            path.write_bytes(data)
            with pytest.raises(ArtifactError):
                load(path)
            data[at] ^= 1 << bit


# --- manifests that lie, with checksums that fit ----------------------------------------------

HEADER = "does not describe its tensors: the file is damaged; copy it anew"


@pytest.mark.parametrize(
    "shape",
    [
        [2**62, 2**62],
        [-64],
        [-8, -8],
        [0, 2**70],
        [64] + [1] * 80,
        [10**30],
        [2**31, 0, 2**63],
    ],
)
def test_shapes_that_cannot_be(path: Path, shape: list[int]) -> None:
    def change(manifest: dict[str, Any], header: dict[str, Any]) -> None:
        manifest["tensors"]["bias"]["shape"] = header["bias"]["shape"] = shape

    forge(path, change)
    for verify in ("full", "header"):
        with pytest.raises(ArtifactError) as caught:
            load(path, verify=verify)
        assert str(caught.value) in (
            f"the header of {name(path)} {HEADER}",
            f"the manifest of {name(path)} {DAMAGED_MANIFEST}",
        )


def test_a_shape_beyond_the_file(path: Path) -> None:
    def change(manifest: dict[str, Any], header: dict[str, Any]) -> None:
        last = list(manifest["tensors"])[-1]
        manifest["tensors"][last]["shape"] = header[last]["shape"] = [10**15]
        first = header[last]["data_offsets"][0]
        header[last]["data_offsets"] = [first, first + 10**15]

    forge(path, change)
    with pytest.raises(ArtifactError, match="ends within its tensors"):
        load(path)


def edit(*keys: Any, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    def change(manifest: dict[str, Any], header: dict[str, Any]) -> None:
        place = manifest
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        edit("tensors", "bias", "dtype", value="C128"),
        edit("tensors", "bias", "dtype", value="I32"),
        edit("tensors", "more", value={"dtype": "F32", "shape": [1], "sha256": "0" * 64}),
        lambda manifest, header: header.pop("bias"),
        lambda manifest, header: header["bias"].update(data_offsets=[0, 256]),
        lambda manifest, header: header["bias"].update(shape=[64, 1]),
        lambda manifest, header: header.update(bias=3),
    ],
)
def test_a_header_that_says_something_else(path: Path, change: Any) -> None:
    forge(path, change)
    refused(path, f"the header of {name(path)} {HEADER}")


@pytest.mark.parametrize(
    "change",
    [
        edit("tensors", "bias", "sha256", value="none"),
        edit("tensors", "bias", "shape", value=["64"]),
        edit("tensors", "bias", "shape", value=[64.0]),
        edit("tensors", "bias", "shape", value=64),
        edit("tensors", value=[]),
        edit("version", value=2),
        edit("more", value=1),
        edit("weights", "up.weight", "density", value=1.5),
        edit("weights", "up.weight", "kind", value="dense"),
        edit("weights", "up.weight", "packs", value=[]),
        edit("weights", "up.weight", "packs", 0, "precision", value="fp4"),
        edit("weights", "up.weight", "packs", 0, "rows", value=-32),
        lambda manifest, header: manifest.pop("config"),
    ],
)
def test_a_manifest_of_another_form(path: Path, change: Any) -> None:
    forge(path, change)
    refused(path, f"the manifest of {name(path)} {DAMAGED_MANIFEST}")


def test_a_manifest_with_a_key_twice(path: Path) -> None:
    header, body = split(path)
    text = header["__metadata__"]["manifest"].replace('"metrics":', '"metrics":{},"metrics":', 1)
    header["__metadata__"]["manifest"] = text
    header["__metadata__"]["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    join(path, header, body)
    refused(path, f"the manifest of {name(path)} {DAMAGED_MANIFEST}")


def test_a_header_with_a_tensor_twice(path: Path) -> None:
    header, body = split(path)
    text = json.dumps(header)
    join(path, text[:-1] + ', "bias": ' + json.dumps(header["bias"]) + "}", body)
    refused(path, f"{name(path)} {FOREIGN}")


def test_a_manifest_nested_without_end(path: Path) -> None:
    forge(path, edit("config", value={"x": 1}))
    header, body = split(path)
    text = header["__metadata__"]["manifest"].replace(
        '{"x": 1}', '{"x": ' + "[" * 50_000 + "]" * 50_000 + "}"
    )
    header["__metadata__"]["manifest"] = text
    header["__metadata__"]["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    join(path, header, body)
    refused(path, f"the manifest of {name(path)} {DAMAGED_MANIFEST}")


PACK = "up.weight.fp32.r32"
AGAIN = "the file is damaged; copy it anew or pack it again"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            edit("weights", "up.weight", "packs", 0, "tensor", value="nowhere"),
            f"artifact NAME misses a part of 'up.weight' ('nowhere'): {AGAIN}",
        ),
        (
            edit("weights", "sparse.weight", "packs", 0, "tensor", value=PACK),
            f"artifact NAME misses a part of 'sparse.weight' ('{PACK}'): {AGAIN}",
        ),
        (
            edit("weights", "up.weight", "packs", 0, "tensor", value="bytes"),
            "artifact NAME: up.weight: a pack must be an array of at least 64 bytes: the file is damaged",
        ),
        (
            edit("weights", "up.weight", "packs", 0, "rows", value=64),
            "artifact NAME: up.weight: a pack must be of the weight's shape (64, 10) in blocks of 64 rows, "
            "not 64 x 10 in blocks of 32: the file is damaged",
        ),
        (
            edit("weights", "up.weight", "packs", 0, "precision", value="bf16"),
            "artifact NAME: up.weight: a pack of precision bf16 must not hold fp32: the file is damaged",
        ),
        (
            edit("weights", "many.weight", "packs", 1, "precision", value="int8"),
            "artifact NAME: many.weight: a weight must have one pack of each precision, "
            "not ['int8', 'int8', 'bf16']",
        ),
        (
            edit("weights", "many.weight", "structure", "group", value=4),
            "artifact NAME: many.weight: a pack must keep columns in the structure's groups of 4, not of 2: "
            "the file is damaged",
        ),
        (
            edit("weights", "up.weight", "shape", value=[2**32, 2**32]),
            "artifact NAME: up.weight: a pack must be of the weight's shape (4294967296, 4294967296) in blocks "
            "of 32 rows, not 64 x 10 in blocks of 32: the file is damaged",
        ),
        (
            edit("weights", "up.weight", "shape", value=[640]),
            "artifact NAME: up.weight: a linear weight must not have shape (640,): the file is damaged",
        ),
        (
            edit("weights", "up.weight", "structure", value={"type": 3}),
            "artifact NAME: up.weight: a structure must have a type, not be {'type': 3}",
        ),
        (
            edit("weights", "up.weight", "support", value="bytes"),
            "artifact NAME: a support must have one bit for each weight: the file is damaged",
        ),
        (
            edit("weights", "up.weight", "support", value="nowhere"),
            f"artifact NAME misses a part of 'up.weight' ('nowhere'): {AGAIN}",
        ),
        (
            edit("tokenizer", value="nowhere"),
            f"artifact NAME misses a part of 'the tokenizer' ('nowhere'): {AGAIN}",
        ),
        (
            edit("aliases", "x", value="nowhere"),
            "artifact NAME: 'x' must be an alias of a tensor or weight, but there is no 'nowhere'",
        ),
        (
            edit("aliases", "also.bias", value="again.weight"),
            "artifact NAME: 'also.bias' must be an alias of a tensor or weight, but there is no 'again.weight'",
        ),
        (
            edit("aliases", "half", value="bias"),
            "artifact NAME: 'half' must be an alias of 'bias' or have numbers of its own, not both",
        ),
    ],
)
def test_a_manifest_that_does_not_fit(path: Path, change: Any, sentence: str) -> None:
    forge(path, change)
    refused(path, sentence.replace("artifact NAME", name(path)))


def test_a_tensor_with_the_name_of_a_weight(path: Path) -> None:
    def change(manifest: dict[str, Any], header: dict[str, Any]) -> None:
        for table in (manifest["tensors"], header):
            entries = [("up.weight" if key == "bias" else key, value) for key, value in table.items()]
            table.clear()
            table.update(entries)
        manifest["aliases"] = {}

    forge(path, change)
    refused(path, f"{name(path)}: 'up.weight' must be a tensor or a packed weight, not both")


def test_a_tokenizer_that_is_no_text(path: Path) -> None:
    save(
        path,
        replace(example(), tokenizer=None, tensors={"t": Tensor.of(np.full(4, 255, np.uint8))}, aliases={}),
    )
    forge(path, edit("tokenizer", value="t"))
    with pytest.raises(
        ArtifactError, match=rf"^{re.escape(name(path))} misses a part of 'the tokenizer' \('utf-8'"
    ):
        load(path)
