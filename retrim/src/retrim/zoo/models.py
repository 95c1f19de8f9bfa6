"""Models by the name that artifacts store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from retrim.artifact import Artifact
from retrim.errors import ArtifactError, ConfigError, RetrimError
from retrim.torch import dense_state, pack_
from retrim.torch.levels import load_levels_
from retrim.zoo.lm import TransformerLM, build

_BUILDERS = {TransformerLM.architecture: build}


def make(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """An untrained model of a named architecture.

    Raises
    ------
    ArtifactError
        If the architecture is unknown or does not take the configuration.
    """
    if architecture not in _BUILDERS:
        raise ArtifactError(
            f"architecture must be one of {', '.join(_BUILDERS)}, not {architecture!r}: build the model "
            "yourself and use retrim.torch.pack_"
        )
    try:
        return _BUILDERS[architecture](dict(config))
    except (TypeError, RetrimError) as error:
        raise ArtifactError(f"{architecture} must be built from what the artifact says: {error}") from error


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
