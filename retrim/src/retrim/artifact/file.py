"""Artifacts on disk: one file that stock safetensors opens, read without torch.

The file is a safetensors file: eight bytes with the length of a JSON header, the
header, the tensors' bytes one after another.  Beyond that

- the header's ``__metadata__`` has ``format`` (``retrim``), ``version``,
  ``manifest`` (JSON, see `retrim.artifact.manifest`) and ``manifest_sha256``;
- the header is padded so that the data starts at a multiple of 64 bytes; packs
  come first and are multiples of 64 themselves, so that a mapped file is computed
  on in place; other tensors follow, those of wider types first, so that each is
  aligned to its type;
- every tensor has its SHA-256 in the manifest, and the manifest has its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from retrim.artifact.layout import ALIGNMENT, ListView, parse
from retrim.artifact.manifest import VERSION, LevelEntry, Manifest, TensorEntry, WeightEntry
from retrim.artifact.model import (
    DTYPES,
    Artifact,
    Level,
    Pack,
    PackedWeight,
    Tensor,
    check_levels,
    check_names,
    check_tensor,
    check_weight,
    digest,
    raw,
)
from retrim.errors import ArtifactError, ConfigError
from retrim.files import replacing

_FORMAT = "retrim"
_TOKENIZER = "tokenizer.json"
_MOST_HEADER = 100_000_000  # as in safetensors itself
_MOST_DIMENSIONS = 32
_MOST_DIGITS = 9  # of a version


def save(path: str | os.PathLike[str], artifact: Artifact) -> int:
    """Write `artifact` beside `path`, then rename: a killed process leaves the old file or the new one.

    Returns
    -------
    int
        Size of the file in bytes.

    Raises
    ------
    ArtifactError
        If a part does not fit the others, or the file cannot be written.
    """
    target = Path(path)
    check_names(artifact)
    for name, weight in artifact.weights.items():
        check_weight(name, weight)
    for name, tensor in artifact.tensors.items():
        check_tensor(name, tensor)
    check_levels(artifact)
    manifest, stored = _manifest_of(artifact)
    head = _header(manifest, stored)
    with replacing(target, "artifact", ArtifactError) as beside, beside.open("wb") as file:
        file.write(head)
        for tensor in stored.values():
            file.write(raw(tensor.data))
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _manifest_of(artifact: Artifact) -> tuple[Manifest, dict[str, Tensor]]:
    """The manifest, and the tensors in the order in which they are stored."""
    packs: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    weights = {}
    for name, weight in artifact.weights.items():
        entries = []
        for pack in weight.packs:
            own = f"{name}.{pack.precision}.r{pack.rows}"
            packs[own] = Tensor.of(pack.data)
            entries.append({"tensor": own, "precision": pack.precision, "rows": pack.rows})
        support = None
        if weight.support is not None:
            support = f"{name}.support"
            rest[support] = Tensor.of(np.packbits(weight.support.reshape(-1)))
        levels = None
        if weight.levels is not None:
            levels = f"{name}.levels"
            rest[levels] = Tensor.of(np.packbits(weight.levels.reshape(-1)))
        weights[name] = _weight_entry(name, weight, entries, support, levels)
    if artifact.tokenizer is not None:
        rest[_TOKENIZER] = Tensor.of(np.frombuffer(artifact.tokenizer.encode(), np.uint8))
    for name in ("__metadata__", *packs, *rest):
        if name in artifact.tensors:
            raise ArtifactError(
                f"a tensor must not be named {name!r}, as the file names a part of its own: rename it"
            )
    rest |= artifact.tensors
    widest = sorted(rest, key=lambda name: (-DTYPES[rest[name].dtype].itemsize, name))
    stored = packs | {name: rest[name] for name in widest}
    manifest = Manifest(
        architecture=artifact.architecture,
        config=_plain("config", artifact.config),
        tensors={
            name: TensorEntry(dtype=t.dtype, shape=tuple(t.data.shape), sha256=digest(t.data))
            for name, t in stored.items()
        },
        aliases=dict(artifact.aliases),
        weights=weights,
        levels={
            name: LevelEntry(segments=level.segments, facts=_plain(f"facts of level {name!r}", level.facts))
            for name, level in artifact.levels.items()
        },
        tokenizer=None if artifact.tokenizer is None else _TOKENIZER,
        metrics=_plain("metrics", artifact.metrics),
        provenance=_plain("provenance", artifact.provenance),
    )
    return manifest, stored


def _weight_entry(
    name: str, weight: PackedWeight, packs: list[dict[str, Any]], support: str | None, levels: str | None
) -> WeightEntry:
    try:
        return WeightEntry.model_validate(
            {
                "shape": weight.shape,
                "kind": weight.kind,
                "structure": _plain(f"{name}: the structure", weight.structure),
                "density": weight.density,
                "packs": packs,
                "support": support,
                "levels": levels,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError(
            f"{name}: {where} of a packed weight must be otherwise than {first['input']!r}: {first['msg']}"
        ) from None


def _plain(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """`value` as it comes back from the file."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{name} of an artifact must be plain numbers, strings, lists and tables: {error}"
        ) from None
    return plain


