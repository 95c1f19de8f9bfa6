"""``retrim.json``: what of a checkpoint in Hugging Face's own format was pruned, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrim import __version__
from retrim.errors import ArtifactError, ConfigError
from retrim.files import replacing
from retrim.prune import Pruner

FILE = "retrim.json"
VERSION = 1


class PrunedWeight(BaseModel):
    """One weight: its shape as stored, structure, density as asked for and as reached, other names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: tuple[int, ...]
    kind: Literal["linear", "conv1d", "conv2d"]
    structure: dict[str, Any]
    density: float | tuple[float, ...]
    reached: float = Field(gt=0, le=1)
    aliases: tuple[str, ...] = ()


class PrunedManifest(BaseModel):
    """All of them, by name, with the model's class and the version of retrim that pruned it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["retrim.pruned"] = "retrim.pruned"
    version: Literal[1] = 1
    retrim: str = __version__
    architecture: str
    weights: dict[str, PrunedWeight] = Field(min_length=1)


def manifest_of(pruner: Pruner, architecture: str) -> PrunedManifest:
    """The manifest of a hardened pruner.

    Raises
    ------
    ConfigError
        If it was not hardened.
    """
    if not pruner.hardened:
        raise ConfigError("a model must be hardened before it is saved as pruned: call pruner.harden()")
    return PrunedManifest(
        architecture=architecture,
        weights={
            target.name: PrunedWeight(
                shape=tuple(target.parameter.shape),
                kind=target.kind,
                structure=target.structure.to_dict(),
                density=target.density,
                reached=target.reached,
                aliases=target.aliases,
            )
            for target in pruner.targets
        },
    )


def write_manifest(folder: Path, manifest: PrunedManifest) -> None:
    """Write ``retrim.json`` into `folder`, whole or not at all."""
    with replacing(folder / FILE, "manifest", ArtifactError) as beside:
        beside.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> PrunedManifest:
    """Read ``retrim.json`` of `folder`.

    Raises
    ------
    ArtifactError
        If it is missing, damaged or newer.
    """
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"a pruned checkpoint must have a manifest, but {str(path)!r} cannot be read: save it with "
            "retrim.torch.huggingface.save_pruned"
        ) from error
    try:
        return PrunedManifest.model_validate_json(text)
    except ValidationError as error:
        at_version = any(part["loc"] == ("version",) for part in error.errors())
        wrong = "is of another version: upgrade retrim" if at_version else "is damaged: save the model again"
        raise ArtifactError(
            f"the manifest {str(path)!r} must be of version {VERSION} as save_pruned writes it, but {wrong}"
        ) from error
