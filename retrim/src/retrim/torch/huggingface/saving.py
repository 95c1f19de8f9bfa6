"""Pruned checkpoints on disk: in Hugging Face's own format, and packed.

A pruned checkpoint is what `save_pretrained` writes, zeros in place, so that it loads
anywhere; ``retrim.json`` beside it says what was pruned.  A packed one has an
artifact (`retrim.artifact.file`) as its ``model.safetensors`` and says in its
``config.json`` who can read that.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.modeling_utils import PreTrainedModel

from retrim import __version__
from retrim.artifact import Artifact, save
from retrim.errors import ArtifactError, ConfigError, RetrimError
from retrim.files import replacing
from retrim.prune import Magnitude, Plan, Pruner, Rule, Target
from retrim.structures import from_dict
from retrim.torch.huggingface.manifest import FILE, PrunedManifest, manifest_of, read_manifest, write_manifest
from retrim.torch.huggingface.quantizer import WEIGHTS_FILE, RetrimConfig
from retrim.torch.packing import owner_of, pack

_CONFIG = "config.json"
_ALONGSIDE = {".jinja", ".json", ".md", ".model", ".txt"}
_NOT_ALONGSIDE = {
    _CONFIG,
    FILE,
    "trainer_state.json",
    "all_results.json",
    "train_results.json",
    "eval_results.json",
}


def save_pruned(model: nn.Module, pruner: Pruner, folder: str | os.PathLike[str]) -> None:
    """Save a hardened model so that transformers loads it without retrim, and say what was pruned.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        As the pruner was prepared on, not a wrapped one.
    folder : path
        Made if need be; `pack_pretrained` takes it.

    Raises
    ------
    ConfigError
        If the pruner was not hardened, or holds another model's weights, or it is no model of transformers.
    ArtifactError
        If a weight has left its structure since, or the folder cannot be written to.
    """
    if not isinstance(model, PreTrainedModel):
        raise ConfigError(
            f"the model must be one of transformers, not {type(model).__name__}: pack it with retrim.pack instead"
        )
    manifest = manifest_of(pruner, type(model).__name__)
    here = dict(model.named_parameters(remove_duplicate=False))
    for target in pruner.targets:
        if here.get(target.name) is not target.parameter:
            raise ConfigError(
                f"the model must be the one that the pruner was prepared on, but {target.name!r} is not its weight: "
                "save that model, not a copy"
            )
    for target in pruner.targets:
        _check_feasible(target, "call pruner.step() after every optimiser step, or harden again")
    target_folder = _made(folder)
    (target_folder / FILE).unlink(missing_ok=True)  # it never describes weights that are not there
    model.save_pretrained(target_folder)
    write_manifest(target_folder, manifest)


def pack_pretrained(
    folder_in: str | os.PathLike[str],
    folder_out: str | os.PathLike[str],
    *,
    precisions: Sequence[str] = ("fp32",),
) -> Path:
    """Pack a checkpoint that `save_pruned` wrote.

    After ``import retrim.torch``, ``AutoModelFor….from_pretrained(folder_out)`` gives a model
    that runs packed.  Tokenizer and other small files come along.

    Parameters
    ----------
    precisions : sequence of {"fp32", "bf16", "int8"}
        Every weight is packed once in each; the first runs.

    Returns
    -------
    Path
        `folder_out`.

    Raises
    ------
    ConfigError
        If the two folders are one, a precision is unknown, or a weight is not that of a linear layer.
    ArtifactError
        If the manifest is missing, damaged or another model's; if weights are missing, of
        another shape or not pruned; if `folder_out` cannot be written to.
    """
    artifact = packed_artifact(folder_in, folder_out, precisions)
    return write_packed(folder_in, folder_out, artifact)


def packed_artifact(
    folder_in: str | os.PathLike[str], folder_out: str | os.PathLike[str], precisions: Sequence[str]
) -> Artifact:
    """What `pack_pretrained` would write as the weights' file; nothing is written."""
    source, goal = Path(folder_in), Path(folder_out)
    if source.resolve() == goal.resolve():
        raise ConfigError(
            f"a checkpoint must be packed into a folder of its own, not into {str(source)!r} itself: "
            "name another folder_out"
        )
    manifest = read_manifest(source)
    model = _loaded(source, manifest)
    pruner = _hardened(model, manifest, source)
    artifact = pack(
        model,
        pruner,
        architecture=manifest.architecture,
        config=json.loads(model.config.to_json_string()),
        tokenizer=_tokenizer(source),
        provenance={
            "retrim": __version__,
            "pruned_by": manifest.retrim,
            "transformers": transformers.__version__,
        },
        precisions=precisions,
    )
    for name, weight in artifact.weights.items():
        owner_of(model, name, weight.kind)  # what could not be loaded again is not written
    return artifact