def _header(manifest: Manifest, stored: Mapping[str, Tensor]) -> bytes:
    text = manifest.model_dump_json()
    header: dict[str, Any] = {
        "__metadata__": {
            "format": _FORMAT,
            "version": str(VERSION),
            "manifest": text,
            "manifest_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    }
    at = 0
    for name, tensor in stored.items():
        end = at + tensor.data.nbytes
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.data.shape),
            "data_offsets": [at, end],
        }
        at = end
    encoded = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    encoded += b" " * (-(8 + len(encoded)) % ALIGNMENT)
    return len(encoded).to_bytes(8, "little") + encoded


def load(path: str | os.PathLike[str], *, verify: Literal["full", "header"] = "full") -> Artifact:
    """Map an artifact's file and check it before anything of it is used.

    Parameters
    ----------
    verify : {"full", "header"}
        "full" reads every byte against its checksum.  "header" trusts the
        tensors' bytes (the packs' structure is checked all the same, so that no
        file can make a kernel read out of bounds).

    Returns
    -------
    Artifact
        Its arrays are read-only views of the mapped file.

    Raises
    ------
    ArtifactError
        If the file is missing, truncated, damaged, foreign or newer.
    ConfigError
        If `verify` is something else.
    """
    if verify not in ("full", "header"):
        raise ConfigError(f"verify must be 'full' or 'header', not {verify!r}")
    name = repr(os.fspath(path))
    data = _mapped(Path(path), name)
    header, body = _read_header(data, name)
    manifest = _read_manifest(header, name)
    arrays = _arrays(header, body, manifest, name)
    if verify == "full":
        for key, array in arrays.items():
            if digest(array) != manifest.tensors[key].sha256:
                raise ArtifactError(
                    f"tensor {key!r} of artifact {name} does not match its checksum: the file is damaged; "
                    "copy it anew or pack it again"
                )
    return _artifact(manifest, arrays, name)


def _mapped(path: Path, name: str) -> np.ndarray:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < 8:
                raise ArtifactError(
                    f"artifact {name} must be a safetensors file, but is too short to be one: the file is damaged"
                )
            return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    except OSError as error:
        raise ArtifactError(
            f"artifact {name} must be a file that can be read: {error.strerror or error}"
        ) from error


def _read_header(data: np.ndarray, name: str) -> tuple[dict[str, Any], np.ndarray]:
    length = int.from_bytes(data[:8].tobytes(), "little")
    foreign = f"artifact {name} must be a safetensors file, but its header is none: it is damaged or of another kind"
    if length > _MOST_HEADER or data[8:9].tobytes() not in (b"{", b""):
        raise ArtifactError(foreign)
    if 8 + length > len(data):
        raise ArtifactError(f"artifact {name} ends within its header: the file is damaged; copy it anew")
    try:
        header = json.loads(data[8 : 8 + length].tobytes(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ArtifactError(foreign) from None
    if not isinstance(header, dict):
        raise ArtifactError(foreign)
    return header, data[8 + length :]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys must differ: of two that are alike, readers would take this or that."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _read_manifest(header: dict[str, Any], name: str) -> Manifest:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise ArtifactError(
            f"artifact {name} must be written by retrim, but is another safetensors file: make one with "
            "`retrim pack`"
        )
    version, text = str(metadata.get("version")), str(metadata.get("manifest"))
    if version.isdecimal() and len(version) <= _MOST_DIGITS and int(version) > VERSION:
        raise ArtifactError(
            f"artifact {name} must be of format {VERSION} at most, not {version}: upgrade retrim"
        )
    damaged = f"the manifest of artifact {name} is damaged: copy the file anew or pack it again"
    try:
        if hashlib.sha256(text.encode()).hexdigest() != metadata.get("manifest_sha256"):
            raise ArtifactError(damaged)
        json.loads(text, object_pairs_hook=_once)
        manifest = Manifest.model_validate_json(text, strict=True)
    except (ValidationError, ValueError, RecursionError) as error:
        raise ArtifactError(damaged) from error
    if version != str(manifest.version):
        raise ArtifactError(damaged)
    return manifest


def _arrays(header: dict[str, Any], body: np.ndarray, manifest: Manifest, name: str) -> dict[str, np.ndarray]:
    """Views of all tensors, in the file's order."""
    arrays: dict[str, np.ndarray] = {}
    at = 0
    damaged = (
        f"the header of artifact {name} does not describe its tensors: the file is damaged; copy it anew"
    )
    if set(header) - {"__metadata__"} != set(manifest.tensors):
        raise ArtifactError(damaged)
    for key, entry in manifest.tensors.items():
        dtype = DTYPES.get(entry.dtype)
        if dtype is None or len(entry.shape) > _MOST_DIMENSIONS or not _sane(entry.shape):
            raise ArtifactError(damaged)
        end = at + math.prod(entry.shape) * dtype.itemsize
        said = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [at, end]}
        if header[key] != said:
            raise ArtifactError(damaged)
        if end > len(body):
            raise ArtifactError(
                f"artifact {name} ends within its tensors, {end - len(body)} bytes short of {key!r}: the file is "
                "damaged; copy it anew"
            )
        arrays[key] = body[at:end].view(dtype).reshape(entry.shape)
        at = end
    if at != len(body):
        raise ArtifactError(
            f"artifact {name} must end after its tensors, not {len(body) - at} bytes later: the file is damaged; "
            "copy it anew"
        )
    return arrays


