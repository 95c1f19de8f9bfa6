"""Models by the name that artifacts store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from retrim.artifact import Artifact
from retrim.errors import ArtifactError, ConfigError, MissingExtraError, RetrimError
from retrim.torch import dense_state, pack_
from retrim.torch.levels import load_levels_
from retrim.zoo.lm import TransformerLM, build

_BUILDERS = {TransformerLM.architecture: build}


def make(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """An untrained model of a named architecture: the zoo's, or one of transformers' with its configuration.

    Raises
    ------
    ArtifactError
        If the architecture is unknown or does not take the configuration.
    MissingExtraError
        If it is transformers', which is not there.
    """
    if "model_type" in config:
        return _of_transformers(architecture, config)
    if architecture not in _BUILDERS:
        raise ArtifactError(
            f"architecture must be one of {', '.join(_BUILDERS)}, not {architecture!r}: build the model "
            "yourself and use retrim.torch.pack_"
        )
    try:
        return _BUILDERS[architecture](dict(config))
    except (TypeError, RetrimError) as error:
        raise ArtifactError(f"{architecture} must be built from what the artifact says: {error}") from error


def _of_transformers(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    try:
        import transformers
    except ModuleNotFoundError:
        raise MissingExtraError(f"{architecture} needs transformers: pip install 'retrim[hf]'") from None
    built: Any = getattr(transformers, architecture, None)
    if not (isinstance(built, type) and issubclass(built, transformers.PreTrainedModel)):
        raise ArtifactError(
            f"architecture must be one that transformers {transformers.__version__} has, not {architecture!r}"
        )
    described: Any = built.config_class
    try:
        model: nn.Module = built(described.from_dict(dict(config)))
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{architecture} must be built from what the artifact says: {error}") from error
    return model


def load_dense(artifact: Artifact, level: str | None = None) -> nn.Module:
    """The artifact's model with dense weights, zeros in place; of one level, where it has levels, or the first."""
    model = make(artifact.architecture, artifact.config)
    model.load_state_dict(dense_state(artifact, level))
    return model.eval()


def load_packed(artifact: Artifact, precision: str | None = None, level: str | None = None) -> nn.Module:
    """The artifact's model, packed; in one precision, or each weight in that of its first pack.

    Where it has levels, ``model.levels.switch`` chooses one (`retrim.torch.levels.load_levels_`).
    """
    model = make(artifact.architecture, artifact.config)
    if artifact.levels:
        return load_levels_(model, artifact, precision=precision, level=level)
    if level is not None:
        raise ConfigError(
            f"the artifact must have levels for one to be chosen, but it has none: leave out {level!r}"
        )
    return pack_(model, artifact, precision=precision)
