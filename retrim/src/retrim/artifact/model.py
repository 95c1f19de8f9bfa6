"""What an artifact holds: everything that running a compressed model needs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retrim.artifact.layout import PRECISIONS, AnyView, ListView, PackView, parse, unpack
from retrim.artifact.list_sections import cell_of_lanes
from retrim.artifact.lists import unpack as unpack_lists
from retrim.artifact.sections import lane_width
from retrim.errors import ArtifactError

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: its bits
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""Types of tensors as safetensors names them, and the NumPy types of their bytes."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A dense tensor of the model.

    Parameters
    ----------
    dtype : str
        One of `DTYPES`.
    data : ndarray
        Of that type and of the tensor's shape.
    """

    dtype: str
    data: np.ndarray

    @classmethod
    def of(cls, data: np.ndarray) -> Tensor:
        """Wrap an array whose type says everything (all but bfloat16)."""
        for name, dtype in DTYPES.items():
            if name != "BF16" and dtype == data.dtype:
                return cls(name, data)
        known = ", ".join(str(dtype) for name, dtype in DTYPES.items() if name != "BF16")
        raise ArtifactError(f"a tensor's type must be one of {known}, not {data.dtype}")


@dataclass(frozen=True, eq=False)
class Pack:
    """A weight in one kernel layout (see `retrim.artifact.layout`).

    Parameters
    ----------
    precision : {"fp32", "bf16", "int8"}
    rows : int
        Rows of a block, or of a row group.
    data : ndarray of uint8, shape (n,)
        n a multiple of 64.
    """

    precision: str
    rows: int
    data: np.ndarray


@dataclass(frozen=True, eq=False)
class Level:
    """One of the levels that a model may run on; weights say what each keeps of them.

    Parameters
    ----------
    segments : int, optional
        Where levels are nested: how many segments of each list it takes.
    facts : dict
        Of the level, ready for JSON: clock, density, accuracy.
    """

    segments: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """A structured weight.

    Parameters
    ----------
    shape : tuple of int
        As the model stores it.
    kind : {"linear", "conv1d", "conv2d"}
        How its (out, in) matrix is read off it (see `retrim.structures.view`).
    structure : dict
        As `Structure.to_dict` writes it.
    density : float
        Dimension of its support over its size.
    packs : tuple of Pack
        One for each precision; the first is the one that runs where none is asked for.
    support : ndarray of bool, shape (out, in), optional
        The entries that may move in retraining, where these are not just those
        that the pack stores.
    levels : ndarray of bool, shape (levels, lists, in), optional
        Of a pack of row groups, the columns of each list that each of the artifact's levels keeps, where levels
        are not nested.
    """

    shape: tuple[int, ...]
    kind: str
    structure: Mapping[str, Any]
    density: float
    packs: tuple[Pack, ...]
    support: np.ndarray | None = None
    levels: np.ndarray | None = None

    def pack(self, precision: str = "fp32") -> Pack:
        """The pack of one precision.

        Raises
        ------
        ArtifactError
            If there is none.
        """
        for pack in self.packs:
            if pack.precision == precision:
                return pack
        have = ", ".join(pack.precision for pack in self.packs)
        raise ArtifactError(
            f"precision must be one that the weight was packed in ({have}), not {precision!r}"
        )

    def matrix(self) -> np.ndarray:
        """The dense (out, in) matrix of the most precise pack, float32."""
        return unpack(self._most_precise.data)[0]

    def mask(self) -> np.ndarray:
        """What may move in retraining, bool (out, in)."""
        return unpack(self._most_precise.data)[1] if self.support is None else self.support

    def level_mask(self, place: int, level: Level) -> np.ndarray:
        """What one of the artifact's levels keeps, bool (out, in).

        Parameters
        ----------
        place : int
            Of the level among all.
        """
        view = parse(self._most_precise.data)
        if not isinstance(view, ListView):
            return self.mask()
        if self.levels is None:
            return unpack_lists(view, level.segments if view.segments > 1 else None)[1]
        full: np.ndarray = np.repeat(self.levels[place], view.height, axis=0)
        return full[: view.outputs]

    @property
    def _most_precise(self) -> Pack:
        return min(self.packs, key=lambda pack: PRECISIONS.index(pack.precision))

    @property
    def nbytes(self) -> int:
        """Bytes of all packs."""
        return sum(pack.data.nbytes for pack in self.packs)