def _sane(shape: tuple[int, ...]) -> bool:
    return all(0 <= extent < 1 << 63 for extent in shape) and math.prod(e for e in shape if e) < 1 << 63


def _artifact(manifest: Manifest, arrays: dict[str, np.ndarray], name: str) -> Artifact:
    """Put the pieces together, each checked; what no piece uses is a tensor of the model."""
    rest = dict(arrays)
    weights = {}
    for key, entry in manifest.weights.items():
        try:
            packs = tuple(Pack(p.precision, p.rows, rest.pop(p.tensor)) for p in entry.packs)
            bits = None if entry.support is None else rest.pop(entry.support)
            masks = None if entry.levels is None else rest.pop(entry.levels)
        except KeyError as error:
            raise _misses(name, key, error) from None
        weight = PackedWeight(entry.shape, entry.kind, entry.structure, entry.density, packs)
        try:
            if bits is not None:
                weight = replace(weight, support=_bits(bits, packs[0].data))
            if masks is not None:
                weight = replace(weight, levels=_masks(masks, packs[0].data, len(manifest.levels)))
            check_weight(key, weight)
        except ArtifactError as error:
            raise ArtifactError(f"artifact {name}: {error}") from None
        weights[key] = weight
    tokenizer = None
    if manifest.tokenizer is not None:
        try:
            tokenizer = rest.pop(manifest.tokenizer).tobytes().decode()
        except (KeyError, UnicodeDecodeError) as error:
            raise _misses(name, "the tokenizer", error) from None
    tensors = {key: Tensor(manifest.tensors[key].dtype, array) for key, array in rest.items()}
    artifact = Artifact(
        architecture=manifest.architecture,
        config=manifest.config,
        tensors=tensors,
        weights=weights,
        aliases=manifest.aliases,
        levels={key: Level(entry.segments, entry.facts) for key, entry in manifest.levels.items()},
        tokenizer=tokenizer,
        metrics=manifest.metrics,
        provenance=manifest.provenance,
    )
    try:
        check_names(artifact)
        check_levels(artifact)
    except ArtifactError as error:
        raise ArtifactError(f"artifact {name}: {error}") from None
    return artifact


def _bits(bits: np.ndarray, pack: np.ndarray) -> np.ndarray:
    view = parse(pack)
    count = view.outputs * view.inputs
    if bits.dtype != np.uint8 or bits.shape != (-(-count // 8),):
        raise ArtifactError("a support must have one bit for each weight: the file is damaged")
    return np.unpackbits(bits, count=count).astype(bool).reshape(view.outputs, view.inputs)


def _masks(bits: np.ndarray, pack: np.ndarray, levels: int) -> np.ndarray:
    view = parse(pack)
    if not isinstance(view, ListView):
        raise ArtifactError("levels must be of a pack of row groups: the file is damaged")
    shape = (levels, view.packed_rows // view.height, view.inputs)
    if bits.dtype != np.uint8 or bits.shape != (-(-math.prod(shape) // 8),):
        raise ArtifactError("levels must have one bit for each column of each list: the file is damaged")
    return np.unpackbits(bits, count=math.prod(shape)).astype(bool).reshape(shape)


def _misses(name: str, key: str, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"artifact {name} misses a part of {key!r} ({error}): the file is damaged; copy it anew or pack it again"
    )
