"""The manifest: what an artifact's file says about its tensors, as JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1
"""Version of the format.  A file of a newer one is refused."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorEntry(_Entry):
    """One tensor of the file, of whatever use."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class PackEntry(_Entry):
    """One pack of a weight."""

    tensor: str
    precision: Literal["fp32", "bf16", "int8"]
    rows: int = Field(ge=1)


class WeightEntry(_Entry):
    """One structured weight."""

    shape: tuple[int, ...]
    kind: Literal["linear", "conv1d", "conv2d"]
    structure: dict[str, Any]
    density: float = Field(gt=0, le=1)
    packs: tuple[PackEntry, ...] = Field(min_length=1)
    support: str | None = None
    """Tensor that holds the support as bits (``numpy.packbits``), where the packs do not tell."""
    levels: str | None = None
    """Tensor that holds, as bits, what each level keeps: (levels, lists, in)."""


class LevelEntry(_Entry):
    """One of the levels that the model may run on."""

    segments: int | None = Field(default=None, ge=1)
    """Where levels are nested: how many segments of each list."""
    facts: dict[str, Any]


class Manifest(_Entry):
    """Everything but the numbers."""

    version: Literal[1] = 1
    architecture: str
    config: dict[str, Any]
    tensors: dict[str, TensorEntry]
    aliases: dict[str, str]
    weights: dict[str, WeightEntry]
    levels: dict[str, LevelEntry] = Field(default_factory=dict)
    tokenizer: str | None
    """Tensor that holds the tokenizer's JSON."""
    metrics: dict[str, Any]
    provenance: dict[str, Any]