@dataclass(frozen=True, eq=False, kw_only=True)
class Artifact:
    """A compressed model: the only link between training and everything that runs.

    Parameters
    ----------
    architecture : str
        What builds the model, such as ``retrim.zoo.TransformerLM``.
    config : dict
        What it is built from, ready for JSON.
    tensors : dict of str to Tensor
        Everything that is not packed, by state-dict name; a tied tensor once.
    aliases : dict of str to str
        Other names of tied tensors and weights.
    weights : dict of str to PackedWeight
    levels : dict of str to Level
        In their order, the densest first; empty where the model has one shape.  A weight that says nothing of them
        is the same on all.
    tokenizer : str, optional
        The `tokenizers` library's JSON.
    metrics, provenance : dict
        Ready for JSON.
    """

    architecture: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    weights: Mapping[str, PackedWeight]
    aliases: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, Level] = field(default_factory=dict)
    tokenizer: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Numbers that the model is made of: dense ones, and those that structures kept."""
        dense = sum(int(tensor.data.size) for tensor in self.tensors.values())
        return dense + sum(kept(weight) for weight in self.weights.values())

    @property
    def density(self) -> float:
        """Kept over all, of the structured weights together (1 where there are none)."""
        total = sum(math.prod(weight.shape) for weight in self.weights.values())
        return sum(kept(weight) for weight in self.weights.values()) / total if total else 1.0

    def layers(self) -> list[dict[str, Any]]:
        """Name, shape, structure, density and bytes of every packed weight, ready for JSON."""
        return [
            {
                "name": name,
                "shape": list(weight.shape),
                "structure": dict(weight.structure),
                "density": weight.density,
                "bytes": weight.nbytes,
            }
            for name, weight in self.weights.items()
        ]


def kept(weight: PackedWeight) -> int:
    """Numbers that a structured weight is made of."""
    return round(weight.density * math.prod(weight.shape))


def raw(data: np.ndarray) -> memoryview:
    """The bytes of an array, in C order."""
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8).data


def digest(data: np.ndarray) -> str:
    """SHA-256 over the bytes of an array."""
    return hashlib.sha256(raw(data)).hexdigest()


def check_weight(name: str, weight: PackedWeight) -> None:
    """Refuse a weight whose packs are damaged or do not belong to its shape.

    Raises
    ------
    ArtifactError
    """
    if not isinstance(weight.structure.get("type"), str):
        raise ArtifactError(f"{name}: a structure must have a type, not be {dict(weight.structure)}")
    if len(weight.shape) != (4 if weight.kind == "conv2d" else 2):
        raise ArtifactError(
            f"{name}: a {weight.kind} weight must not have shape {weight.shape}: the file is damaged"
        )
    precisions = [pack.precision for pack in weight.packs]
    if len(set(precisions)) != len(precisions) or not precisions:
        raise ArtifactError(f"{name}: a weight must have one pack of each precision, not {precisions}")
    for pack in weight.packs:
        try:
            view = parse(pack.data)
        except ArtifactError as error:
            raise ArtifactError(f"{name}: {error}") from None
        if not _fits(view, weight) or view.height != pack.rows:
            raise ArtifactError(
                f"{name}: a pack must be of the weight's shape {weight.shape} in blocks of {pack.rows} rows, "
                f"not {view.outputs} x {view.inputs} in blocks of {view.height}: the file is damaged"
            )
        if view.precision != pack.precision:
            raise ArtifactError(
                f"{name}: a pack of precision {pack.precision} must not hold {view.precision}: the file is damaged"
            )
        group = _group(weight.structure) if isinstance(view, PackView) else None
        if group is not None and view.group != group:
            raise ArtifactError(
                f"{name}: a pack must keep columns in the structure's groups of {group!r}, not of {view.group}: "
                "the file is damaged"
            )
        if weight.support is not None and weight.support.shape != (view.outputs, view.inputs):
            raise ArtifactError(f"{name}: a support must be of the pack's shape: the file is damaged")


def check_levels(artifact: Artifact) -> None:
    """Refuse levels that weights do not have, and weights whose levels keep what is not there.

    Raises
    ------
    ArtifactError
    """
    nested = {name for name, level in artifact.levels.items() if level.segments is not None}
    if nested and nested != artifact.levels.keys():
        raise ArtifactError(f"levels must be nested all or none, not {', '.join(sorted(nested))} alone")
    for name, weight in artifact.weights.items():
        views = [parse(pack.data) for pack in weight.packs]
        segments = [view.segments if isinstance(view, ListView) else 1 for view in views]
        for key, level in artifact.levels.items():
            if level.segments is not None and max(segments) > 1 and not 1 <= level.segments <= min(segments):
                raise ArtifactError(
                    f"{name}: a pack must have the {level.segments} segments of level {key!r}, not {min(segments)}: the "
                    "file is damaged"
                )
        if weight.levels is None:
            continue
        if nested:
            raise ArtifactError(
                f"{name}: nested levels must not have masks of their own: the file is damaged"
            )
        for view in views:
            if not isinstance(view, ListView) or view.segments > 1:
                raise ArtifactError(f"{name}: levels must be of a pack of row groups with one segment")
            shape = (len(artifact.levels), view.packed_rows // view.height, view.inputs)
            if weight.levels.shape != shape or weight.levels.dtype != np.bool_:
                raise ArtifactError(
                    f"{name}: masks of levels must be of shape {shape}, not {weight.levels.shape}: the file is damaged"
                )
            stored = np.zeros(shape[1:], bool)
            stored[cell_of_lanes(view.ends).repeat(lane_width(view.precision)), view.columns] = True
            if np.any(weight.levels & ~stored):
                raise ArtifactError(
                    f"{name}: levels must keep only what the pack stores: the file is damaged"
                )


def _group(structure: Mapping[str, Any]) -> Any:
    """The group that a structure keeps columns in, where it says so; of composed ones the outer."""
    while isinstance(outer := structure.get("outer"), Mapping):
        structure = outer
    return structure.get("group")


def _fits(view: AnyView, weight: PackedWeight) -> bool:
    """Whether a pack holds a matrix of a weight of this shape and kind."""
    matrix = (view.outputs, view.inputs)
    if weight.kind == "conv2d":  # structures view convolutions each in their way
        return math.prod(matrix) == math.prod(weight.shape)
    return matrix == (weight.shape if weight.kind == "linear" else weight.shape[::-1])


def check_tensor(name: str, tensor: Tensor) -> None:
    """Refuse a tensor whose array is not of the type that it says.

    Raises
    ------
    ArtifactError
    """
    if tensor.dtype not in DTYPES:
        raise ArtifactError(
            f"{name}: a tensor's type must be one of {', '.join(DTYPES)}, not {tensor.dtype!r}"
        )
    if tensor.data.dtype != DTYPES[tensor.dtype]:
        raise ArtifactError(
            f"{name}: a tensor of type {tensor.dtype} must be an array of {DTYPES[tensor.dtype]}, "
            f"not of {tensor.data.dtype}"
        )


def check_names(artifact: Artifact) -> None:
    """Refuse names that mean two things, and aliases of nothing.

    Raises
    ------
    ArtifactError
    """
    for name in artifact.weights:
        if name in artifact.tensors:
            raise ArtifactError(f"{name!r} must be a tensor or a packed weight, not both")
    for alias, name in artifact.aliases.items():
        if alias in artifact.tensors or alias in artifact.weights:
            raise ArtifactError(
                f"{alias!r} must be an alias of {name!r} or have numbers of its own, not both"
            )
        if name not in artifact.tensors and name not in artifact.weights:
            raise ArtifactError(f"{alias!r} must be an alias of a tensor or weight, but there is no {name!r}")