def write_packed(
    folder_in: str | os.PathLike[str], folder_out: str | os.PathLike[str], artifact: Artifact
) -> Path:
    """Write a packed checkpoint's folder: the artifact, and of the pruned checkpoint what is no weight."""
    goal = _made(folder_out)
    _write(goal, Path(folder_in), artifact)
    return goal


def _loaded(folder: Path, manifest: PrunedManifest) -> PreTrainedModel:
    """The checkpoint's model, every tensor of it read."""
    config = transformers.AutoConfig.from_pretrained(folder)
    if getattr(config, "quantization_config", None) is not None:
        raise ArtifactError(
            f"the checkpoint {str(folder)!r} must be dense to be packed, but is quantized or packed already: "
            "give the folder that save_pruned wrote"
        )
    named = (config.architectures or ["none"])[0]
    if named != manifest.architecture:
        raise ArtifactError(
            f"the manifest of {str(folder)!r} must be of its model, {named}, not of {manifest.architecture}: "
            "save the model again with save_pruned"
        )
    kind = getattr(transformers, named, None)
    if kind is None:
        raise ArtifactError(
            f"the architecture must be one that transformers {transformers.__version__} has, not {named!r}: "
            "upgrade transformers, or pack the model with retrim.pack"
        )
    try:
        model, told = kind.from_pretrained(folder, output_loading_info=True)
    except Exception as error:
        raise ArtifactError(
            f"the weights of {str(folder)!r} must be as save_pruned wrote them, but cannot be loaded: "
            f"{_first_line(error)}"
        ) from error
    absent = sorted(told["missing_keys"]) or sorted(str(key) for key in told["mismatched_keys"])
    if absent:
        raise ArtifactError(
            f"the checkpoint {str(folder)!r} must have all weights of {named}, but {absent[0]!r} is missing or of "
            "another shape: save the model again, built as from_pretrained builds it"
        )
    found: PreTrainedModel = model
    return found


def _hardened(model: PreTrainedModel, manifest: PrunedManifest, folder: Path) -> Pruner:
    """A pruner that holds the model to the manifest, after checking that it has these forms already."""
    pruner = Magnitude()
    try:
        rules = [
            Rule(weights=glob.escape(name), structure=from_dict(weight.structure), density=weight.density)
            for name, weight in manifest.weights.items()
        ]
        pruner.prepare(model, Plan(rules))
    except RetrimError as error:
        raise ArtifactError(f"the manifest of {str(folder)!r} does not fit its model: {error}") from error
    for target in pruner.targets:
        _check_feasible(target, "pack a checkpoint that save_pruned wrote and nobody trained since")
    pruner.harden()
    return pruner


@torch.no_grad()
def _check_feasible(target: Target, remedy: str) -> None:
    """Refuse a weight that its structure would change."""
    matrix = target.matrix()
    projected, _ = target.structure.project(matrix, target.density)
    if not torch.equal(projected, matrix):
        raise ArtifactError(
            f"{target.name}: a weight must have its structure {target.structure} at density {target.reached:.3g}, "
            f"but does not: {remedy}"
        )


def _write(goal: Path, source: Path, artifact: Artifact) -> None:
    """The configuration last: without it nothing loads, whatever was written before."""
    (goal / _CONFIG).unlink(missing_ok=True)
    for path in sorted(source.iterdir()):
        if (
            path.suffix in _ALONGSIDE
            and path.name not in _NOT_ALONGSIDE
            and not path.name.endswith(".index.json")
        ):
            shutil.copyfile(path, goal / path.name)
    save(goal / WEIGHTS_FILE, artifact)
    config: dict[str, Any] = json.loads((source / _CONFIG).read_text(encoding="utf-8"))
    config["quantization_config"] = RetrimConfig().to_dict()
    config["dtype"] = _dtype_of(str(config.get("dtype")), artifact)
    with replacing(goal / _CONFIG, "configuration", ArtifactError) as beside:
        beside.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _dtype_of(given: str, artifact: Artifact) -> str:
    """What a packed model is loaded in where nothing is said: what the checkpoint had, if its packs take it."""
    running = {weight.packs[0].precision for weight in artifact.weights.values()}
    return "bfloat16" if given == "bfloat16" and "fp32" not in running else "float32"


def _tokenizer(folder: Path) -> str | None:
    path = folder / "tokenizer.json"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _made(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(
            f"the folder {str(path)!r} must be one that can be written to: {error.strerror or error}"
        ) from error
    return path


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
